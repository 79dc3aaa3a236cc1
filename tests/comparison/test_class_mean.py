"""Class-mean error, macro F1 and calibration error in comparisons, counted by hand."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pytest
from scipy import stats
from written_runs import write_run

from sppcls.cli.main import main
from sppcls.comparison import compare
from sppcls.comparison.board.curves import curves_of, shown_figures
from sppcls.comparison.board.layout import final_figures, final_names
from sppcls.comparison.report.class_mean import class_mean_table
from sppcls.comparison.report.content import groups_table

PLAIN, BALANCED = {0: 40.0, 1: 44.0, 2: 42.0}, {0: 30.0, 1: 35.0, 2: 31.0}


def write(folder: Path, seed: int, class_mean: float, f1: float, **changes: object) -> None:
    write_run(folder, seed=seed, error=20.0 + seed, **changes)
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["val_96/class_mean_error"], row["val_96/f1"] = str(class_mean), str(f1)
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in PLAIN:
        write(tmp_path / f"plain-{seed}", seed, PLAIN[seed], 50.0 + seed)
        write(tmp_path / f"other-{seed}", seed, BALANCED[seed], 60.0, optimizer__lr=0.02)
    return tmp_path


def test_the_figures_stand_beside_the_errors(folder: Path) -> None:
    table = groups_table(compare([folder]))
    column = table.header.index("val_96/class_mean_error %")
    cells = {str(row[0]): (str(row[column]), str(row[column + 1])) for row in table.rows}
    assert table.header[column + 1] == "val_96/f1 %"
    std = statistics.stdev(PLAIN.values())
    assert ("42.00 ± " + f"{std:.2f} (3)", "51.00 ± 1.00 (3)") in cells.values()
    assert not any("ece" in name for name in table.header), "no run has it"


def test_differences_are_paired_by_seed(folder: Path) -> None:
    comparison = compare([folder])
    table = class_mean_table(comparison)
    assert table is not None
    (row,) = table.rows
    first = [PLAIN[seed] for seed in PLAIN]
    second = [BALANCED[seed] for seed in PLAIN]
    names = str(row[0]).split(" - ")
    sign = 1 if comparison.group(names[1]).values["optimizer.lr"] == 0.01 else -1
    test = stats.ttest_rel(second, first)
    interval = sorted(sign * x for x in test.confidence_interval())
    assert row[1] == f"{sign * (statistics.fmean(second) - statistics.fmean(first)):+.2f}"
    assert row[3] == f"{interval[0]:+.2f} to {interval[1]:+.2f}"
    assert row[4] == row[5] == f"p = {test.pvalue:.3f}"


def test_folds_are_called_folds(tmp_path: Path) -> None:
    for fold in PLAIN:
        folds = {"data__folds": 3, "data__fold": fold}
        write(tmp_path / f"plain-{fold}", 0, PLAIN[fold], 50.0, **folds)
        write(tmp_path / f"other-{fold}", 0, BALANCED[fold], 60.0, optimizer__lr=0.02, **folds)
    table = class_mean_table(compare([tmp_path]))
    assert table is not None
    assert table.header[2:4] == ["folds", "95 % over folds"]


def test_with_even_classes_the_class_mean_error_is_not_said_twice(tmp_path: Path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"plain-{seed}", seed, 20.0 + seed, 50.0)
        write(tmp_path / f"other-{seed}", seed, 20.0 + seed, 60.0, optimizer__lr=0.02)
    comparison = compare([tmp_path])
    assert class_mean_table(comparison) is None
    assert not any("class_mean" in name for name in groups_table(comparison).header)
    assert "val_96/f1 %" in groups_table(comparison).header


def test_compare_prints_them_and_the_board_draws_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(folder), "--out", str(folder / "report")]) == 0
    assert "Differences in val_96/class_mean_error" in capsys.readouterr().out
    assert "Differences in val_96/class_mean_error" in (folder / "report" / "comparison.md").read_text()
    comparison = compare([folder])
    assert [*shown_figures(comparison)] == ["top1_error", "top5_error", "class_mean_error", "f1", "loss"]
    run = comparison.groups[0].runs[0]
    assert final_figures(run, comparison)["final/val_96/f1"] == run.rows[-1]["val_96/f1"]
    assert "final/val_96/f1" in final_names(comparison)
    assert "final/val_96/ece" not in final_names(comparison)
    assert curves_of(run, comparison).values["val_96/f1"][-1] == run.rows[-1]["val_96/f1"]
