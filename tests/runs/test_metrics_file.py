"""``metrics.csv``, written and read again."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sppcls.errors import DataError
from sppcls.runs.metrics import append_row, drop_rows_from, figure_in, read_metrics


def test_rows_of_other_columns_share_a_table(tmp_path: Path) -> None:
    append_row(tmp_path, {"epoch": 0, "lr": 0.1, "val_72/top1_error": 100 / 3})
    append_row(tmp_path, {"epoch": 1, "lr": 0.1, "val_96/top1_error": 50.0})
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["epoch", "lr", "val_72/top1_error", "val_96/top1_error"],
            ["0", "0.1", "33.3333", ""],
            ["1", "0.1", "", "50"],
        ]


def test_epochs_that_will_be_run_again_are_forgotten(tmp_path: Path) -> None:
    drop_rows_from(tmp_path, 0, "96")
    assert list(tmp_path.iterdir()) == []
    for epoch in range(3):
        append_row(tmp_path, {"epoch": epoch})
    drop_rows_from(tmp_path, 1, "96")
    assert read_metrics(tmp_path).rows == [{"epoch": "0"}]


def test_a_file_of_version_0_1_goes_on_under_the_names_that_say_the_size(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,val/loss,val_72/loss\n0,3.5,4.5\n1,3,4\n")
    drop_rows_from(tmp_path, 1, "96")
    append_row(tmp_path, {"epoch": 1, "val_96/loss": 2.5, "val_72/loss": 2.0})
    assert read_metrics(tmp_path).rows == [
        {"epoch": "0", "val_96/loss": "3.5", "val_72/loss": "4.5"},
        {"epoch": "1", "val_96/loss": "2.5", "val_72/loss": "2"},
    ]


def test_the_main_size_may_be_asked_for_without_its_number() -> None:
    row = {"epoch": "0", "val_96/loss": "3", "val_72/loss": "4", "val_full_96/loss": "5"}
    assert (figure_in(row, "val/loss"), figure_in(row, "val_72/loss")) == ("3", "4")
    assert figure_in({"val/loss": "7", "val_72/loss": "4"}, "val/loss") == "7"
    assert (figure_in(row, "val/top1_error"), figure_in({"val_96/loss": ""}, "val/loss")) == ("", "")


def test_what_a_line_lacks_or_has_too_much(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,lr\n0,0.1,7,8\n1\n,0.1\nx,0.1\n")
    metrics = read_metrics(tmp_path)
    assert metrics.columns == ["epoch", "lr"]
    assert metrics.lines[:2] == [{"epoch": "0", "lr": "0.1"}, {"epoch": "1", "lr": None}]
    assert metrics.rows == [{"epoch": "0", "lr": "0.1"}, {"epoch": "1"}]


def test_what_is_no_text_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"epoch\n\xff\n")
    with pytest.raises(DataError, match=r"^metrics.csv is damaged$"):
        read_metrics(tmp_path)
    with pytest.raises(DataError, match=rf"^{tmp_path}: metrics.csv is damaged; move"):
        drop_rows_from(tmp_path, 1, "96")
    assert (tmp_path / "metrics.csv").read_bytes() == b"epoch\n\xff\n"
