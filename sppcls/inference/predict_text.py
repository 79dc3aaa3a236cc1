"""Predictions as text, piece by piece: a table for the terminal, JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sppcls._util.console import one_line, printable
from sppcls.inference.predict import Prediction


def as_json(predictions: Iterable[Prediction]) -> Iterator[str]:
    """A JSON array, piece by piece: an object per image with ``path``, ``predictions`` and ``error``.

    ``predictions`` is a list, empty for a bad image, of objects with ``class`` and ``probability``; ``error`` is a
    text or null. A byte of a path that is not UTF-8 is written as ``\\xff``, here and in :func:`as_csv`.
    """
    separator = "[\n"
    for p in predictions:
        found = [
            {"class": name, "probability": float(f"{value:.7g}")}
            for name, value in zip(p.classes, p.probabilities, strict=True)
        ]
        yield separator + json.dumps({"path": printable(p.path), "predictions": found, "error": p.error})
        separator = ",\n"
    yield "\n]\n" if separator == ",\n" else "[]\n"


def as_csv(predictions: Iterable[Prediction], top: int) -> Iterator[str]:
    """Rows of CSV with ``path, class1, probability1, ..., error``; the error is empty, or all between is; so is what an
    image has fewer classes than ``top``."""

    def line(cells: list[str]) -> str:
        text = io.StringIO(newline="")
        csv.writer(text).writerow(cells)  # which quotes \r and \n only if they are in its line end
        return text.getvalue().removesuffix("\r\n") + "\n"

    yield line(
        ["path", *(f"{what}{i + 1}" for i in range(top) for what in ("class", "probability")), "error"]
    )
    for p in predictions:
        pairs = zip(p.classes, p.probabilities, strict=True)
        cells = [cell for name, value in pairs for cell in (name, f"{value:.7g}")]
        cells += [""] * (2 * top - len(cells))
        yield line([printable(p.path), *cells, p.error or ""])


def as_table(
    predictions: Iterable[Prediction],
    files: Sequence[Path],
    classes: Sequence[str],
    top: int,
    columns: int | None = None,
) -> Iterator[str]:
    """A line per image: its path, then classes with per cent.

    Args:
        predictions: what to show.
        files, classes: all that may be shown, for the width of the columns.
        top: classes per image.
        columns: width of the terminal; if a line of that many would not do, each class gets a line of its own.
    """
    path_width = min(48, max((_width(one_line(file)) for file in files), default=0))
    class_width = max(_width(one_line(name)) for name in classes)
    stacked = columns is not None and path_width + top * (class_width + 10) > columns
    for p in predictions:
        cells = [
            f"{_padded(one_line(name), class_width)} {100 * value:5.1f} %"
            for name, value in zip(p.classes, p.probabilities, strict=True)
        ] or ["no class" if p.error is None else "not classified"]
        if stacked:
            yield "".join([f"{one_line(p.path)}\n", *(f"    {cell}\n" for cell in cells)])
        else:
            yield "  ".join([_padded(one_line(p.path), path_width), *cells]) + "\n"


def _width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
