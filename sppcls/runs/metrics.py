"""``metrics.csv``: a row for every epoch, in columns that hold every row."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sppcls._util.files import write_csv
from sppcls.errors import DataError
from sppcls.runs.names import METRICS


@dataclass(frozen=True)
class Metrics:
    """A file of metrics as text.

    Attributes:
        columns: its heading.
        lines: what stands below; a cell that a line lacks is None.
    """

    columns: list[str]
    lines: list[dict[str, str | None]]

    @property
    def rows(self) -> list[dict[str, str]]:
        """The lines that are of an epoch; the cells that they lack are left out."""
        rows = [{key: text for key, text in line.items() if text is not None} for line in self.lines]
        return [row for row in rows if row.get("epoch", "").isdecimal()]


def read_metrics(folder: Path) -> Metrics:
    """The metrics of a run folder; empty if there are none yet. The file is only ever replaced as a whole.

    Raises:
        DataError: it cannot be read; the message does not name the folder.
    """
    try:
        with open(folder / METRICS, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or [])
            return Metrics(columns, [{key: line[key] for key in columns} for line in reader])
    except FileNotFoundError:
        return Metrics([], [])
    except OSError as error:
        raise DataError(f"{METRICS} cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error):
        raise DataError(f"{METRICS} is damaged") from None


def append_row(folder: Path, row: dict[str, Any]) -> None:
    """Add the row of an epoch; a resumed run may have other columns than before."""
    shown = {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
    write_csv(folder / METRICS, [*_own_rows(folder), shown])


def drop_rows_from(folder: Path, epoch: int, main_size: str) -> None:
    """On resuming: forget rows of epochs that will be run again.

    Version 0.1 wrote ``val/`` for ``main_size``; the columns of such a file are renamed.
    """
    rows = [renamed(row, main_size) for row in _own_rows(folder)]
    if rows:
        write_csv(folder / METRICS, [row for row in rows if int(row["epoch"]) < epoch])


def renamed(row: Mapping[str, Any], main_size: str) -> dict[str, Any]:
    """A row with ``val/loss``, as version 0.1 wrote it for the main size, under ``val_<main_size>/loss``."""
    return {re.sub("^val/", f"val_{main_size}/", key): value for key, value in row.items()}


def figure_in(row: Mapping[str, str], name: str) -> str:
    """A figure of an epoch, such as ``val_224/loss``; ``val/loss`` is that of the main size, which comes first."""
    names = [name, *(key for key in row if re.sub("^val_[^/]+/", "val/", key) == name)]
    return next((row[key] for key in names if row.get(key)), "")


def _own_rows(folder: Path) -> list[dict[str, str]]:
    try:
        return read_metrics(folder).rows
    except DataError as error:
        raise DataError(f"{folder}: {error}; move that file away to continue without it") from None
