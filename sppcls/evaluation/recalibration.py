"""Batch-norm statistics at the size that a network is tested at.

Running means and variances are those of the training sizes. At another size the maps look different, and statistics
taken at that size can make up for part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import nn

from sppcls.data import EvalTransform, Size, Source, prepare_batch
from sppcls.data.stream import load_each, readable
from sppcls.errors import ConfigError, DataError
from sppcls.nn import SPPClassifier

BatchNorm = nn.modules.batchnorm._BatchNorm


def recalibrate(
    net: SPPClassifier,
    source: Source,
    size: Size,
    *,
    model_info: Mapping[str, Any] | None = None,
    images: int = 512,
    batch_size: int = 32,
    workers: int = 0,
) -> int:
    """Replace all batch-norm statistics by those of training images at one size; weights stay as they are.

    Args:
        net: changed in place; in evaluation mode before and after.
        source: training images; never those that are tested on.
        size: (height, width); the images are cut as the ``center`` protocol cuts them.
        model_info: as for :func:`~sppcls.evaluation.evaluate_protocol`.
        images: how many are used at most, evenly spread over the source.
        batch_size: images whose statistics are taken together; the mean over batches is kept.

    Returns:
        The number of images used.

    Raises:
        ConfigError: the network has no batch norm, or cannot take the size.
        DataError: no image could be read.
    """
    norms = batch_norms(net)
    try:
        net.check_input_size(*size)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    model_info = net.model_info if model_info is None else model_info
    device = next(net.parameters()).device
    transform = EvalTransform(size)
    count = min(images, len(source))
    chosen = [i * len(source) // count for i in range(count)]
    used, waiting = 0, list[torch.Tensor]()

    def take(batch: list[torch.Tensor]) -> int:
        x = prepare_batch(torch.stack(batch).to(device), size, model_info["mean"], model_info["std"])
        net(x)
        return len(batch)

    with new_statistics(norms), torch.inference_mode():
        loaded = load_each(lambda i: transform(source.image(i)), len(source), workers, chosen)
        for _, image in readable(loaded, []):
            waiting.append(image)
            # The rest joins the last batch: statistics of a few images would weigh as much as those of many.
            if len(waiting) == 2 * batch_size:
                used += take(waiting[:batch_size])
                waiting = waiting[batch_size:]
        used += take(waiting) if waiting else 0
    if not used:
        raise DataError("recalibrating: no training image could be read")
    return used


def batch_norms(net: SPPClassifier) -> list[BatchNorm]:
    """The layers that have running statistics.

    Raises:
        ConfigError: there are none.
    """
    norms = [module for module in net.modules() if has_statistics(module)]
    if not norms:
        raise ConfigError("recalibrating: this network has no batch norm")
    return norms


def has_statistics(module: nn.Module) -> TypeGuard[BatchNorm]:
    """Whether a layer is a batch norm with running statistics."""
    return isinstance(module, BatchNorm) and module.track_running_stats


@contextmanager
def new_statistics(norms: Sequence[BatchNorm]) -> Iterator[None]:
    """A block, the batches in which give layers their statistics: the mean over the batches; afterwards they are in
    evaluation mode."""
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
            norm.train()
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
