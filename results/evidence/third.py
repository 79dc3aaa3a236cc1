"""The arms of plan3.md and their tests: most are those of second.py, with new seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from arms import MAIN, Arm, Plan, Test
from second import RANGE, SECOND

HUGE = 448
KNOWN = {arm.name: arm for _, block in SECOND.blocks for arm in block}
# One pooling of each kind that takes any size.
KNOWN |= {name: replace(KNOWN[name], any_size=True) for name in ("mean1", "bins21")}
BLOCKS = tuple(
    tuple(KNOWN[name] for name in names)
    for names in (
        ("own", "mean1", "one", "bins21", "max1", "bins5", "bins14", "bins30"),
        ("resnet_own", "resnet_bins21"),
        ("half_own", "half_one"),
        ("random", "half_random"),
        ("wide", "growing"),
    )
)
SEEDS = (range(20, 23), range(23, 25))


def tests(arm: Arm) -> Iterator[Test]:
    sizes = RANGE if arm.any_size else (MAIN,)
    if arm.name in ("one", "random"):
        sizes = (*sizes, HUGE)
    for size in sizes:
        yield Test("crop", "center", size, size)


THIRD = Plan(tuple(product(SEEDS, BLOCKS)), tests, "3")
