"""Max pooling of thousands of overlapping windows of one map.

The maximum of a rectangle is that of four rectangles whose sides are powers of two and which cover it. So tables of
such maxima, each made from the one before, answer any bin in four look-ups, however large it is; and bins that windows
have in common are looked up once.
"""

from __future__ import annotations

import numpy as np
import torch

from sppcls.nn import Pyramid

_AT_ONCE = 32  # windows whose bins are gathered together, so that they stay in the processor's cache


def pool_max(feature_map: torch.Tensor, cells: np.ndarray, pyramid: Pyramid) -> torch.Tensor:
    """What ``pool_windows(..., mode="max", bin_rule="adaptive")`` gives, bit for bit.

    Args:
        feature_map: float (C, h, w).
        cells: int64 (K, 4): top, left, bottom, right of each window, inside the map.
        pyramid: the levels.

    Returns:
        (K, C * bins).
    """
    channels, height, width = feature_map.shape
    bins = np.concatenate([_bins(cells, level) for level in pyramid.levels], 1)  # (K, all bins, 4)
    packed = (bins * np.array([1, height + 1, (height + 1) ** 2, (height + 1) ** 2 * (width + 1)])).sum(2)
    _, places, inverse = np.unique(packed, return_index=True, return_inverse=True)
    values = _maxima(feature_map, bins.reshape(-1, 4)[places])
    where = torch.from_numpy(inverse.reshape(bins.shape[:2])).to(feature_map.device)
    pooled = values.new_empty(len(cells), pyramid.output_length(channels))
    slices = list(zip(pyramid.levels, pyramid.level_slices(channels), strict=True))
    for begin in range(0, len(cells), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        start = 0
        for (rows, columns), part in slices:
            count = rows * columns
            picked = values[where[some, start : start + count]]  # (windows, bins of the level, C)
            pooled[some, part].unflatten(1, (channels, count)).copy_(picked.transpose(1, 2))
            start += count
    return pooled


def _bins(cells: np.ndarray, level: tuple[int, int]) -> np.ndarray:
    """The bins of each window, (K, rows * columns, 4): top, bottom, left, right; floor and ceiling as in the appendix."""
    top, left, bottom, right = cells.T[:, :, None]
    edges = []
    for start, length, count in ((top, bottom - top, level[0]), (left, right - left, level[1])):
        step = np.arange(count)
        edges.append((start + step * length // count, start - (-(step + 1) * length // count)))
    (y0, y1), (x0, x1) = edges
    shape = (len(cells), level[0], level[1])
    parts = (y0[:, :, None], y1[:, :, None], x0[:, None], x1[:, None])
    return np.stack([np.broadcast_to(part, shape).reshape(len(cells), -1) for part in parts], 2)


def _maxima(feature_map: torch.Tensor, bins: np.ndarray) -> torch.Tensor:
    """The maximum of each bin (M, 4: top, bottom, left, right): (M, C)."""
    device = feature_map.device
    y0, y1, x0, x1 = bins.T
    high, wide = (np.frexp(length)[1] - 1 for length in (y1 - y0, x1 - x0))  # log2, rounded down
    result = feature_map.new_empty(len(bins), feature_map.shape[0])
    by_height = feature_map.permute(1, 2, 0).contiguous()  # (h, w, C): a look-up is one run of memory
    for i in range(int(high.max(initial=0)) + 1):
        if i:
            half = 1 << (i - 1)
            by_height = torch.maximum(by_height[:-half], by_height[half:])
        table = by_height
        of_height = high == i
        for j in range(int(wide[of_height].max(initial=-1)) + 1):
            if j:
                half = 1 << (j - 1)
                table = torch.maximum(table[:, :-half], table[:, half:])
            found = np.flatnonzero(of_height & (wide == j))
            if not len(found):
                continue
            flat = table.reshape(-1, table.shape[2])
            rows = (y0[found], y1[found] - (1 << i)) if i else (y0[found],)
            columns = (x0[found], x1[found] - (1 << j)) if j else (x0[found],)
            corners = [torch.from_numpy(y * table.shape[1] + x).to(device) for y in rows for x in columns]
            best = flat[corners[0]]
            for corner in corners[1:]:
                best = torch.maximum(best, flat[corner])
            result[torch.from_numpy(found).to(device)] = best
    return result
