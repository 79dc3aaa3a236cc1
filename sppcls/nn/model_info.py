"""What the Python functions take as a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier


def model_info_of(net: object) -> dict[str, Any]:
    """What a checkpoint says of its network, as :func:`sppcls.load_classifier` gives it.

    Raises:
        ConfigError: something else than a network of sppcls, or one without a model_info.
    """
    if not isinstance(net, SPPClassifier):
        raise ConfigError(
            f"net: a {type(net).__name__}, a network of sppcls is needed; take it from sppcls.load_classifier(CHECKPOINT)"
        )
    model_info = getattr(net, "model_info", None)
    if not isinstance(model_info, dict):
        raise ConfigError(
            "net: has no model_info with classes, mean and std; take it from sppcls.load_classifier"
        )
    return model_info


def is_multi_label(model_info: Mapping[str, Any]) -> bool:
    """Whether an image may have several labels."""
    return bool(model_info.get("multi_label", False))


def ranked(scores: Tensor, most: int) -> Tensor:
    """Numbers of the classes with the highest scores, best first, (N, ``most``) or (N, classes) if there are fewer.

    Of equal scores the class of the lower number is first, however many are asked for and on every device: logits in
    bfloat16 are often equal, and ``torch.topk`` breaks ties in ways that depend on both.

    Args:
        scores: (N, classes).
        most: how many.
    """
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :most]


def probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    """Of each class, from logits (..., classes): softmax or, where an image may have several labels, the sigmoid of each."""
    return logits.sigmoid() if multi_label else logits.softmax(-1)
