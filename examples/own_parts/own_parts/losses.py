"""A loss: a function of logits (N, classes) and class numbers (N,) that gives the loss of each image, or their mean."""

from __future__ import annotations

from torch import Tensor

from sppcls.registry import register


@register("loss")
def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that cares less for what is certain (Lin et al. 2017).

    Args:
        gamma: how much less; 0 is the cross-entropy.
    """
    log_p = logits.log_softmax(1).gather(1, target[:, None])[:, 0]
    return -((1 - log_p.exp()) ** gamma) * log_p
