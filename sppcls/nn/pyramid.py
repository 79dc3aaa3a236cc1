"""The pyramid as a value: its levels, its bins, and which cells of a feature map each bin covers.

A *level* of ``h x w`` bins divides a feature map into ``h`` rows and ``w`` columns of bins; a *pyramid* is a
list of levels. Three rules say which cells of an axis of ``a`` cells belong to bin ``i`` of ``n``:

``adaptive``
    cells ``[floor(i a / n), ceil((i + 1) a / n))``: the definition in the appendix of He et al. 2015
    ("Implementation of Pooling Bins"). Every cell is covered and any ``a >= 1`` works; with ``a < n`` bins
    repeat cells.
``sliding``
    the first ``n`` windows of length ``ceil(a / n)`` and stride ``floor(a / n)`` (He et al. 2015, sec. 2.3).
    The same as ``adaptive`` when ``a mod n`` is 0 or 1; otherwise cells at the right and bottom are left out.
    Needs ``a >= n``.
``padded``
    windows of length and stride ``k = ceil(a / n)`` over the axis padded to ``n k`` cells, the larger half of
    the padding in front (what most public ports do). Padding is never a value: a bin is the part of its
    window that lies on the map, and a window that lies on padding only is moved to the nearest cell. Any ``a
    >= 1`` works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Optional, TypeAlias

import torch
from torch import Tensor

from sppcls.registry import BIN_RULES

Level: TypeAlias = tuple[int, int]
"""Number of bins of a level: (rows, columns)."""

CellRange: TypeAlias = tuple[int, int]
"""Cells of one axis that a bin covers: (first, one past the last)."""


def bin_bounds(
    size: int,
    n: int,
    rule: str,
    device: Optional[torch.device] = None,  # noqa: UP045  # as TorchScript reads it
) -> tuple[Tensor, Tensor]:
    """First cell and one past the last cell of each of the ``n`` bins of an axis of ``size`` cells.

    Two int64 tensors of length ``n``, on ``device`` (None: the CPU). ``size`` may be symbolic, so that exported
    programs keep it dynamic. TorchScript can compile it.
    """
    i = torch.arange(n, device=device)
    if rule == "adaptive":
        # Written without negative numbers: exporters translate // to a division that truncates.
        return i * size // n, ((i + 1) * size + (n - 1)) // n
    window = (size + n - 1) // n
    if rule == "sliding":
        first = i * (size // n)
        return first, first + window
    first = i * window - (n * window - size + 1) // 2
    return first.clamp(0, size - 1), (first + window).clamp(1, size)


def check_bin_rule(rule: str) -> None:
    """Raise ValueError unless ``rule`` is one of :data:`BIN_RULES`."""
    if rule not in BIN_RULES:
        raise ValueError(f"bin_rule={rule!r}: choose from {', '.join(BIN_RULES)}")


@dataclass(frozen=True, init=False)
class Pyramid:
    """An immutable list of levels. ``Pyramid([6, 3, 2, 1])`` is the paper's 50-bin pyramid (sec. 3.1.2).

    A level of h x w bins divides a map into h rows and w columns of bins. Bin ``i`` of ``n`` on an axis of ``a``
    cells has, by rule:

    - ``adaptive``: cells ``[floor(i a / n), ceil((i + 1) a / n))``, the paper's appendix; any ``a`` from 1.
    - ``sliding``: the first ``n`` windows of length ``ceil(a / n)`` and stride ``floor(a / n)``, sec. 2.3; ``a >= n``.
    - ``padded``: windows of length and stride ``ceil(a / n)`` over the padded axis, without its padding; any ``a``.

    Args:
        levels: each an int ``n`` (n x n bins) or a pair (rows, columns).

    Raises:
        ValueError: no levels, or a level that is not made of positive whole numbers.

    Examples:
        >>> pyramid = Pyramid([6, 3, 2, 1])
        >>> pyramid.bins, pyramid.output_length(256)
        (50, 12800)
        >>> pyramid.coverage((10, 10), "sliding")
        [0.49, 1.0, 1.0, 1.0]
    """

    levels: tuple[Level, ...]

    def __init__(self, levels: Iterable[int | Sequence[int]] | Pyramid) -> None:
        pairs = levels.levels if isinstance(levels, Pyramid) else _as_levels(levels)
        object.__setattr__(self, "levels", pairs)  # how a frozen dataclass sets its own fields

    @property
    def bins_per_level(self) -> tuple[int, ...]:
        """Number of bins of each level."""
        return tuple(rows * columns for rows, columns in self.levels)

    @property
    def bins(self) -> int:
        """Number of bins of all levels together."""
        return sum(self.bins_per_level)

    def output_length(self, channels: int) -> int:
        """Length of the vector pooled from a map of ``channels`` channels."""
        return channels * self.bins

    def level_slices(self, channels: int) -> list[slice]:
        """Per level its part of the vector pooled from a map of ``channels`` channels."""
        ends = list(accumulate(channels * bins for bins in self.bins_per_level))
        return [slice(start, end) for start, end in pairwise([0, *ends])]

    def cell_ranges(
        self, size: tuple[int, int], rule: str = "adaptive"
    ) -> list[tuple[list[CellRange], list[CellRange]]]:
        """Per level the cell ranges of its rows of bins and of its columns of bins, on a (height, width) map.

        Raises:
            ValueError: an empty map, an unknown rule, or ``sliding`` bins on a map smaller than a level.
        """
        self.check_map_size(size, rule)
        return [
            (_ranges(size[0], rows, rule), _ranges(size[1], columns, rule)) for rows, columns in self.levels
        ]

    def coverage(self, size: tuple[int, int], rule: str = "adaptive") -> list[float]:
        """Per level the share (0..1) of the cells of a (height, width) map that at least one bin covers.

        Raises as :meth:`cell_ranges` does.
        """
        return [
            _covered(rows) * _covered(columns) / (size[0] * size[1])
            for rows, columns in self.cell_ranges(size, rule)
        ]

    def agrees(self, size: tuple[int, int]) -> list[bool]:
        """Per level whether the sliding windows of sec. 2.3 are the appendix bins on a (h, w) map."""
        return [
            all(
                a >= n and _ranges(a, n, "sliding") == _ranges(a, n, "adaptive")
                for a, n in zip(size, level, strict=True)
            )
            for level in self.levels
        ]

    def larger_than(self, size: tuple[int, int]) -> list[Level]:
        """The levels with more rows or columns of bins than a (height, width) map has cells."""
        return [level for level in self.levels if level[0] > size[0] or level[1] > size[1]]

    def check_map_size(self, size: tuple[int, int], rule: str = "adaptive") -> None:
        """Raise ValueError, naming level and size, if a (height, width) map cannot be pooled by this rule."""
        check_bin_rule(rule)
        height, width = size
        if height < 1 or width < 1:
            raise ValueError(f"a {height}x{width} map has no cells to pool")
        if rule == "sliding":
            for rows, columns in self.larger_than(size):
                raise ValueError(
                    f"level {rows}x{columns} with bin_rule='sliding' needs a map of at least {rows}x{columns} "
                    f"cells, got {height}x{width}"
                )

    @property
    def label(self) -> str:
        """Short name such as ``6-3-2-1``; levels that are not square as ``3x4``."""
        return "-".join(str(h) if h == w else f"{h}x{w}" for h, w in self.levels)

    def __str__(self) -> str:
        return self.label


def _as_levels(levels: Iterable[int | Sequence[int]]) -> tuple[Level, ...]:
    allowed = "give whole numbers n >= 1 (n x n bins) or pairs (rows, columns), at least one level"
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise ValueError(f"levels={levels!r}: {allowed}")
    given = list(levels)
    result = []
    for level in given:
        pair = (level, level) if isinstance(level, int) else level
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"levels={given}: {level!r} is not a level; {allowed}")
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in pair):
            raise ValueError(f"levels={given}: {level!r} is not a level; {allowed}")
        result.append((pair[0], pair[1]))
    if not result:
        raise ValueError(f"levels={given}: {allowed}")
    return tuple(result)


def _ranges(size: int, n: int, rule: str) -> list[CellRange]:
    first, stop = bin_bounds(size, n, rule)
    return list(zip(first.tolist(), stop.tolist(), strict=True))


def _covered(ranges: list[CellRange]) -> int:
    return len({cell for first, stop in ranges for cell in range(first, stop)})
