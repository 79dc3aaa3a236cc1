"""What run.py has written, and what is made of it before anything is compared."""

from __future__ import annotations

import base64
import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from arms import MAIN
from second import RANGE

from sppcls.comparison.statistics import mean_and_std

HERE = Path(__file__).resolve().parent
FEWEST = 3  # seeds
ENDINGS = {1: "", 2: "2", 3: "3", 4: "4", 5: "5"}
"""Of the names of a plan's files."""


class Side(NamedTuple):
    """What is compared: the networks of an arm in a test."""

    arm: str
    test: str
    size: int

    def __str__(self) -> str:
        return f"`{self.arm}`, {self.test}" + (f" {self.size}" if self.size else "")


class Measured(NamedTuple):
    """Errors in per cent, and (images,) of right answers (1) and wrong ones (0), by seed."""

    errors: dict[Side, dict[int, float]]
    right: dict[Side, dict[int, np.ndarray]]

    def enough(self, side: Side) -> bool:
        """Whether there are seeds enough to speak of."""
        return len(self.errors.get(side, {})) >= FEWEST

    def arms(self) -> list[str]:
        return list(dict.fromkeys(side.arm for side in self.errors))

    def sizes(self, test: str, arm: str | None = None) -> list[int]:
        """Tested sizes, of one arm those with seeds enough."""
        return sorted(
            {s.size for s in self.errors if s.test == test and (arm is None or (s.arm == arm and self.enough(s)))}
        )  # fmt: skip


def crop(arm: str, size: int = MAIN) -> Side:
    return Side(arm, "crop", size)


def over_range(arm: str) -> Side:
    """The mean over the five sizes."""
    return Side(arm, f"mean of {RANGE[0]} to", RANGE[-1])


def read(name: str) -> list[dict[str, Any]]:
    path = HERE / name
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def load(plan: int) -> Measured:
    """The tests of a plan's runs, and the mean over the five sizes of those that have all five."""
    found = Measured({}, {})
    for row in read(f"errors{ENDINGS[plan]}.csv"):
        side, seed = Side(row["arm"], row["test"], int(row["size"])), int(row["seed"])
        packed = np.frombuffer(base64.b85decode(row["right"]), np.uint8)
        bits = np.unpackbits(packed, count=int(row["images"])).astype(bool)
        assert abs(100 * (1 - bits.mean()) - float(row["top1_error"])) < 1e-3
        found.errors.setdefault(side, {})[seed] = float(row["top1_error"])
        found.right.setdefault(side, {})[seed] = bits
    for arm in found.arms():
        five = [crop(arm, size) for size in RANGE]
        if all(side in found.errors for side in five):
            side, seeds = over_range(arm), found.errors[five[0]]
            found.errors[side] = {s: float(np.mean([found.errors[one][s] for one in five])) for s in seeds}
            found.right[side] = {s: np.mean([found.right[one][s] for one in five], axis=0) for s in seeds}
    return found


def load_transfer(plan: int) -> Measured:
    """Mean error of the ten splits, which share their photos; the layer stands where the test does."""
    found = Measured({}, {})
    for row in read(f"transfer{ENDINGS[plan]}.csv"):
        side = Side(row["arm"], f"{row['layer']} {row['view']}", 0)
        found.errors.setdefault(side, {})[int(row["seed"])] = float(row["top1_error"])
    return found


def mean(values: dict[int, float]) -> float:
    return mean_and_std(list(values.values()))[0]


def flat(found: Measured, arm: str, within: float = 3.0) -> list[int]:
    """The tested sizes at which an arm's mean error is within so many points of its best."""
    means = {s.size: mean(e) for s, e in found.errors.items() if s.arm == arm and s.test == "crop"}
    return sorted(size for size, error in means.items() if error <= min(means.values()) + within)
