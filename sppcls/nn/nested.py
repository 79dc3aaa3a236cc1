"""Max pooling over all adaptive bins of a pyramid in one pass through the map.

Appendix bins nest: a bin of a level is exactly the union of the bins of any level whose rows and columns are multiples
of its own. So such a level is pooled from that level's small output instead of from the map, and its gradient goes
through the small one back. On the CPU torch's own poolings do the work; what is saved is their passes through memory.
They are several times as fast on maps that have the channels innermost, so other maps are turned first. On CUDA the
kernels of :mod:`sppcls.nn.fused` do it, where :func:`can_fuse` says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
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


def can_fuse(x: Tensor, levels: Sequence[Level]) -> bool:
    """Whether the map (N, C, H, W) is one for the kernels of :mod:`sppcls.nn.fused`, and they work on its device."""
    return (
        x.is_cuda
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and x.numel() > 0
        and len(set(levels)) == len(levels)
        and _kernels_agree(x.device)
    )


@cache
def _kernels_agree(device: torch.device) -> bool:
    if find_spec("triton") is None:
        return False
    # Compilers and devices differ, and a wrong gradient would be noticed by nobody.
    levels = ((6, 6), (4, 4), (3, 3), (2, 2), (1, 1))
    # No two values of a channel are equal; bfloat16 has them all.
    x = (torch.arange(33 * 11 * 13).view(1, 33, 11, 13) * 59 % 251 - 100).float()
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            found = []
            for place in ("cpu", device):
                leaf = x.to(place).requires_grad_()
                vector = max_pool_levels(leaf, levels, fused=place == device)
                (gradient,) = torch.autograd.grad(vector, leaf, vector.detach() % 7)
                found.append((vector.detach().cpu(), gradient.cpu()))
            # Sums of whole numbers are exact.
            agree = all(torch.equal(*pair) for pair in zip(*found, strict=True))
        trouble = "it does not agree with torch's poolings"
    except Exception as error:
        agree, trouble = False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if not agree:
        warnings.warn(
            f"the pyramid's Triton kernel is not used on {device} ({trouble}); torch's poolings are",
            stacklevel=2,
        )
    return agree


def max_pool_levels(x: Tensor, levels: Sequence[Level], fused: bool = False) -> Tensor:
    """Max-pool a map (N, C, H, W) over the adaptive bins of every level: (N, C * bins), level by level.

    Values and gradients are those of ``adaptive_max_pool2d``; where several cells of a bin hold exactly the maximum, the
    whole gradient goes to one of them. Can be differentiated any number of times, in both modes, and mapped.

    Args:
        x: the map.
        levels: (rows, columns) of each.
        fused: with the kernels of :mod:`sppcls.nn.fused`; only where :func:`can_fuse` allows it.
    """
    pooled: Tensor = _MaxPoolLevels.apply(x, tuple(levels), fused)[0]
    return pooled


class _MaxPoolLevels(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, levels: tuple[Level, ...], fused: bool) -> tuple[Tensor, ...]:
        if fused:
            from sppcls.nn import fused as kernels  # Triton is needed, and loaded, here only

            return kernels.forward(x, levels, nested_sources(levels))
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
        x, levels, fused = inputs
        ctx.levels, ctx.shape, ctx.fused = levels, x.shape, fused
        ctx.channels_last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])
        ctx.save_for_forward(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor, None, None]:
        if ctx.fused and not torch.is_grad_enabled():
            from sppcls.nn import fused as kernels

            (where,) = ctx.saved_tensors
            total = kernels.backward(grad, where, ctx.shape, ctx.levels, nested_sources(ctx.levels))
        else:
            total = _differentiable_backward(ctx, grad)
        return total if ctx.channels_last else total.contiguous(), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> tuple[Tensor | None, ...]:
        tangents: dict[Level, Tensor] = {}
        for (level, source), where in zip(nested_sources(ctx.levels).items(), _cells(ctx), strict=True):
            tangents[level] = (tangent.flatten(2) if source is None else tangents[source]).gather(
                2, where.flatten(2)
            )
        joined = torch.cat([tangents[level].flatten(1) for level in ctx.levels], 1)
        return joined, *[None] * len(ctx.saved_tensors)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, levels: tuple[Level, ...], fused: bool
    ) -> tuple[Any, Any]:
        # Images are pooled one by one, so the mapped dimension may join them.
        x = x.movedim(in_dims[0] or 0, 0)
        outputs = _MaxPoolLevels.apply(x.flatten(0, 1), levels, fused)
        return tuple(out.unflatten(0, x.shape[:2]) for out in outputs), (0,) * len(outputs)


def _differentiable_backward(ctx: Any, grad: Tensor) -> Tensor:
    # Nothing is written in place, so that the gradient can be differentiated in turn.
    c = ctx.shape[1]
    sources = nested_sources(ctx.levels)
    grads: dict[Level, Tensor] = {}
    for part, level in zip(grad.split(_lengths(c, ctx.levels), 1), ctx.levels, strict=True):
        part = part.unflatten(1, (c, level[0] * level[1]))
        grads[level] = grads[level] + part if level in grads else part
    total: Tensor | None = None
    # From the coarsest level, whose gradient belongs to cells of a finer one, to the map.
    for level, where in reversed(list(zip(sources, _cells(ctx), strict=True))):
        source = sources[level]
        if source is not None:
            grads[source] = grads[source].scatter_add(2, where.flatten(2), grads[level])
            continue
        if ctx.fused:
            cells_of_map = grad.new_zeros(*ctx.shape[:2], ctx.shape[2] * ctx.shape[3])
            part = cells_of_map.scatter_add(2, where.flatten(2), grads[level]).unflatten(2, ctx.shape[2:])
        else:
            # Only its shape and layout are read.
            map_like = torch.empty(
                ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
            )
            part = torch.ops.aten.adaptive_max_pool2d_backward(
                grads[level].unflatten(2, level), map_like, where
            )
        total = part if total is None else total + part
    assert total is not None
    return total


def _cells(ctx: Any) -> list[Tensor]:
    """For each level, finest first, the maximal cells (N, C, rows, columns)."""
    if not ctx.fused:
        return list(ctx.saved_tensors)
    (where,) = ctx.saved_tensors  # (N, bins, C), levels in the given order
    parts = where.long().split([rows * columns for rows, columns in ctx.levels], 1)
    by_level = dict(zip(ctx.levels, parts, strict=True))
    return [by_level[level].transpose(1, 2).unflatten(2, level) for level in nested_sources(ctx.levels)]


def _lengths(channels: int, levels: Sequence[Level]) -> list[int]:
    return [channels * rows * columns for rows, columns in levels]
