"""Runs with test images, compared: errors and answers that can be counted on paper."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from written_runs import misses, write_run

from sppcls.comparison import Measure, compare
from sppcls.comparison.board.layout import final_figures
from sppcls.comparison.findings import findings
from sppcls.comparison.report import content
from sppcls.comparison.report.notes import reading_notes
from sppcls.comparison.report.write import write_report
from sppcls.evaluation import Predictions
from sppcls.sweeps.folder import write_summary

TEST, BEST = Measure("center", "96", "test"), Measure("center", "96", "test_best")


def add_test(folder: Path, last: np.ndarray, best: np.ndarray | None = None, images: str = "test") -> Path:
    """Give a written run test images: what the last and, if it is another one, the best epoch got right."""
    result = json.loads((folder / "result.json").read_text())
    result["test"] = {}
    for weights, right in (("last", last), ("best", last if best is None else best)):
        epoch = 0 if weights == "best" and best is not None else 1
        error = 100 * float((~right).mean())
        name = "test" if weights == "last" else "test_best"
        result["test"][weights] = {
            "epoch": epoch,
            f"{name}_96/top1_error": error,
            f"{name}_96/top5_error": 0.0,
            f"{name}_96/images": len(right),
        }
        if weights == "best" and best is None:
            continue
        Predictions(
            "center", {"size": "96", "average": "softmax", "split": "test", "weights": weights},
            [f"class {i}" for i in range(8)], np.arange(len(right)), [f"{images}/{i}.jpg" for i in range(len(right))],
            np.zeros(len(right), dtype=np.int64), np.where(right, 0, 1)[:, None], np.ones((len(right), 1), np.float32),
            None, views=1, seconds=1.0,
        ).save(folder / "predictions" / f"{'test' if weights == 'last' else 'test_best'}_96.npz")  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two seeds with a pyramid, two without; of 50 test images 5 and 6 are wrong, and 15 and 18."""
    for seed in (0, 1):
        one = write_run(tmp_path / f"with-{seed}", seed=seed, right=misses(40, 1, 2))
        add_test(one, misses(50, *range(5 + seed)), misses(50, *range(10 + seed)))
        other = write_run(
            tmp_path / f"without-{seed}", seed=seed, right=misses(40, 3, 4), pyramid__levels=None
        )
        add_test(other, misses(50, *range(15 + 3 * seed)))
    return tmp_path


def test_errors_on_the_test_images_stand_in_columns_of_their_own(runs: Path) -> None:
    comparison = compare([runs])
    assert (comparison.main, comparison.test) == (Measure("center", "96"), [TEST, BEST])
    with_pyramid, without = comparison.groups
    assert with_pyramid.errors(TEST) == {0: 10.0, 1: 12.0}
    assert with_pyramid.errors(BEST) == {0: 20.0, 1: 22.0}
    assert without.errors(TEST) == without.errors(BEST) == {0: 30.0, 1: 36.0}
    table = content.groups_table(comparison)
    assert "test_96/top1_error" in table.header
    assert "test_best_96/top1_error" in table.header
    assert str(table.rows[0][table.header.index("test_96/top1_error")]) == "11.00 ± 1.41 (2)"
    figures = final_figures(with_pyramid.runs[0], comparison)
    assert figures["final/test_96/top1_error"] == 10.0
    assert figures["final/test_best_96/top1_error"] == 20.0


def test_a_pair_is_judged_on_the_test_images_as_on_the_others(runs: Path) -> None:
    comparison = compare([runs])
    (found,) = [f for f in content.Content(comparison).on_test if f.top == 1]
    assert found.seeds.by_seed == {0: -20.0, 1: -24.0}
    assert found.images == 50
    # Only the pyramid's networks are right on images 5 to 14, and 6 to 17.
    assert {seed: (t.only_first, t.only_second) for seed, t in found.tests.items()} == {
        0: (0, 10),
        1: (0, 12),
    }
    assert found.corrected == found.p, "one pair, one measure"
    (main,) = findings(comparison)
    assert (main.measure, main.seeds.mean, main.images) == (Measure("center", "96"), 0.0, 40)
    assert not any(f.measure == TEST for f in content.Content(comparison).elsewhere)
    (note,) = [note for note in reading_notes(comparison) if "test images" in note]
    assert note.startswith("50 test images were looked at once, when training had finished (4 of 4 runs).")


def test_the_report_has_them(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("report") / "report"
    write_report(compare([runs]), out)
    text = (out / "comparison.md").read_text()
    assert "## Differences on the test images, test_96" in text
    assert "pyramid, test_96/top1_error: " in text
    assert "test_96/top1_error" in (out / "differences.csv").read_text()


def test_without_test_images_nothing_is_said_of_them(tmp_path: Path) -> None:
    write_run(tmp_path / "a", right=misses(40, 1))
    write_run(tmp_path / "b", right=misses(40, 2), pyramid__levels=None)
    comparison = compare([tmp_path])
    assert (comparison.test, content.Content(comparison).on_test) == ([], [])
    assert not any("test image" in note for note in reading_notes(comparison))


def test_other_test_images_are_not_compared(tmp_path: Path) -> None:
    add_test(write_run(tmp_path / "a", right=misses(40, 1)), misses(50, 1))
    add_test(
        write_run(tmp_path / "b", right=misses(40, 2), pyramid__levels=None), misses(50, 1), images="others"
    )
    (refusal,) = compare([tmp_path]).refused
    assert refusal.reason == "have different test images"


def test_answers_of_an_earlier_end_are_not_used(tmp_path: Path) -> None:
    folder = add_test(write_run(tmp_path / "a", right=misses(40, 1)), misses(50, 1))
    result = json.loads((folder / "result.json").read_text())
    result["test"]["last"]["test_96/top1_error"] = result["test"]["best"]["test_best_96/top1_error"] = 8.0
    (folder / "result.json").write_text(json.dumps(result))
    comparison = compare([tmp_path])
    run = comparison.groups[0].runs[0]
    assert run.errors[TEST][0] == 8.0
    assert TEST not in run.answers
    assert any("test_96.npz does not fit result.json" in line for line in comparison.problems)


def test_summary_csv_has_the_test_errors(runs: Path) -> None:
    for name in ("with-0", "without-0"):
        result = json.loads((runs / name / "result.json").read_text())
        result["train_seconds"] = 1.0
        (runs / name / "result.json").write_text(json.dumps(result))
    rows = write_summary(runs, {"with-0": 2, "without-0": 2})
    assert [row["test_96/top1_error"] for row in rows] == ["10.0000", "30.0000"]
    assert [row["test_best_96/top1_error"] for row in rows] == ["20.0000", "30.0000"]
