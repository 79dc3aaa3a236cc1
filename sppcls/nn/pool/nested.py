"""Max pooling over all adaptive bins of a pyramid in one pass through the map.

Appendix bins nest: a bin of a level is exactly the union of the bins of any level whose rows and columns are multiples
of its own. So such a level is pooled from that level's small output instead of from the map, and its gradient goes
through the small one back. On the CPU torch's own poolings do the work; what is saved is their passes through memory.
They are several times as fast on maps that have the channels innermost, so other maps are turned first. On CUDA the
kernels of :mod:`sppcls.nn.pool.triton_kernels` do it, where :func:`can_fuse` says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sppcls._util.reason import reason_of
from sppcls.nn.pyramid import Level


def nested_sources(levels: Sequence[Level]) -> dict[Level, Level | None]:
    """The different levels, finest first, each with the coarsest other level that it follows from (None: the map)."""
    order = sorted(set(levels), key=lambda level: level[0] * level[1], reverse=True)
    sources: dict[Level, Level | None] = {}
    for level in order:
        finer = [m for m in sources if m[0] % level[0] == 0 and m[1] % level[1] == 0]
        sources[level] = finer[-1] if finer else None
    return sources


_MOST_CELLS = 30_000
_MOST_VALUES = 1 << 24
_verdicts: dict[tuple[object, ...], bool] = {}


def can_fuse(x: Tensor, levels: Sequence[Level]) -> bool:
    """Whether the map (N, C, H, W) is one for the kernels of :mod:`sppcls.nn.pool.triton_kernels`, and they are right for such maps.

    Compilers and devices differ, and a wrong gradient would be noticed by nobody. So the first map of a shape, type and
    layout has them pool another one like it, which is compared with torch's poolings on the CPU.

    Warns:
        UserWarning: once for each, where they are not used because they failed.
    """
    channels, height, width = x.shape[1:]
    if (
        type(x) is not Tensor  # such as a tensor without values, of a tracer
        or not x.is_cuda
        or x.dtype not in _FIRST_PATTERN
        or x.numel() == 0
        or len(set(levels)) < len(levels)
        or any(rows > height or columns > width for rows, columns in levels)
        or height * width > _MOST_CELLS
        or channels * max(height * width, sum(rows * columns for rows, columns in levels)) > _MOST_VALUES
    ):
        return False
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    kind = (x.device, x.dtype, channels, height, width, channels_last, tuple(levels))
    if kind not in _verdicts:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            return False
        try:
            trouble = kernels_trouble(x.device, x.dtype, (channels, height, width), channels_last, levels)
        except torch.OutOfMemoryError:
            return False
        if trouble:
            warnings.warn(
                f"the pyramid's Triton kernel is not used for maps {(channels, height, width)}, {x.dtype}, on {x.device}: "
                f"{trouble}; torch's poolings are",
                stacklevel=2,
            )
        _verdicts[kind] = trouble is None
    return _verdicts[kind]


# The first of some 30,000 successive bit patterns that are normal numbers, each larger than the one before.
_FIRST_PATTERN = {torch.float32: 0x3F800000, torch.float16: 0x0400, torch.bfloat16: 0x0080}


def kernels_trouble(
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    channels_last: bool,
    levels: Sequence[Level],
) -> str | None:
    """Why the kernels cannot be used for maps of a shape (C, H, W): they cannot be made, or are wrong. None: they can."""
    channels, height, width = shape
    cells = height * width
    # No value comes twice in a channel, as 30,011 is prime.
    order = torch.arange(2 * channels)[:, None] * 104_729 + torch.arange(cells) * 7_919
    patterns = order % 30_011 + _FIRST_PATTERN[dtype]
    values = patterns.to(torch.int32 if dtype == torch.float32 else torch.int16).view(dtype)
    values = values.view(2, channels, height, width)
    grad = torch.arange(2 * channels * sum(_lengths(1, levels))).view(2, -1) % 5 - 2
    pooled = []
    expected = torch.zeros(2, channels, cells, dtype=torch.float64)
    parts = grad.double().split(_lengths(channels, levels), 1)
    for level, part in zip(levels, parts, strict=True):
        best, where = F.adaptive_max_pool2d(values.double(), level, return_indices=True)
        pooled.append(best.flatten(1))
        expected.scatter_add_(2, where.flatten(2), part.view(2, channels, -1))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    try:
        from sppcls.nn.pool import triton_kernels as fused

        sources = nested_sources(levels)
        vector, places = fused.forward(
            values.to(device).contiguous(memory_format=layout), tuple(levels), sources
        )
        gradient = fused.backward(grad.to(device, dtype), places, values.shape, tuple(levels), sources)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of a compiler, its driver, or their absence
        return f"{type(error).__name__}: {reason_of(error, 200)}"
    # Sums of small whole numbers are exact.
    right = torch.equal(vector.cpu().double(), torch.cat(pooled, 1))
    right = right and torch.equal(gradient.cpu().double().flatten(2), expected)
    return None if right else "it does not agree with torch's poolings on the CPU"


def max_pool_levels(x: Tensor, levels: Sequence[Level], fused: bool = False) -> Tensor:
    """Max-pool a map (N, C, H, W) over the adaptive bins of every level: (N, C * bins), level by level.

    Values and gradients are those of ``adaptive_max_pool2d``; where several cells of a bin hold exactly the maximum, the
    whole gradient goes to one of them. Can be differentiated any number of times, in both modes, and mapped.

    Args:
        x: the map.
        levels: (rows, columns) of each.
        fused: with the kernels of :mod:`sppcls.nn.pool.triton_kernels`; only where :func:`can_fuse` allows it.
    """
    pooled: Tensor = _MaxPoolLevels.apply(x, tuple(levels), fused)[0]
    return pooled


class _MaxPoolLevels(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, levels: tuple[Level, ...], fused: bool) -> tuple[Tensor, ...]:
        if fused:
            from sppcls.nn.pool import triton_kernels as kernels  # Triton is needed, and loaded, here only

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
        if ctx.fused and not torch.is_grad_enabled() and _is_in_memory(grad):
            from sppcls.nn.pool import triton_kernels as kernels

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
        part = part.reshape(*ctx.shape[:2], level[0] * level[1])
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
            part = cells_of_map.scatter_add(2, where.flatten(2), grads[level]).reshape(ctx.shape)
        else:
            # Only its shape and layout are read.
            map_like = torch.empty(
                ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last
            )
            part = torch.ops.aten.adaptive_max_pool2d_backward(
                grads[level].reshape(*ctx.shape[:2], *level), map_like, where
            )
        total = part if total is None else total + part
    assert total is not None
    return total


def _is_in_memory(x: Tensor) -> bool:
    """Not one that stands for several, such as those of ``is_grads_batched``."""
    try:
        x.data_ptr()
    except (RuntimeError, NotImplementedError):
        return False
    return True


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
