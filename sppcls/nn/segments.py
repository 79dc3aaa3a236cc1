"""Layers in a row of which only some inputs are kept for the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_segments(segments: Sequence[Sequence[nn.Module]], x: Tensor) -> Tensor:
    """``x`` through all modules in order; what a segment computes inside is not kept."""
    for segment in segments:

        def run(x: Tensor, segment: Sequence[nn.Module] = segment) -> Tensor:
            for module in segment:
                x = module(x)
            return x

        def contexts(segment: Sequence[nn.Module] = segment) -> tuple[Any, Any]:
            return nullcontext(), _without_statistics(segment)

        result = checkpoint(run, x, use_reentrant=False, context_fn=contexts)
        assert isinstance(result, Tensor)
        x = result
    return x


@contextmanager
def _without_statistics(segment: Sequence[nn.Module]) -> Iterator[None]:
    """Batch normalisation as in training, but without a change of its running averages and its count."""
    norms = [
        module
        for part in segment
        for module in part.modules()
        if isinstance(module, _BatchNorm) and module.training and module.num_batches_tracked is not None
    ]
    kept = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]  # type: ignore[union-attr]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        with torch.no_grad():
            for norm, (momentum, count) in zip(norms, kept, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
