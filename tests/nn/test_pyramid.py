from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from brute_force import RULES, cells_of_bin

from sppcls.nn import Pyramid

# One axis of a cells: for n = 2, 3, 4, 6 the sec. 2.3 window, its stride, the outputs of a literal max
# pooling with these (floor and ceil mode), the cells that the first n windows cover, and * where that is
# not the appendix bins.
SLIDING = """
5 3,2,2,2,5 2,1,4,4,4* 2,1,4,4,5 -
6 3,3,2,2,6 2,2,3,3,6 2,1,5,5,5* 1,1,6,6,6
7 4,3,2,2,7 3,2,3,3,7 2,1,6,6,5* 2,1,6,6,7
8 4,4,2,2,8 3,2,3,4,7* 2,2,4,4,8 2,1,7,7,7*
9 5,4,2,2,9 3,3,3,3,9 3,2,4,4,9 2,1,8,8,7*
10 5,5,2,2,10 4,3,3,3,10 3,2,4,5,9* 2,1,9,9,7*
11 6,5,2,2,11 4,3,3,4,10* 3,2,5,5,9* 2,1,10,10,7*
12 6,6,2,2,12 4,4,3,3,12 3,3,4,4,12 2,2,6,6,12
13 7,6,2,2,13 5,4,3,3,13 4,3,4,4,13 3,2,6,6,13
14 7,7,2,2,14 5,4,3,4,13* 4,3,4,5,13* 3,2,6,7,13*
15 8,7,2,2,15 5,5,3,3,15 4,3,4,5,13* 3,2,7,7,13*
16 8,8,2,2,16 6,5,3,3,16 4,4,4,4,16 3,2,7,8,13*
17 9,8,2,2,17 6,5,3,4,16* 5,4,4,4,17 3,2,8,8,13*
18 9,9,2,2,18 6,6,3,3,18 5,4,4,5,17* 3,3,6,6,18
19 10,9,2,2,19 7,6,3,3,19 5,4,4,5,17* 4,3,6,6,19
20 10,10,2,2,20 7,6,3,4,19* 5,5,4,4,20 4,3,6,7,19*
21 11,10,2,2,21 7,7,3,3,21 6,5,4,4,21 4,3,6,7,19*
22 11,11,2,2,22 8,7,3,3,22 6,5,4,5,21* 4,3,7,7,19*
23 12,11,2,2,23 8,7,3,4,22* 6,5,4,5,21* 4,3,7,8,19*
24 12,12,2,2,24 8,8,3,3,24 6,6,4,4,24 4,4,6,6,24
25 13,12,2,2,25 9,8,3,3,25 7,6,4,4,25 5,4,6,6,25
26 13,13,2,2,26 9,8,3,4,25* 7,6,4,5,25* 5,4,6,7,25*
27 14,13,2,2,27 9,9,3,3,27 7,6,4,5,25* 5,4,6,7,25*
28 14,14,2,2,28 10,9,3,3,28 7,7,4,4,28 5,4,6,7,25*
29 15,14,2,2,29 10,9,3,4,28* 8,7,4,4,29 5,4,7,7,25*
30 15,15,2,2,30 10,10,3,3,30 8,7,4,5,29* 5,5,6,6,30
31 16,15,2,2,31 11,10,3,3,31 8,7,4,5,29* 6,5,6,6,31
32 16,16,2,2,32 11,10,3,4,31* 8,8,4,4,32 6,5,6,7,31*
33 17,16,2,2,33 11,11,3,3,33 9,8,4,4,33 6,5,6,7,31*
34 17,17,2,2,34 12,11,3,3,34 9,8,4,5,33* 6,5,6,7,31*
35 18,17,2,2,35 12,11,3,4,34* 9,8,4,5,33* 6,5,6,7,31*
36 18,18,2,2,36 12,12,3,3,36 9,9,4,4,36 6,6,6,6,36
37 19,18,2,2,37 13,12,3,3,37 10,9,4,4,37 7,6,6,6,37
38 19,19,2,2,38 13,12,3,4,37* 10,9,4,5,37* 7,6,6,7,37*
39 20,19,2,2,39 13,13,3,3,39 10,9,4,5,37* 7,6,6,7,37*
40 20,20,2,2,40 14,13,3,3,40 10,10,4,4,40 7,6,6,7,37*
"""


def _rows() -> list[Any]:
    rows = []
    for line in SLIDING.strip().splitlines():
        a, *cells = line.split()
        rows += [
            pytest.param(int(a), n, cell, id=f"{a}-{n}") for n, cell in zip((2, 3, 4, 6), cells, strict=True)
        ]
    return rows


