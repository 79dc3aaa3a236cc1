"""Comparisons of cross-validated runs: folds are repetitions, paired, over all images together."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from written_runs import save_answers, write_run

from sppcls.comparison import compare
from sppcls.comparison.findings import findings
from sppcls.comparison.folds import Fold
from sppcls.comparison.report.content import groups_table
from sppcls.comparison.report.write import write_report
from sppcls.comparison.statistics import bootstrap_over_images

FOLDS = 4
SIZES = (30, 29, 28, 27)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two learning rates on four folds of different photos, two seeds."""
    rng = np.random.default_rng(1)
    for rate, chance in ((0.01, 0.6), (0.02, 0.85)):
        for seed in (0, 1):
            for fold, count in enumerate(SIZES):
                right = rng.random(count) < chance
                changes = {"optimizer__lr": rate, "data__folds": FOLDS, "data__fold": fold}
                run = write_run(tmp_path / f"{rate}-{seed}-{fold}", seed=seed, right=right, **changes)
                save_answers(run / "predictions" / "val_96.npz", right, prefix=f"fold{fold}")
    return tmp_path


def test_folds_are_repetitions_and_no_factor(folder: Path) -> None:
    comparison = compare([folder])
    assert len(comparison.groups) == 2
    assert len(comparison.pairs) == 1
    assert not comparison.problems
    assert groups_table(comparison).rows[0][1] == ", ".join(f"{s}_fold{f}" for s in (0, 1) for f in range(4))


def test_the_interval_knows_that_folds_share_training_images(folder: Path) -> None:
    comparison = compare([folder])
    (finding,) = findings(comparison)
    first, second = (
        group.errors(comparison.main) for group in (comparison.pairs[0].first, comparison.pairs[0].second)
    )
    differences = [second[key] - first[key] for key in first]
    assert len(differences) == 8
    # Nadeau and Bengio 2003: 1/n + test images / training images, in place of 1/n.
    error = statistics.stdev(differences) * math.sqrt(1 / 8 + 1 / (FOLDS - 1))
    half = stats.t.ppf(0.975, 7) * error
    mean = statistics.fmean(differences)
    assert finding.seeds.interval == pytest.approx((mean - half, mean + half))
    assert finding.seeds.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, 7))
    assert "over 8 folds" in finding.grounds


def test_the_images_of_all_folds_count_together(folder: Path) -> None:
    comparison = compare([folder])
    (finding,) = findings(comparison)
    assert finding.images == sum(SIZES)
    pair = comparison.pairs[0]
    hits = []
    for group in (pair.first, pair.second):
        hits.append(
            [
                np.concatenate(
                    [group.run(Fold(seed, fold, FOLDS)).answers[comparison.main].hit1 for fold in range(4)]
                )
                for seed in (0, 1)
            ]
        )
    assert finding.interval == pytest.approx(bootstrap_over_images(*hits))


def test_a_missing_fold_leaves_the_images_out(folder: Path) -> None:
    for path in (folder / "0.02-1-3").rglob("val_96.npz"):
        path.unlink()
    (finding,) = findings(compare([folder]))
    assert finding.interval is None
    assert len(finding.seeds.by_seed) == 8


def test_folds_are_not_compared_with_runs_on_other_images(folder: Path) -> None:
    right = np.arange(100) % 3 > 0
    write_run(folder / "whole", right=right, data__folds=None, data__fold=None)
    comparison = compare([folder])
    assert [refused.reason for refused in comparison.refused if "no seed in common" in refused.reason]


def test_a_fold_sorts_by_seed_then_fold_and_is_no_seed() -> None:
    folds = [Fold(1, 0, 5), Fold(0, 4, 5), Fold(0, 2, 5)]
    assert [str(each) for each in sorted(folds)] == ["0_fold2", "0_fold4", "1_fold0"]
    assert Fold(0, 3, 5) == Fold(0, 3, 5) != 3


def test_a_report_speaks_of_folds_and_of_all_their_images(folder: Path, tmp_path: Path) -> None:
    comparison = compare([folder])
    write_report(comparison, tmp_path / "out")
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "114 validation images" in text  # 30 + 29 + 28 + 27
    assert "one image is 0.877 points" in text
    assert "Nadeau and Bengio" in text
    assert "fold numbers" in text
    assert "95 % over folds" in text
    assert "seeds" not in text
    (alone,) = {run.folder.parent for run in comparison.runs}
    one = compare(sorted(alone.glob("0.01-*")))
    write_report(one, tmp_path / "one")
    assert "varied: nothing but the fold." in (tmp_path / "one" / "comparison.md").read_text()
