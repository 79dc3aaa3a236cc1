"""What counts as shown: the tests of the plans, over the seeds and over the photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from rows import FEWEST, Measured, Side
from scipy.special import stdtr, stdtrit

from sppcls.comparison.statistics import LEVEL, bootstrap_over_images, holm, paired_over_seeds


class Figure(NamedTuple):
    """A weighted sum of sides, such as one side, the mean of several or the difference of two."""

    name: str
    parts: tuple[tuple[Side, float], ...]


class Comparison(NamedTuple):
    """Second minus first.

    With a ``design``, the spread from seed to seed is taken from all its sides together (plan3.md); without one, from
    the difference in each seed, which is the paired t test.
    """

    first: Figure
    second: Figure
    design: tuple[Side, ...] = ()

    @property
    def weights(self) -> dict[Side, float]:
        found: dict[Side, float] = {}
        for sign, figure in ((-1.0, self.first), (1.0, self.second)):
            for side, weight in figure.parts:
                found[side] = found.get(side, 0.0) + sign * weight
        return found


@dataclass(frozen=True)
class Found:
    """A comparison's outcome, in points; intervals are None where nothing gives them."""

    asked: Comparison
    seeds: int
    mean: float
    over_seeds: tuple[float, float] | None
    p: float | None
    over_photos: tuple[float, float] | None
    corrected: float = 1.0

    @property
    def shown(self) -> bool:
        low, high = self.over_photos or (1, 1)  # transfer has no photos of its own
        return self.corrected <= LEVEL and not low <= 0 <= high


def alone(side: Side) -> Figure:
    return Figure(str(side), ((side, 1.0),))


def pair(first: Side, second: Side, design: Sequence[Side] = ()) -> Comparison:
    return Comparison(alone(first), alone(second), tuple(design))


def difference(first: Side, second: Side) -> Figure:
    """How much the second is worse than the first."""
    name = f"`{second.arm}` minus `{first.arm}`, {second.test} {second.size}"
    return Figure(name, ((second, 1.0), (first, -1.0)))


def average(name: str, sides: Sequence[Side]) -> Figure:
    return Figure(name, tuple((side, 1 / len(sides)) for side in sides))


def pooled(errors: np.ndarray, weights: np.ndarray) -> tuple[float, tuple[float, float] | None, float | None]:
    """(weighted sum of means, its 95 % t interval, p) in a two-way analysis of variance without repetition.

    Args:
        errors: (sides, seeds).
        weights: (sides,), of sum 0.
    """
    sides, seeds = errors.shape
    rest = errors - errors.mean(1, keepdims=True) - errors.mean(0, keepdims=True) + errors.mean()
    freedom = (sides - 1) * (seeds - 1)
    value = float(weights @ errors.mean(1))
    error = math.sqrt((rest**2).sum() / freedom * (weights**2).sum() / seeds)
    if error < 1e-9:
        return value, None, None
    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    return value, (value - half, value + half), 2 * float(stdtr(freedom, -abs(value) / error))


def judge_one(asked: Comparison, measured: Measured) -> Found | None:
    """None with fewer than three seeds."""
    weights = asked.weights
    design = [side for side in dict.fromkeys([*asked.design, *weights]) if measured.enough(side)]
    if not weights.keys() <= set(design):
        return None
    common = set.intersection(*(set(measured.errors[side]) for side in design))
    if len(common) < FEWEST:
        return None
    seeds = sorted(common)
    if asked.design:
        table = np.array([[measured.errors[side][seed] for seed in seeds] for side in design])
        value, interval, p = pooled(table, np.array([weights.get(side, 0.0) for side in design]))
    else:
        by_seed = {
            seed: sum(w * measured.errors[side][seed] for side, w in weights.items()) for seed in seeds
        }
        paired = paired_over_seeds(dict.fromkeys(seeds, 0.0), by_seed)
        assert paired is not None
        value, interval, p = paired.mean, paired.interval, paired.p
    photos = None
    if weights.keys() <= measured.right.keys():
        right = [
            [np.sum([abs(w) * measured.right[side][seed] for side, w in weights.items() if w * sign > 0], axis=0) for seed in seeds]
            for sign in (-1, 1)
        ]  # fmt: skip
        photos = bootstrap_over_images(right[0], right[1])
    return Found(asked, len(seeds), value, interval, p, photos)


def judge(family: Sequence[Comparison], measured: Measured) -> list[Found]:
    """The comparisons that have seeds enough, corrected as one family."""
    found = [one for asked in family if (one := judge_one(asked, measured))]
    corrected = holm([1.0 if one.p is None else one.p for one in found])
    return [replace(one, corrected=p) for one, p in zip(found, corrected, strict=True)]


def between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else "{:+.1f} to {:+.1f}".format(*interval)


def table(found: Sequence[Found]) -> list[list[object]]:
    """The rows of a family's table."""
    rows: list[list[object]] = [
        ["first", "second", "seeds", "second - first, points", "95 % over seeds", "95 % over photos", "p", f"p, as one of {len(found)}", "shown"]
    ]  # fmt: skip
    for one in found:
        rows.append(
            [
                one.asked.first.name, one.asked.second.name, one.seeds, f"{one.mean:+.1f}", between(one.over_seeds),
                between(one.over_photos), "" if one.p is None else f"{one.p:.2g}", f"{one.corrected:.2g}",
                "yes" if one.shown else "no",
            ]
        )  # fmt: skip
    return rows
