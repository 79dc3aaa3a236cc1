"""``metrics.csv``, written and read again."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sppcls.errors import DataError
from sppcls.runs.metrics import append_row, drop_rows_from, read_metrics


def test_rows_of_other_columns_share_a_table(tmp_path: Path) -> None:
    append_row(tmp_path, {"epoch": 0, "lr": 0.1, "val/top1_error": 100 / 3})
    append_row(tmp_path, {"epoch": 1, "lr": 0.1, "val_96/top1_error": 50.0})
    with open(tmp_path / "metrics.csv", newline="") as file:
        assert list(csv.reader(file)) == [
            ["epoch", "lr", "val/top1_error", "val_96/top1_error"],
            ["0", "0.1", "33.3333", ""],
            ["1", "0.1", "", "50"],
        ]


def test_epochs_that_will_be_run_again_are_forgotten(tmp_path: Path) -> None:
    drop_rows_from(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []
    for epoch in range(3):
        append_row(tmp_path, {"epoch": epoch})
    drop_rows_from(tmp_path, 1)
    assert read_metrics(tmp_path).rows == [{"epoch": "0"}]


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
        drop_rows_from(tmp_path, 1)
    assert (tmp_path / "metrics.csv").read_bytes() == b"epoch\n\xff\n"
