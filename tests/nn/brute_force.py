"""Pooling by its words, cell by cell, in plain Python and numpy. Shares nothing with the package."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

RULES = ("adaptive", "sliding", "padded")


@cache
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


@cache
def bounds(size: int, n: int, rule: str) -> list[tuple[int, int]]:
    """First cell and one past the last cell of each bin."""
    bins = [cells_of_bin(size, n, i, rule) for i in range(n)]
    assert all(cells == list(range(cells[0], cells[-1] + 1)) for cells in bins)
    return [(cells[0], cells[-1] + 1) for cells in bins]


@cache
def membership(size: int, n: int, rule: str) -> np.ndarray:
    """(n, size): 1 where a cell belongs to a bin, else 0."""
    return np.array(
        [[c in cells_of_bin(size, n, i, rule) for c in range(size)] for i in range(n)], dtype=float
    )


def pool(
    x: np.ndarray, levels: list[tuple[int, int]], mode: str, rule: str, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool a map (C, H, W): the vector, and the gradient of ``sum(vector * weight)`` in the map."""
    channels, height, width = x.shape
    parts = []
    gradient = np.zeros_like(x)
    used = 0
    for rows, columns in levels:
        size = channels * rows * columns
        level_weight = weight[used : used + size].reshape(channels, rows, columns)
        used += size
        if mode == "max":
            level, level_gradient = _max(x, rows, columns, rule, level_weight)
        else:
            # Each bin is the sum over its rows of the sum over its columns.
            in_row, in_column = membership(height, rows, rule), membership(width, columns, rule)
            share = np.ones((rows, columns)) if mode == "sum" else np.outer(in_row.sum(1), in_column.sum(1))
            level = in_row @ x @ in_column.T / share
            level_gradient = in_row.T @ (level_weight / share) @ in_column
        parts.append(level.reshape(-1))
        gradient += level_gradient
    return np.concatenate(parts), gradient


def _max(
    x: np.ndarray, rows: int, columns: int, rule: str, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    channels, height, width = x.shape
    # Of each bin the first cell with the largest value, counted along the rows of the map.
    cells = []
    for plane in x:
        for top, bottom in bounds(height, rows, rule):
            for left, right in bounds(width, columns, rule):
                y, z = divmod(int(plane[top:bottom, left:right].argmax()), right - left)
                cells.append((top + y) * width + left + z)
    chosen = np.array(cells).reshape(channels, -1)
    gradient = np.zeros((channels, height * width))
    np.add.at(gradient, (np.arange(channels)[:, None], chosen), weight.reshape(channels, -1))
    return np.take_along_axis(x.reshape(channels, -1), chosen, 1), gradient.reshape(x.shape)
