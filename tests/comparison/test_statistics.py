"""Statistics of a comparison, against SciPy's own functions, enumeration and hand counts."""

from __future__ import annotations

import itertools
import statistics

import numpy as np
import pytest
from scipy import stats

from sppcls.comparison.statistics import (
    bootstrap_over_images,
    holm,
    mcnemar,
    mean_and_std,
    paired_over_seeds,
)


def test_mean_and_std_are_those_of_a_sample() -> None:
    values = [22.0, 25.0, 22.75]
    mean, std = mean_and_std(values)
    assert mean == pytest.approx(statistics.mean(values))
    assert std == pytest.approx(statistics.stdev(values))
    assert mean_and_std([7.5]) == (7.5, None)


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_paired_difference_is_scipys_paired_t_test(count: int) -> None:
    rng = np.random.default_rng(count)
    first = {seed: float(rng.normal(20, 2)) for seed in range(count)}
    second = {seed: float(first[seed] + rng.normal(0.7, 1)) for seed in range(count)}
    found = paired_over_seeds(first, {**second, 99: 0.0})  # a seed that only one has does not count
    assert found is not None
    theirs = stats.ttest_rel([second[s] for s in range(count)], [first[s] for s in range(count)])
    interval = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.interval == pytest.approx((interval.low, interval.high))
    assert list(found.by_seed) == list(range(count))


def test_one_seed_or_no_spread_gives_no_interval() -> None:
    one = paired_over_seeds({3: 20.0}, {3: 21.5})
    assert one is not None
    assert (one.mean, one.std, one.interval, one.p) == (1.5, None, None, None)
    equal = paired_over_seeds({0: 20.1, 1: 22.3}, {0: 20.6, 1: 22.8})
    assert equal is not None
    assert equal.mean == pytest.approx(0.5)
    assert (equal.interval, equal.p) == (None, None)
    assert paired_over_seeds({0: 20.0}, {1: 20.0}) is None


@pytest.mark.parametrize(
    ("only_first", "only_second"), [(0, 0), (1, 0), (5, 5), (3, 12), (40, 21), (200, 260)]
)
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int) -> None:
    both, neither = 30, 7
    first = np.array([True] * (only_first + both) + [False] * (only_second + neither))
    second = np.array([False] * only_first + [True] * (both + only_second) + [False] * neither)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    total = only_first + only_second
    expected = stats.binomtest(only_first, total, 0.5).pvalue if total else 1.0
    assert found.p == pytest.approx(expected)


def test_mcnemar_by_hand() -> None:
    # Six images that they disagree on, one of them for the second: 2 * (1 + 6) / 64.
    first, second = np.array([True] * 5 + [False]), np.array([False] * 5 + [True])
    assert mcnemar(first, second).p == pytest.approx(14 / 64)


def test_bootstrap_against_every_possible_resample() -> None:
    first = np.array([True, True, False, True, False, True])
    second = np.array([False, True, True, False, False, False])
    gain = first.astype(int) - second.astype(int)
    every = [100 * np.mean(gain[list(drawn)]) for drawn in itertools.product(range(6), repeat=6)]
    expected = np.percentile(every, [2.5, 97.5])
    found = bootstrap_over_images([first], [second], resamples=200_000)
    assert found == pytest.approx(tuple(expected), abs=1e-6)


def test_bootstrap_has_the_quantiles_of_the_binomial_law() -> None:
    """Where the second network alone fails, and always does, a resample holds Binomial(N, share) such images."""
    count, failed = 400, 100
    second = np.arange(count) >= failed
    found = bootstrap_over_images([np.ones(count, bool)], [second], resamples=200_000)
    law = stats.binom(count, failed / count)
    assert found == pytest.approx((100 * law.ppf(0.025) / count, 100 * law.ppf(0.975) / count), abs=1e-6)


def test_bootstrap_wants_both_networks_of_each_seed() -> None:
    one = np.ones(3, bool)
    with pytest.raises(ValueError, match="shorter"):
        bootstrap_over_images([one, one], [one])


def test_bootstrap_averages_over_seeds_and_is_reproducible() -> None:
    rng = np.random.default_rng(0)
    first = [rng.random(300) < 0.8 for _ in range(3)]
    second = [rng.random(300) < 0.7 for _ in range(3)]
    found = bootstrap_over_images(first, second)
    assert found == bootstrap_over_images(first, second)
    # SciPy resamples the images of the averaged differences one by one.
    gain = 100 * (np.mean(first, axis=0) - np.mean(second, axis=0))
    theirs = stats.bootstrap(
        (gain,), np.mean, method="percentile", n_resamples=10_000, rng=1
    ).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.3)


def test_holm_by_hand_and_never_below_the_plain_value() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.9, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
