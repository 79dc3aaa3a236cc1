"""The arms of plan4.md and their tests: those of the earlier plans with new seeds, and new photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from arms import MAIN, Arm, Plan, Test, Transfer, enlarged
from second import RANGE, resnet
from third import KNOWN

MEANS = resnet("resnet_means21", "pyramid=l421", 21, "pyramid.mode=avg")


def elsewhere(name: str, photos: str) -> Arm:
    """A known arm, trained on other photos."""
    prefix = "flowers" if photos == "flowers5" else photos
    return replace(KNOWN[name], name=f"{prefix}_{name}", trained_on=photos)


FLOWERS = tuple(elsewhere(name, "flowers5") for name in ("one", "wide"))
BLOCKS = (
    (range(30, 35), (KNOWN["one"], KNOWN["wide"], KNOWN["growing"])),
    (range(30, 33), tuple(elsewhere(name, "both") for name in ("one", "own", "mean1", "wide"))),
    (range(30, 33), FLOWERS),
    (range(30, 33), (KNOWN["resnet_own"], MEANS, KNOWN["resnet_bins21"])),
)


def tests(arm: Arm) -> Iterator[Test]:
    for size in RANGE if arm.any_size and arm not in FLOWERS else (MAIN,):
        yield Test("crop", "center", size, size)
    if arm.name == "one":
        yield from map(enlarged, RANGE[:2])


# Some classes of Caltech have 29 and 30 photos, of which some are to test on; fc7 would take half as long again.
TRANSFER = Transfer(tuple(arm.name for arm in FLOWERS), "caltech79", ("spp", "fc6"), 25)
FOURTH = Plan(BLOCKS, tests, "4", TRANSFER)
