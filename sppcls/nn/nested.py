"""Max pooling over all adaptive bins of a pyramid in one pass through the map, on the CPU.

Appendix bins nest: a bin of a level is exactly the union of the bins of any level whose rows and columns are multiples
of its own. So such a level is pooled from that level's small output instead of from the map, and its gradient goes
through the small one back. Torch's own poolings do the work; what is saved is their passes through memory. They are
several times as fast on maps that have the channels innermost, so other maps are turned first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sppcls.nn.pyramid import Level


def nested_sources(levels: Sequence[Level]) -> dict[Level, Level | None]:
    """The different levels, finest first, each with the coarsest other level that it follows from (None: the map)."""
    order = sorted(set(levels), key=lambda level: level[0] * level[1], reverse=True)
    sources: dict[Level, Level | None] = {}
    for level in order:
        finer = [m for m in sources if m[0] % level[0] == 0 and m[1] % level[1] == 0]
        sources[level] = min(finer, key=lambda m: m[0] * m[1]) if finer else None
    return sources


def max_pool_levels(x: Tensor, levels: Sequence[Level]) -> Tensor:
    """Max-pool a map (N, C, H, W) over the adaptive bins of every level: (N, C * bins), level by level.

    Values and gradients are those of ``adaptive_max_pool2d``; where several cells of a bin hold exactly the maximum, the
    whole gradient goes to one of them. Can be differentiated any number of times, in both modes, and mapped.
    """
    pooled: Tensor = _MaxPoolLevels.apply(x, tuple(levels))[0]
    return pooled


class _MaxPoolLevels(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, levels: tuple[Level, ...]) -> tuple[Tensor, ...]:
        n, c = x.shape[:2]
        x = x.contiguous(memory_format=torch.channels_last)
        outputs: dict[Level, Tensor] = {}
        cells = []
        for level, source in nested_sources(levels).items():
            if source is None:
                pooled, where = F.adaptive_max_pool2d(x, level, return_indices=True)
            else:
                kernel = (source[0] // level[0], source[1] // level[1])
                pooled, where = F.max_pool2d(outputs[source], kernel, return_indices=True)
            outputs[level] = pooled
            cells.append(where)
        result = x.new_empty(n, sum(_lengths(c, levels)))
        for part, level in zip(result.split(_lengths(c, levels), 1), levels, strict=True):
            part.unflatten(1, (c, *level)).copy_(outputs[level])
        return result, *cells

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, levels = inputs
        ctx.levels, ctx.shape = levels, x.shape
        ctx.channels_last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])
        ctx.save_for_forward(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor, None]:
        c = ctx.shape[1]
        sources = nested_sources(ctx.levels)
        grads: dict[Level, Tensor] = {}
        for part, level in zip(grad.split(_lengths(c, ctx.levels), 1), ctx.levels, strict=True):
            part = part.unflatten(1, (c, level[0] * level[1]))
            grads[level] = grads[level] + part if level in grads else part
        total: Tensor | None = None
        # From the coarsest level, whose gradient belongs to cells of a finer one, to the map. Nothing is written in
        # place, so that the gradient can be differentiated in turn.
        for level, where in reversed(list(zip(sources, ctx.saved_tensors, strict=True))):
            source = sources[level]
            if source is not None:
                grads[source] = grads[source].scatter_add(2, where.flatten(2), grads[level])
                continue
            # Only its shape and layout are read.
            map_like = torch.empty(
                ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
            )
            part = torch.ops.aten.adaptive_max_pool2d_backward(
                grads[level].unflatten(2, level), map_like, where
            )
            total = part if total is None else total + part
        assert total is not None
        return total if ctx.channels_last else total.contiguous(), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        tangents: dict[Level, Tensor] = {}
        for (level, source), where in zip(nested_sources(ctx.levels).items(), ctx.saved_tensors, strict=True):
            tangents[level] = (tangent.flatten(2) if source is None else tangents[source]).gather(
                2, where.flatten(2)
            )
        joined = torch.cat([tangents[level].flatten(1) for level in ctx.levels], 1)
        return joined, *[None] * len(tangents)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, levels: tuple[Level, ...]
    ) -> tuple[Any, Any]:
        # Images are pooled one by one, so the mapped dimension may join them.
        x = x.movedim(in_dims[0] or 0, 0)
        outputs = _MaxPoolLevels.apply(x.flatten(0, 1), levels)
        return tuple(out.unflatten(0, x.shape[:2]) for out in outputs), (0,) * len(outputs)


def _lengths(channels: int, levels: Sequence[Level]) -> list[int]:
    return [channels * rows * columns for rows, columns in levels]
