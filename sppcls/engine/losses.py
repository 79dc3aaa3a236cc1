"""From class scores and targets to the loss of every image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sppcls.config.parts import values_of
from sppcls.config.schema import Config
from sppcls.errors import ConfigError
from sppcls.registry import build

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(config: Config, num_classes: int, training: bool = True) -> Loss:
    """The loss of each image (N,), of logits (N, classes) and class numbers (N,) or, of mixed images, shares (N, classes).

    One's own may give the mean as one number, too. Label smoothing (``training``) is for our own alone.

    Raises:
        ConfigError: it cannot be made, or label smoothing is asked of one's own.
    """
    own = values_of(config.loss)
    smoothing = config.mix.label_smoothing if training else 0.0
    if own is None:
        return partial(F.cross_entropy, label_smoothing=smoothing, reduction="none")
    if smoothing:
        raise ConfigError(
            f"mix.label_smoothing={smoothing:g}: is for loss=cross_entropy; {own['name']} says itself what it smooths"
        )
    loss = build("loss", own, num_classes=num_classes)
    if isinstance(loss, nn.Module) and any(True for _ in loss.parameters()):
        raise ConfigError(
            f"loss: {own['name']} has parameters, which no optimizer would train; put them into the head"
        )
    return partial(_checked, loss, str(own["name"]))


def _checked(loss: Loss, name: str, logits: Tensor, target: Tensor) -> Tensor:
    if isinstance(loss, nn.Module):
        loss.to(logits.device)  # its buffers, such as weights of the classes
    losses = loss(logits, target)
    if not isinstance(losses, Tensor) or losses.shape not in ((), logits.shape[:1]):
        found = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise ConfigError(f"loss: {name} must give one number or one of each image, not {found}")
    return losses.expand(len(logits))
