"""From class scores and targets to the loss of every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sppcls.config.parts import values_of
from sppcls.config.schema import Config
from sppcls.data.balance import class_weights
from sppcls.errors import ConfigError
from sppcls.nn.losses import BinaryCrossEntropy
from sppcls.registry import TARGET, build, target_of

Loss = Callable[[Tensor, Tensor], Tensor]


def step_loss(outputs: Any, accumulated: int) -> Tensor | None:
    """The loss of a batch's images, of what Lightning hands to ``on_train_batch_end``; None if none could be read.

    Args:
        outputs: the share that the batch has in an update, alone or under ``loss``.
        accumulated: batches in an update.
    """
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return None if loss is None else loss * accumulated


def make_loss(
    config: Config,
    classes: Sequence[str],
    class_counts: Sequence[int],
    training: bool = True,
    images: int | None = None,
) -> Loss:
    """The loss of each image (N,), of logits (N, classes) and class numbers (N,) or, of mixed images, shares (N, classes).

    Of images with several labels, targets are (N, classes), and ``cross_entropy`` is that of each class,
    :class:`~sppcls.nn.losses.BinaryCrossEntropy`. One's own may give the mean as one number, too; as a module it is in evaluation mode in a validation. Label smoothing
    and the weights of classes are for our own alone, and for training.

    Args:
        config: of the run.
        classes, class_counts: names of the classes, and training images of each.
        training: whether to train by it; else it is for validation.
        images: number of training images, where they have several labels; None: they have one each.

    Raises:
        ConfigError: it cannot be made, is for the other kind of labels, or label smoothing is asked of one's own.
    """
    own = values_of(config.loss)
    smoothing = config.mix.label_smoothing if training else 0.0
    value = config.loss.class_weights if training else None
    if smoothing and images is not None:
        raise ConfigError(
            f"mix.label_smoothing={smoothing:g}: is for images with one label; these have several: mix.label_smoothing=0"
        )
    if own is None and images is not None:
        own = {"name": "bce", TARGET: target_of(BinaryCrossEntropy), "class_weights": value}
    if own is None:
        if value is None:
            return partial(F.cross_entropy, label_smoothing=smoothing, reduction="none")
        weights = class_weights("loss.class_weights", value, classes, class_counts)
        return partial(_weighted, torch.tensor(weights), smoothing)
    if smoothing:
        raise ConfigError(
            f"mix.label_smoothing={smoothing:g}: is for loss=cross_entropy; {own['name']} says itself what it smooths"
        )
    if own[TARGET] == target_of(BinaryCrossEntropy):
        given = value is not None
        own["class_weights"] = (
            class_weights("loss.class_weights", value, classes, class_counts, images) if given else None
        )
    loss = build("loss", own, num_classes=len(classes), class_counts=list(class_counts))
    wanted = getattr(loss, "multi_label", images is not None)
    if wanted != (images is not None):
        kind, other = ("several labels", "one each") if wanted else ("one label", "several")
        remedy = "loss=cross_entropy" if wanted else "loss=bce"
        raise ConfigError(f"loss={own['name']}: is for images with {kind}; these have {other}: {remedy}")
    if isinstance(loss, nn.Module) and any(True for _ in loss.parameters()):
        raise ConfigError(
            f"loss: {own['name']} has parameters, which no optimizer would train; put them into the head"
        )
    if isinstance(loss, nn.Module):
        loss.train(training)
    return partial(_checked, loss, str(own["name"]))


def _weighted(weights: Tensor, smoothing: float, logits: Tensor, target: Tensor) -> Tensor:
    # Not torch's mean, which divides by the weights in a batch: an image would count by its neighbours.
    return F.cross_entropy(
        logits.float(), target, weight=weights.to(logits.device), label_smoothing=smoothing, reduction="none"
    )


def _checked(loss: Loss, name: str, logits: Tensor, target: Tensor) -> Tensor:
    if isinstance(loss, nn.Module):
        loss.to(logits.device)  # its buffers, such as weights of the classes
    losses = loss(logits, target)
    if not isinstance(losses, Tensor) or losses.shape not in ((), logits.shape[:1]):
        found = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise ConfigError(f"loss: {name} must give one number or one of each image, not {found}")
    return losses.expand(len(logits))
