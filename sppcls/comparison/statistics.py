"""Tests for paired results: over seeds, and over images. Errors and differences are in per cent and points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from scipy.special import bdtr, ndtri, stdtr, stdtrit

from sppcls.comparison.folds import overlap

RESAMPLES = 10_000
LEVEL = 0.05
POWER = 0.8  # how often a true difference is to be shown, where the size of an experiment is asked


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (divided by n - 1); None for the second with one value."""
    return fmean(values), stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class SeedDifference:
    """Second minus first over the seeds that both have.

    Attributes:
        by_seed: the difference of each seed, in points.
        mean, std: over the seeds; std is None with one.
        interval: 95 % t interval of the mean, (low, high); None with one seed, and where all differences are equal, as
            no spread can be told from them.
        p: of the paired t test; None where there is no interval.
    """

    by_seed: dict[int, float]
    mean: float
    std: float | None
    interval: tuple[float, float] | None
    p: float | None


def interval_half_width(count: int, shared: float = 0.0) -> float:
    """Half the 95 % t interval of a mean of ``count`` values, in standard deviations of these values.

    Args:
        count: at least 2.
        shared: of folds, what their training images have in common: :func:`sppcls.comparison.folds.overlap`.
    """
    return float(stdtrit(count - 1, 1 - LEVEL / 2)) * _error_of_mean(count, shared)


def _error_of_mean(count: int, shared: float) -> float:
    return math.sqrt(1 / count + shared)


def smallest_shown(std: float, count: int, level: float = LEVEL, shared: float = 0.0) -> float:
    """The true difference, in points, that a paired t test of ``count`` seeds shows four times in five.

    Args:
        std: of the difference from seed to seed, in points.
        count: number of seeds, at least 2.
        level: of the test, two-sided.
        shared: as of :func:`interval_half_width`.
    """
    quantiles = stdtrit(count - 1, 1 - level / 2) + stdtrit(count - 1, POWER)
    return float(quantiles) * std * _error_of_mean(count, shared)


def seeds_needed(std: float, points: float, level: float = LEVEL) -> int:
    """The fewest seeds with :func:`smallest_shown` at most ``points``."""
    high = 2
    while smallest_shown(std, high, level) > points:
        high *= 2
    return next(n for n in range(max(2, high // 2), high + 1) if smallest_shown(std, n, level) <= points)


def images_needed(interval: tuple[float, float], count: int, points: float) -> int:
    """Images whose 95 % interval would exclude 0 four times in five, were the true difference ``points``.

    Args:
        interval: 95 % interval of the difference over ``count`` images.
        count: at least 1.
        points: in points.
    """
    z = float(ndtri(1 - LEVEL / 2))
    standard_error = (interval[1] - interval[0]) / 2 / z
    return math.ceil(count * ((z + float(ndtri(POWER))) * standard_error / points) ** 2)


def paired_over_seeds(first: Mapping[int, float], second: Mapping[int, float]) -> SeedDifference | None:
    """Paired t interval and test over the seeds that both have; None if there is no such seed.

    Folds of a cross-validation count as seeds, with the wider interval that their common training images ask for.
    """
    by_seed = {seed: second[seed] - first[seed] for seed in sorted(first.keys() & second.keys())}
    if not by_seed:
        return None
    mean, std = mean_and_std(list(by_seed.values()))
    # Errors are shares of a number of images: differences this close are equal but for rounding.
    if std is None or std < 1e-9:
        return SeedDifference(by_seed, mean, std, None, None)
    shared = overlap(by_seed)
    half = interval_half_width(len(by_seed), shared) * std
    interval = mean - half, mean + half
    p = 2 * float(stdtr(len(by_seed) - 1, -abs(mean) / (std * _error_of_mean(len(by_seed), shared))))
    return SeedDifference(by_seed, mean, std, interval, p)


@dataclass(frozen=True)
class McNemar:
    """Exact test of McNemar for two networks on the same images.

    Attributes:
        only_first, only_second: images that only the first, or only the second, got right.
        p: two-sided.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """The exact two-sided test; ``first`` and ``second`` are bool (N,), right or wrong, of the same images."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total = only_first + only_second
    # Half of the images that they disagree on should fall to each, were they equally good.
    p = 1.0 if not total else min(1.0, 2 * float(bdtr(min(only_first, only_second), total, 0.5)))
    return McNemar(only_first, only_second, p)


def bootstrap_over_images(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of the difference in error, second minus first, over images drawn with replacement.

    Args:
        first, second: right or wrong, bool (N,) for each seed, in the same order of images.
        resamples: number of draws.
        seed: of the draws.
    """
    gain = np.mean([a.astype(float) - b for a, b in zip(first, second, strict=True)], axis=0)
    # Few values occur, so their counts in a resample are drawn at once, which is the same thing.
    values, counts = np.unique(gain.round(9), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(gain), counts / len(gain), size=resamples)
    low, high = np.percentile(100 * (drawn @ values) / len(gain), [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return float(low), float(high)


def interval_of_draws(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> tuple[float, float]:
    """As :func:`bootstrap_over_images`, of errors in resampled images that are known already.

    Args:
        first, second: errors in per cent, (draws,) for each seed; draw number i is of the same images in all of them.
    """
    gain = np.mean([b - a for a, b in zip(first, second, strict=True)], axis=0)
    low, high = np.nanpercentile(gain, [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return float(low), float(high)


def p_of_draws(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of a difference, from errors in resampled images: twice the share of the draws on its rarer side of 0.

    The test that the percentile interval of :func:`interval_of_draws` makes; with 1,000 draws it is at least 0.002.

    Args:
        first, second: of one network each, in per cent, (draws,).
    """
    gain = (second - first)[~np.isnan(second - first)]
    rarer = min(int((gain <= 0).sum()), int((gain >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(gain) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being several (Holm 1979), in the order given."""
    p, count = np.array(p_values), len(p_values)
    order = p.argsort(kind="stable")
    corrected = np.empty(count)
    corrected[order] = np.maximum.accumulate(np.minimum(1, np.arange(count, 0, -1) * p[order]))
    return corrected.tolist()