@pytest.mark.parametrize(("a", "n", "expected"), _rows())
def test_sliding_windows_are_those_of_the_table(a: int, n: int, expected: str) -> None:
    pyramid = Pyramid([(n, 1)])
    if expected == "-":
        with pytest.raises(ValueError, match=rf"level {n}x1 with bin_rule='sliding' .* got {a}x1"):
            pyramid.cell_ranges((a, 1), "sliding")
        assert pyramid.agrees((a, 1)) == [False]
        return
    window, stride, floor, ceil, covered = (int(value) for value in expected.rstrip("*").split(","))
    ranges = pyramid.cell_ranges((a, 1), "sliding")[0][0]
    assert ranges == [(i * stride, i * stride + window) for i in range(n)]
    assert pyramid.coverage((a, 1), "sliding") == [covered / a]
    assert pyramid.agrees((a, 1)) == [not expected.endswith("*")]
    # Why the count must be fixed at n: what a pooling with this window and stride gives by itself.
    axis = torch.zeros(1, 1, a)
    assert F.max_pool1d(axis, window, stride).shape[2] == floor
    assert F.max_pool1d(axis, window, stride, ceil_mode=True).shape[2] == ceil


@pytest.mark.parametrize(
    ("levels", "sizes"),
    [
        ([6, 3, 2, 1], [6, 7, 12, 13, 18, 19, 24, 25, 30, 31, 36, 37]),
        ([4, 3, 2, 1], [9, 12, 13, 16, 21, 24, 25, 28, 33, 36, 37, 40]),
        ([4, 2, 1], [5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29, 32, 33, 36, 37, 40]),
    ],
)
def test_whole_pyramids_agree_on_these_maps_only(levels: list[int], sizes: list[int]) -> None:
    assert [a for a in range(5, 41) if all(Pyramid(levels).agrees((a, a)))] == sizes


@pytest.mark.parametrize("rule", RULES)
def test_cell_ranges_are_those_of_brute_force(rule: str) -> None:
    for a in range(1, 41):
        for n in range(1, 8):
            if rule == "sliding" and a < n:
                continue
            rows, columns = Pyramid([(n, 1)]).cell_ranges((a, 3), rule)[0]
            assert [list(range(*cells)) for cells in rows] == [cells_of_bin(a, n, i, rule) for i in range(n)]
            assert columns == [(0, 3)]


def test_figures_of_the_paper() -> None:
    paper = Pyramid([6, 3, 2, 1])
    assert paper.bins == 50
    assert paper.bins_per_level == (36, 9, 4, 1)
    assert paper.output_length(256) == 12_800
    assert Pyramid([4, 3, 2, 1]).bins == 30
    assert Pyramid([4, 2, 1]).output_length(256) == 21 * 256
    # At 180 pixels ZF-5 gives 10x10 cells, of which the first 6x6 windows of sec. 2.3 see 49.
    assert paper.coverage((10, 10), "sliding") == [0.49, 1.0, 1.0, 1.0]
    assert paper.coverage((10, 10)) == [1.0] * 4


def test_slices_of_the_levels_counted_by_hand() -> None:
    # Two channels: 2 * 3 * 4 = 24 numbers, then 2 * 2 * 2 = 8, then 2.
    assert Pyramid([(3, 4), 2, 1]).level_slices(2) == [slice(0, 24), slice(24, 32), slice(32, 34)]
    assert Pyramid([6, 3, 2, 1]).level_slices(256)[-1] == slice(12_544, 12_800)


def test_is_a_value() -> None:
    pyramid = Pyramid([6, (3, 4), 1])
    assert pyramid.levels == ((6, 6), (3, 4), (1, 1))
    assert pyramid == Pyramid(pyramid) == Pyramid([[6, 6], (3, 4), 1])
    assert len({pyramid, Pyramid([6, (3, 4), 1]), Pyramid([6])}) == 2
    assert pyramid.label == str(pyramid) == "6-3x4-1"
    with pytest.raises(AttributeError):
        pyramid.levels = ((1, 1),)  # type: ignore[misc]


def test_names_levels_larger_than_the_map() -> None:
    assert Pyramid([6, (2, 5), 1]).larger_than((4, 6)) == [(6, 6)]
    assert Pyramid([6, (2, 5), 1]).larger_than((4, 4)) == [(6, 6), (2, 5)]


@pytest.mark.parametrize(
    "levels", [[], [0], [-1], [2.0], [True], ["3"], "321", 3, None, [(1, 2, 3)], [(0, 2)], [(2, "2")]]
)
def test_refuses_what_is_not_a_list_of_levels(levels: Any) -> None:
    with pytest.raises(ValueError, match=re.escape("levels=")):
        Pyramid(levels)


def test_refuses_empty_maps_and_unknown_rules() -> None:
    with pytest.raises(ValueError, match="0x5 map has no cells"):
        Pyramid([1]).cell_ranges((0, 5))
    with pytest.raises(ValueError, match="bin_rule='ceil': choose from adaptive, sliding, padded"):
        Pyramid([1]).coverage((5, 5), "ceil")
