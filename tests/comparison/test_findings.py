"""How many looks a difference is corrected for."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import ttest_rel
from written_runs import write_run

from sppcls.comparison import compare
from sppcls.comparison.answers import Measure
from sppcls.comparison.conclusions import conclusions
from sppcls.comparison.findings import Finding, Verdict, findings, p_text
from sppcls.comparison.report.content import Content
from sppcls.comparison.statistics import paired_over_seeds


def test_other_sizes_are_corrected_for_all_of_them_and_the_main_one_is_not(tmp_path: Path) -> None:
    first, second = [10.0, 20.0, 30.0, 40.0], [9.0, 18.5, 29.8, 38.9]
    for lr, errors in ((0.01, first), (0.02, second)):
        for seed, error in enumerate(errors):
            write_run(
                tmp_path / f"{lr}-{seed}",
                seed=seed,
                error=error,
                optimizer__lr=lr,
                sizes__sizes=[96, 80, 72, 64],
            )
    comparison = compare([tmp_path])
    plain = ttest_rel(second, first).pvalue
    assert 0.05 / 3 < plain < 0.05, "alone it counts, as one of three it does not"
    (main,) = Content(comparison).headline[:1]
    assert (main.corrected, main.verdict) == (pytest.approx(plain), Verdict.SHOWN)
    # write_run gives every other size the same error plus one, so each has the same p.
    others = [finding for finding in Content(comparison).elsewhere if finding.top == 1]
    assert [finding.measure.size for finding in others] == ["64", "72", "80"]
    for finding in others:
        assert finding.p == pytest.approx(plain)
        assert finding.corrected == pytest.approx(3 * plain)
        assert finding.verdict == Verdict.NOT_SHOWN


@pytest.mark.parametrize(
    ("p", "text"), [(0.00099, "p < 0.001"), (0.001, "p = 0.001"), (0.0314, "p = 0.031"), (1.0, "p = 1.000")]
)
def test_a_small_p_is_not_said_to_be_zero(p: float, text: str) -> None:
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("errors", "informative"), [((0.0, 0.0), False), ((0.0, 2.0), True), ((2.0, 0.0), True)]
)
def test_top5_says_something_where_a_network_misses_at_all(
    errors: tuple[float, float], informative: bool, tmp_path: Path
) -> None:
    for number, error in enumerate(errors):  # write_run gives a top-5 error of a quarter
        write_run(tmp_path / str(number), error=error, optimizer__lr=0.01 * (number + 1))
    assert (5 in compare([tmp_path]).tops) is informative


@pytest.mark.parametrize(
    ("interval", "corrected", "verdict"),
    [
        (None, 0.01, Verdict.SHOWN),
        ((0.01, 0.9), 0.05, Verdict.SHOWN),
        ((-0.9, -0.01), 0.05, Verdict.SHOWN),
        ((0.0, 0.9), 0.01, Verdict.NOT_SHOWN),  # zero itself is not excluded
        ((-0.9, 0.0), 0.01, Verdict.NOT_SHOWN),
        ((-0.5, 0.5), 0.01, Verdict.NOT_SHOWN),
        ((0.01, 0.9), 0.0501, Verdict.NOT_SHOWN),
        ((0.01, 0.9), None, Verdict.NOT_SHOWN),
    ],
)
def test_seeds_and_images_must_agree(
    interval: tuple[float, float] | None, corrected: float | None, verdict: Verdict, tmp_path: Path
) -> None:
    for number in range(4):
        write_run(
            tmp_path / str(number),
            seed=number // 2,
            error=10.0 + number,
            optimizer__lr=0.01 * (1 + number % 2),
        )
    (pair,) = compare([tmp_path]).pairs
    seeds = paired_over_seeds({0: 10.0, 1: 12.0}, {0: 11.0, 1: 14.0})
    assert seeds is not None
    finding = Finding(
        pair, Measure("center", "96"), 1, "val_96/top1_error", seeds, interval=interval, corrected=corrected
    )
    assert finding.verdict == verdict


def test_the_best_is_not_said_to_be_better_than_what_was_shown_to_be_better(tmp_path: Path) -> None:
    # Rate 1 has the lowest mean over all of its seeds, and is shown to be worse than 2 over those that both have.
    errors = {1.0: [30.0, 31.0, 2.0, 2.0, 2.0], 2.0: [20.0, 21.01], 3.0: [40.0, 41.02]}
    for rate, found in errors.items():
        for seed, error in enumerate(found):
            write_run(tmp_path / f"{rate}-{seed}", seed=seed, error=error, optimizer__lr=rate)
    found = findings(compare([tmp_path]))
    assert {f.names: f.verdict for f in found}["lr=1.0", "lr=2.0"] == Verdict.SHOWN
    (conclusion,) = conclusions(found)
    assert conclusion.sentence == (
        "lr=1.0 has the lowest mean error, 13.40 %; shown to be higher: lr=3.0; not shown: lr=2.0."
    )
    assert conclusion.answer == "lr=1.0, better than some others"
