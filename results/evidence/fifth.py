"""The arms of plan5.md: what the fourth plan had no time for, with new seeds and at one tested size."""

from __future__ import annotations

from collections.abc import Iterator

from arms import MAIN, Arm, Plan, Test
from fourth import FLOWERS, MEANS, TRANSFER
from third import KNOWN

RESNETS = (KNOWN["resnet_own"], MEANS, KNOWN["resnet_bins21"])
BLOCKS = (
    (range(40, 43), FLOWERS),
    (range(40, 43), RESNETS),
    (range(43, 44), FLOWERS),
    (range(43, 44), RESNETS),
)


def tests(arm: Arm) -> Iterator[Test]:
    yield Test("crop", "center", MAIN, MAIN)


FIFTH = Plan(BLOCKS, tests, "5", TRANSFER)
