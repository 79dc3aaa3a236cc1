"""Pooling by its words, cell by cell, in plain Python and numpy. Shares nothing with the package."""

from __future__ import annotations

import math

import numpy as np

RULES = ("adaptive", "sliding", "padded")


def cells_of_bin(size: int, n: int, i: int, rule: str) -> list[int]:
    """The cells of an axis of ``size`` cells that bin ``i`` of ``n`` covers."""
    if rule == "adaptive":
        # Every cell [c, c + 1) that the i-th n-th of the axis touches.
        return [c for c in range(size) if (c + 1) * n > i * size and c * n < (i + 1) * size]
    if rule == "sliding":
        start = i * math.floor(size / n)
        return list(range(start, start + math.ceil(size / n)))
    window = math.ceil(size / n)
    padding = n * window - size
    front = padding - padding // 2
    axis: list[int | None] = [None] * front + list(range(size)) + [None] * (padding - front)
    inside = [c for c in axis[i * window : (i + 1) * window] if c is not None]
    if inside:
        return inside
    return [0] if (i + 1) * window <= front else [size - 1]


def pool(
    x: np.ndarray, levels: list[tuple[int, int]], mode: str, rule: str, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool a map (C, H, W): the vector, and the gradient of ``sum(vector * weight)`` in the map."""
    channels, height, width = x.shape
    parts = []
    gradient = np.zeros_like(x)
    used = 0
    for rows, columns in levels:
        row_cells = [cells_of_bin(height, rows, i, rule) for i in range(rows)]
        column_cells = [cells_of_bin(width, columns, j, rule) for j in range(columns)]
        level = np.empty((channels, rows, columns))
        level_weight = weight[used : used + level.size].reshape(level.shape)
        used += level.size
        for i, row in enumerate(row_cells):
            top, bottom = row[0], row[-1] + 1
            for j, column in enumerate(column_cells):
                left, right = column[0], column[-1] + 1
                window = x[:, top:bottom, left:right].reshape(channels, -1)
                if mode == "max":
                    best = window.argmax(1)
                    level[:, i, j] = window[np.arange(channels), best]
                    y, z = np.divmod(best, right - left)
                    gradient[np.arange(channels), top + y, left + z] += level_weight[:, i, j]
                else:
                    share = 1 if mode == "sum" else window.shape[1]
                    level[:, i, j] = window.sum(1) / share
                    gradient[:, top:bottom, left:right] += level_weight[:, i, j, None, None] / share
        parts.append(level.reshape(-1))
    return np.concatenate(parts), gradient
