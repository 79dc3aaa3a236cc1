"""Max pooling over all adaptive bins of a pyramid as one Triton kernel each way, on CUDA.

The map is read once and the vector written once; backward, the vector is read once and the map's gradient written
once. Nothing is added by several threads in no fixed order, so that values and gradients are the same bits in every run.
Levels that nest in a finer one are pooled from it, see :mod:`sppcls.nn.pool.nested`, which decides when this is used.

Values are compared as 64-bit integers: a number's order in the upper half, the cell's place in the lower one. The largest is
then the maximum together with its first cell, and "not a number" is larger than every number, as in torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from sppcls.nn.pyramid import Level

CHANNELS = 32
"""Channels that a program takes at once: 64 or 128 bytes of a map with the channels innermost."""
LARGEST_TILE = 32
"""Cells, or bins, that a program takes at once. Of more, it would keep some in memory for lack of registers."""
UNROLLED = 8
"""Rows of more bins are looped over."""

Geometry = tuple[tuple[int, int, int, int], ...]
"""Of each level, finest first: rows, columns, the place in this list of the level that it follows from (-1: the map), and
how many bins the levels before it have in the vector."""


@triton.jit
def _keys(values, cell, real):  # type: ignore[no-untyped-def]  # as everything that Triton compiles
    values = values.to(tl.float32)
    bits = tl.where(values == 0, 0.0, values).to(tl.int32, bitcast=True)  # -0.0 equals 0.0
    order = tl.where(values != values, 0x7FFFFFFF, bits ^ ((bits >> 31) & 0x7FFFFFFF))
    keys = (order.to(tl.int64) << 32) + (0x7FFFFFFF - cell)
    return tl.where(real, keys, -0x8000000000000000)


@triton.jit
def _value(keys):  # type: ignore[no-untyped-def]
    order = (keys >> 32).to(tl.int32)
    return (order ^ ((order >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _pool_from_map(  # type: ignore[no-untyped-def]
    x, pooled, where, row, column, c, channels, height, width, stride_c, stride_h, stride_w,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, FIRST: tl.constexpr, CELLS: tl.constexpr, ONE_TILE: tl.constexpr,
):  # fmt: skip
    top, left = row * height // ROWS, column * width // COLUMNS
    wide = ((column + 1) * width + COLUMNS - 1) // COLUMNS - left
    count = (((row + 1) * height + ROWS - 1) // ROWS - top) * wide
    best = tl.full((c.shape[0],), -0x8000000000000000, tl.int64)
    if ONE_TILE:
        best = _best_cells(
            x, best, 0, count, top, left, wide, c, channels, width, stride_c, stride_h, stride_w, CELLS
        )
    else:
        for begin in range(0, count, CELLS):
            best = _best_cells(
                x, best, begin, count, top, left, wide, c, channels, width, stride_c, stride_h, stride_w, CELLS
            )  # fmt: skip
    _store(best, pooled, where, row * COLUMNS + column, c, channels, ROWS * COLUMNS, FIRST)


@triton.jit
def _best_cells(  # type: ignore[no-untyped-def]
    x, best, begin, count, top, left, wide, c, channels, width, stride_c, stride_h, stride_w, CELLS: tl.constexpr
):  # fmt: skip
    t = begin + tl.arange(0, CELLS)
    row, column = top + t // wide, left + t % wide
    real = (t < count)[:, None] & (c < channels)[None, :]
    place = (row * stride_h + column * stride_w)[:, None] + (c * stride_c)[None, :]
    keys = _keys(tl.load(x + place, mask=real, other=0.0), (row * width + column)[:, None], real)
    return tl.maximum(best, tl.max(keys, axis=0))


@triton.jit
def _pool_from_level(  # type: ignore[no-untyped-def]
    pooled, where, b, c, channels,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, FIRST: tl.constexpr,
    SOURCE_ROWS: tl.constexpr, SOURCE_COLUMNS: tl.constexpr, SOURCE_FIRST: tl.constexpr, CELLS: tl.constexpr,
):  # fmt: skip
    tall: tl.constexpr = SOURCE_ROWS // ROWS
    wide: tl.constexpr = SOURCE_COLUMNS // COLUMNS
    best = tl.full((c.shape[0],), -0x8000000000000000, tl.int64)
    for begin in range(0, tall * wide, CELLS):
        t = begin + tl.arange(0, CELLS)
        source = ((b // COLUMNS) * tall + t // wide) * SOURCE_COLUMNS + (b % COLUMNS) * wide + t % wide
        real = (t < tall * wide)[:, None] & (c < channels)[None, :]
        place = SOURCE_FIRST * channels + c[None, :] * (SOURCE_ROWS * SOURCE_COLUMNS) + source[:, None]
        keys = _keys(tl.load(pooled + place, mask=real, other=0.0), source[:, None], real)
        best = tl.maximum(best, tl.max(keys, axis=0))
    _store(best, pooled, where, b, c, channels, ROWS * COLUMNS, FIRST)


@triton.jit
def _store(best, pooled, where, b, c, channels, bins, FIRST: tl.constexpr):  # type: ignore[no-untyped-def]
    place = FIRST * channels + c * bins + b
    tl.store(pooled + place, _value(best).to(pooled.dtype.element_ty), mask=c < channels)
    cell = 0x7FFFFFFF - (best & 0xFFFFFFFF)
    tl.store(where + (FIRST + b) * channels + c, cell.to(where.dtype.element_ty), mask=c < channels)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    x, pooled, where, channels, height, width, stride_n, stride_c, stride_h, stride_w,
    LEVELS: tl.constexpr, COUNT: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
    UNROLL: tl.constexpr,
):  # fmt: skip
    """One program pools some channels of one image: x (N, C, H, W), pooled (N, C * bins), where (N, bins, C)."""
    image = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x += image * stride_n
    pooled += image * channels * BINS
    where += image * channels * BINS
    for k in tl.static_range(COUNT):
        if LEVELS[k][2] < 0:
            for row in range(LEVELS[k][0]):
                if LEVELS[k][1] <= UNROLL:
                    # Written out, the loads of a row's bins are under way at once.
                    for column in tl.static_range(LEVELS[k][1]):
                        _pool_from_map(x, pooled, where, row, column, c, channels, height, width, stride_c, stride_h, stride_w,
                                       LEVELS[k][0], LEVELS[k][1], LEVELS[k][3], TILES[k][0], TILES[k][1])  # fmt: skip
                else:
                    for column in range(LEVELS[k][1]):
                        _pool_from_map(x, pooled, where, row, column, c, channels, height, width, stride_c, stride_h, stride_w,
                                       LEVELS[k][0], LEVELS[k][1], LEVELS[k][3], TILES[k][0], TILES[k][1])  # fmt: skip
        else:
            tl.debug_barrier()  # what other threads of this program have written is read
            for b in range(LEVELS[k][0] * LEVELS[k][1]):
                _pool_from_level(pooled, where, b, c, channels, LEVELS[k][0], LEVELS[k][1], LEVELS[k][3],
                                 LEVELS[LEVELS[k][2]][0], LEVELS[LEVELS[k][2]][1], LEVELS[LEVELS[k][2]][3], 16)  # fmt: skip


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, where, totals, out, channels, height, width, stride_n, stride_c, stride_h, stride_w,
    LEVELS: tl.constexpr, COUNT: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr,
    SPANS: tl.constexpr,
):  # fmt: skip
    """One program does some channels of one image: grad (N, C * bins), where and totals (N, bins, C), out (N, C, H, W)."""
    image = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    grad += image * channels * BINS
    where += image * channels * BINS
    totals += image * channels * BINS
    out += image * stride_n
    # From the coarsest level on, what each bin gets: its own gradient and those of the coarser bins that chose it.
    for k in tl.static_range(COUNT - 1, -1, -1):
        tl.debug_barrier()
        for begin in range(0, LEVELS[k][0] * LEVELS[k][1], TILE):
            b = begin + tl.arange(0, TILE)
            real = (b < LEVELS[k][0] * LEVELS[k][1])[:, None] & (c < channels)[None, :]
            place = LEVELS[k][3] * channels + c[None, :] * (LEVELS[k][0] * LEVELS[k][1]) + b[:, None]
            total = tl.load(grad + place, mask=real, other=0.0).to(tl.float32)
            for m in tl.static_range(COUNT):
                if LEVELS[m][2] == k:
                    row = (b // LEVELS[k][1]) // (LEVELS[k][0] // LEVELS[m][0])
                    column = (b % LEVELS[k][1]) // (LEVELS[k][1] // LEVELS[m][1])
                    chooser = (LEVELS[m][3] + row * LEVELS[m][1] + column)[:, None] * channels + c[None, :]
                    chosen = tl.load(where + chooser, mask=real, other=-1).to(tl.int32)
                    part = tl.load(totals + chooser, mask=real, other=0.0)
                    total += tl.where(chosen == b[:, None], part, 0.0)
            tl.store(totals + (LEVELS[k][3] + b)[:, None] * channels + c[None, :], total, mask=real)
    tl.debug_barrier()
    # Each cell asks the bins that it lies in.
    for begin in range(0, height * width, TILE):
        cell = begin + tl.arange(0, TILE)
        h, w = cell // width, cell % width
        on_map = cell < height * width
        total = tl.zeros((TILE, BLOCK), tl.float32)
        for k in tl.static_range(COUNT):
            if LEVELS[k][2] < 0:
                for i in tl.static_range(SPANS[k][0]):
                    for j in tl.static_range(SPANS[k][1]):
                        row = h * LEVELS[k][0] // height + i
                        column = w * LEVELS[k][1] // width + j
                        inside = (row * height < (h + 1) * LEVELS[k][0]) & (
                            column * width < (w + 1) * LEVELS[k][1]
                        )
                        real = (on_map & inside)[:, None] & (c < channels)[None, :]
                        place = (LEVELS[k][3] + row * LEVELS[k][1] + column)[:, None] * channels + c[None, :]
                        chosen = tl.load(where + place, mask=real, other=-1).to(tl.int32)
                        part = tl.load(totals + place, mask=real, other=0.0)
                        total += tl.where(chosen == cell[:, None], part, 0.0)
        place = (h * stride_h + w * stride_w)[:, None] + (c * stride_c)[None, :]
        tl.store(out + place, total.to(out.dtype.element_ty), mask=on_map[:, None] & (c < channels)[None, :])


def geometry(levels: tuple[Level, ...], sources: Mapping[Level, Level | None]) -> Geometry:
    """The levels as the kernels take them; every level is there once."""
    order = list(sources)
    bins = [rows * columns for rows, columns in levels]
    return tuple(
        (*level, -1 if source is None else order.index(source), sum(bins[: levels.index(level)]))
        for level, source in sources.items()
    )


def forward(
    x: Tensor, levels: tuple[Level, ...], sources: Mapping[Level, Level | None]
) -> tuple[Tensor, Tensor]:
    """Pool a map (N, C, H, W) of fewer than 2 ** 15 cells and 2 ** 31 values of an image; every level is there once.

    Returns:
        The vector (N, C * bins), and (N, bins, C) the maximal cell of every bin in row-major order: of the map, or among
        the bins of the level that its own follows from.
    """
    if not x.is_contiguous() and not x.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    n, channels, height, width = x.shape
    plan = geometry(levels, sources)
    bins = sum(rows * columns for rows, columns in levels)
    pooled = x.new_empty(n, channels * bins)
    where = torch.empty(n, bins, channels, dtype=torch.int16, device=x.device)
    with _on(x.device):
        _forward[n, triton.cdiv(channels, CHANNELS)](
            x, pooled, where, channels, height, width, *x.stride(),
            LEVELS=plan, COUNT=len(plan), BINS=bins, BLOCK=CHANNELS, TILES=tiles(height, width, plan), UNROLL=UNROLLED,
            num_warps=1,
        )  # fmt: skip
    return pooled, where


def backward(
    grad: Tensor,
    where: Tensor,
    shape: torch.Size,
    levels: tuple[Level, ...],
    sources: Mapping[Level, Level | None],
) -> Tensor:
    """The map's gradient (N, C, H, W), channels innermost, from the vector's (N, C * bins)."""
    n, channels, height, width = shape
    plan = geometry(levels, sources)
    out = torch.empty(shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
    totals = torch.empty(where.shape, dtype=torch.float32, device=grad.device)
    spans = tuple(
        (_most_bins_of_a_cell(height, rows), _most_bins_of_a_cell(width, columns))
        for rows, columns, *_ in plan
    )
    with _on(grad.device):
        _backward[n, triton.cdiv(channels, CHANNELS)](
            grad.contiguous(), where, totals, out, channels, height, width, *out.stride(),
            LEVELS=plan, COUNT=len(plan), BINS=where.shape[1], BLOCK=CHANNELS, TILE=LARGEST_TILE, SPANS=spans, num_warps=4,
        )  # fmt: skip
    return out


def tiles(height: int, width: int, plan: Geometry) -> tuple[tuple[int, bool], ...]:
    """For each level, how many cells of a bin are taken at once (a power of two), and whether these are all."""
    found = []
    for rows, columns, *_ in plan:
        cells = _longest_bin(height, rows) * _longest_bin(width, columns)
        tile = min(triton.next_power_of_2(cells), LARGEST_TILE)
        found.append((tile, cells <= tile))
    return tuple(found)


def _on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    # Triton starts kernels on the current device, wherever the tensors are.
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _longest_bin(size: int, n: int) -> int:
    """Cells of the longest of the ``n`` bins of an axis of ``size`` cells."""
    return max(-(-(i + 1) * size // n) - i * size // n for i in range(n))


def _most_bins_of_a_cell(size: int, n: int) -> int:
    """How many of the ``n`` bins of an axis of ``size`` cells have a cell in common, at most."""
    return max(-(-(cell + 1) * n // size) - cell * n // size for cell in range(size))
