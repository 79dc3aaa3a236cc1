"""How the levels are computed. The public layer is in ``spp.py``.

:func:`pool_level` is one form for every mode and bin rule. Max and average pooling over adaptive bins, the
usual cases, and max pooling over sliding ones are computed faster from torch's own poolings.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sppcls.nn.pool.nested import can_fuse, max_pool_levels, nested_sources
from sppcls.nn.pyramid import Level, bin_bounds
from sppcls.registry import POOL_MODES


def check_pool_mode(mode: str) -> None:
    """Raise ValueError unless ``mode`` is one of :data:`POOL_MODES`."""
    if mode not in POOL_MODES:
        raise ValueError(f"mode={mode!r}: choose from {', '.join(POOL_MODES)}")


def check_map(x: Tensor) -> None:
    """Raise ValueError unless maps (..., C, H, W) hold floating-point numbers and have channels."""
    # Whole numbers would overflow or be rounded without a word.
    if not x.is_floating_point():
        raise ValueError(f"expected a floating-point map, got {x.dtype}")
    if x.shape[-3] < 1:
        raise ValueError(f"expected a map with at least one channel, got {tuple(x.shape)}")


def pool_levels(x: Tensor, levels: Sequence[Level], mode: str, rule: str) -> Tensor:
    """Pool a map (N, C, H, W) to every level and concatenate the results: (N, C * bins)."""
    if is_exporting():
        return pool_in_graph(x, list(levels), mode, rule, portable=True)
    if rule == "adaptive" and mode == "max" and not torch.compiler.is_compiling():
        if x.device.type == "cpu":
            return max_pool_levels(x, levels)
        if can_fuse(x, levels):
            return max_pool_levels(x, levels, fused=True)
    if rule == "adaptive" and mode == "max":
        pooled = adaptive_max_levels(x, levels)
    elif rule == "adaptive" and mode == "avg" and not _needs_deterministic_backward(x):
        pooled = [F.adaptive_avg_pool2d(x, level) for level in levels]
    elif (
        rule == "sliding"
        and mode == "max"
        and not _needs_deterministic_backward(x)
        and not torch.compiler.is_compiling()  # a window that depends on the map's size cannot be exported
    ):
        pooled = [sliding_max_pool2d(x, level) for level in levels]
    else:
        pooled = [pool_level(x, level, mode, rule) for level in levels]
    return torch.cat([level.flatten(1) for level in pooled], dim=1)


def _needs_deterministic_backward(x: Tensor) -> bool:
    # On CUDA the backward of torch's adaptive poolings, and of poolings whose windows overlap, adds in no
    # fixed order; the adaptive ones raise if it must be fixed.
    return x.is_cuda and x.requires_grad and torch.are_deterministic_algorithms_enabled()


def adaptive_max_levels(x: Tensor, levels: Sequence[Level]) -> list[Tensor]:
    """Max-pool a map (N, C, H, W) over the adaptive bins of every level: (N, C, rows, columns) for each.

    Nested levels are pooled from each other, as in :mod:`sppcls.nn.pool.nested`. Values are those of
    ``adaptive_max_pool2d``. So are gradients, as long as the maximum of a bin is unique; where several cells of a bin
    hold exactly the maximum, the whole gradient goes to one of them, not always the one that ``adaptive_max_pool2d``
    picks.
    """
    outputs: dict[Level, Tensor] = {}
    for level, source in nested_sources(levels).items():
        if source is not None:
            kernel = (source[0] // level[0], source[1] // level[1])
            outputs[level] = F.max_pool2d(outputs[source], kernel)
        else:
            pool = gathered_max_pool2d if _needs_deterministic_backward(x) else F.adaptive_max_pool2d
            outputs[level] = pool(x, level)
    return [outputs[level] for level in levels]


def gathered_max_pool2d(x: Tensor, level: Level) -> Tensor:
    """``F.adaptive_max_pool2d`` as a gather: same values, same gradients, deterministic backward."""
    _, cells = F.adaptive_max_pool2d(x.detach(), level, return_indices=True)
    return x.flatten(2).gather(2, cells.flatten(2)).unflatten(2, level)


def sliding_max_pool2d(x: Tensor, level: Level) -> Tensor:
    """:func:`pool_level` for ``max`` and ``sliding``: torch's pooling of the cells that the bins cover."""
    stride = (x.shape[2] // level[0], x.shape[3] // level[1])
    window = (-(-x.shape[2] // level[0]), -(-x.shape[3] // level[1]))
    height, width = ((n - 1) * s + w for n, s, w in zip(level, stride, window, strict=True))
    return F.max_pool2d(x[:, :, :height, :width], window, stride)


def pool_in_graph(x: Tensor, levels: list[tuple[int, int]], mode: str, rule: str, portable: bool) -> Tensor:
    """:func:`pool_levels` for graphs, in which any map size stays possible. TorchScript can compile it.

    Args:
        x: map (N, C, H, W) or (C, H, W); its size is not checked.
        levels, mode, rule: as there.
        portable: use nothing that ONNX lacks; else torch's adaptive poolings where they do.
    """
    batch = x if x.dim() == 4 else x.unsqueeze(0)
    pooled = [_level_in_graph(batch, level[0], level[1], mode, rule, portable) for level in levels]
    joined = torch.cat(pooled, dim=1)
    return joined if x.dim() == 4 else joined.squeeze(0)


def _level_in_graph(x: Tensor, rows: int, columns: int, mode: str, rule: str, portable: bool) -> Tensor:
    if rule == "adaptive" and mode == "max" and not portable:
        return F.adaptive_max_pool2d(x, (rows, columns)).reshape(x.shape[0], -1)
    if rule == "adaptive" and mode == "avg" and not portable:
        return F.adaptive_avg_pool2d(x, (rows, columns)).reshape(x.shape[0], -1)
    return pool_level(x, (rows, columns), mode, rule).reshape(x.shape[0], -1)


def pool_traced(x: Tensor, levels: Sequence[Level], mode: str, rule: str) -> Tensor:
    """:func:`pool_in_graph` under ``torch.jit.trace`` or the older ONNX exporter, which freeze what Python computes."""
    batch = x if x.dim() == 4 else x.unsqueeze(0)
    portable = torch.onnx.is_in_onnx_export()
    pooled = [_scripted_level()(batch, rows, columns, mode, rule, portable) for rows, columns in levels]
    joined = torch.cat(pooled, dim=1)
    return joined if x.dim() == 4 else joined.squeeze(0)


@cache
def _scripted_level() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of TorchScript as a whole: whoever traces knows
        return torch.jit.script(_level_in_graph)


def is_exporting() -> bool:
    """Whether ``torch.export`` is at work; older versions of torch cannot tell."""
    exporting = getattr(torch.compiler, "is_exporting", None)
    return bool(exporting and exporting())


def pool_level(x: Tensor, level: tuple[int, int], mode: str, rule: str) -> Tensor:
    """Pool a map (N, C, H, W) to one level (N, C, rows, columns), for any mode and bin rule.

    Reduces along the width, then along the height. Sums of half-precision maps are taken in float32. A
    gradient of ``max`` goes to the first maximal cell of a bin in row-major order. TorchScript can compile it.
    """
    half = x.dtype == torch.float16 or x.dtype == torch.bfloat16
    wide = x.float() if mode != "max" and half else x
    pooled = _pool_axis(_pool_axis(wide, 3, level[1], mode, rule), 2, level[0], mode, rule)
    return pooled.to(x.dtype)


def _pool_axis(x: Tensor, dim: int, n: int, mode: str, rule: str) -> Tensor:
    size = x.shape[dim]
    if n == 1:
        # One bin covers the axis, whatever the rule.
        if mode == "max":
            return x.max(dim, keepdim=True)[0]
        return x.sum(dim, keepdim=True) if mode == "sum" else x.mean(dim, keepdim=True)
    first, stop = bin_bounds(size, n, rule, x.device)
    # No bin is longer than this. Shorter ones repeat their last cell, which is masked out of sums. (It is
    # also never 1, on which torch.export would specialise.)
    longest = (size + n - 1) // n + 1
    cells = first[:, None] + torch.arange(longest, device=x.device)
    shown = cells.minimum(stop[:, None] - 1)
    # Shapes in full: within a compiled function the older ONNX exporter knows neither ranks nor sums of lists.
    a, b, c, d = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    split = [a, b, c, n, longest] if dim == 3 else [a, b, n, longest, d]
    values = x.index_select(dim, shown.reshape(-1)).reshape(split)
    if mode == "max":
        return values.max(dim + 1)[0]
    outside = (cells >= stop[:, None]).view([n, longest] if dim == 3 else [n, longest, 1])
    sums = values.masked_fill(outside, 0).sum(dim + 1)
    return sums if mode == "sum" else sums / (stop - first).view([n] if dim == 3 else [n, 1])
