"""Files of labels: CSV or JSON lines with a path, a label and perhaps a split for each image."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from sppcls.data.kinds import image_kinds
from sppcls.data.label_values import SEPARATORS, flag, parts, several_in
from sppcls.data.names import class_name, role_of, some
from sppcls.errors import DataError

# Usual names of the columns, the most telling first; case, signs and a plural "s" do not matter.
_COLUMNS = {
    "path": ("path", "file_path", "filepath", "image_path", "img_path", "file_name", "filename", "image_file", "image_name",
             "img_name", "imagename", "file", "image", "img", "photo", "picture", "image_id", "img_id", "id"),
    "label": ("label", "label_name", "class", "class_name", "classname", "category", "category_name", "target",
              "target_class", "tag", "species", "breed", "class_label", "class_id", "category_id", "label_id"),
    "split": ("split", "set", "subset", "data_set", "dataset", "fold", "partition", "phase", "usage"),
}  # fmt: skip

_DELIMITED, _JSON_LINES = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson", ".json")
KINDS = _DELIMITED + _JSON_LINES
"""Endings of files that can be read."""

_LONGEST = 10_000_000  # letters of a line; a longer one is a whole file of JSON without a line end


class LabelFile(NamedTuple):
    """A file of labels.

    Attributes:
        path: of the file.
        role: the split of all its images; None: it has a column for it, or there are no splits.
    """

    path: Path
    role: str | None = None


class Row(NamedTuple):
    """What a line says of an image.

    Attributes:
        file, line: where it stands.
        path: of the image, as it is written.
        label: name of its class; empty where images may have several.
        split: ``train``, ``val`` or ``test``; None where there are no splits.
        labels: names of its classes.
    """

    file: Path
    line: int
    path: str
    label: str
    split: str | None
    labels: tuple[str, ...]

    @property
    def place(self) -> str:
        """File and line, for a message."""
        return f"{self.file}: line {self.line}"


def named_file(root: Path, value: str) -> LabelFile:
    """The file that ``data.labels`` names, below the root or absolute.

    Raises:
        DataError: there is no such file, or it is of another kind.
    """
    path = root / value
    if not value.strip() or not os.path.isfile(path):
        what = "not a file" if os.path.exists(path) else "no such file"
        raise DataError(f"data.labels={value}: {what}; name a CSV or JSON-lines file in {root}, or null")
    if path.suffix.lower() not in KINDS:
        raise DataError(f"data.labels={value}: must be one of {', '.join(KINDS)}")
    return LabelFile(path)


def check_columns(path: Path) -> None:
    """Read a file as far as its columns, which must be those of labels.

    Raises:
        DataError: it cannot be read, has no such columns, or no line below their names.
    """
    if next(_lines(path), None) is None:
        raise DataError(f"{path}: no line of labels in it")


def rows(file: LabelFile, separators: str | None = None) -> Iterator[Row]:
    """The rows of a file, one by one.

    Args:
        file: of labels.
        separators: each of these signs stands between labels; None: an image has one label, whatever signs are in it.

    Raises:
        DataError: the file cannot be read, or naming the line: a value is missing or of another kind.
    """
    path = file.path
    for line, record, columns in _lines(path):
        place = f"{path}: line {line}"
        name = _text(place, "path", record[columns["path"]])
        labels = _labels(place, record, columns, separators)
        if separators is None and len(labels) != 1:
            raise DataError(f"{place}: {len(labels)} labels; images with several need data.multi_label=true")
        split = file.role
        if "split" in columns:
            word = _text(place, "split", record[columns["split"]])
            split = role_of(word)
            if split is None:
                raise DataError(
                    f"{place}: {word!r} is not the name of a split; use train, val or test, "
                    f"or call the column {columns['split']!r} otherwise"
                )
        yield Row(path, line, name, labels[0] if separators is None else "", split, labels)


def holds_label_sets(files: Iterable[LabelFile]) -> bool:
    """Whether images have several labels, as far as files of labels show it.

    They do if a line has a list of other than one label, or ones in other than one column of 0 and 1, or if signs stand
    between labels (:func:`~sppcls.data.label_values.several_in`).
    """
    texts: set[str] = set()
    for file in files:
        for line, record, columns in _lines(file.path):
            value = record.get(columns["label"]) if "label" in columns else None
            if isinstance(value, str):
                texts.add(value)
            elif (isinstance(value, list) or "label" not in columns) and len(
                _labels(f"{file.path}: line {line}", record, columns, SEPARATORS)
            ) != 1:
                return True
    return several_in(texts)


def _labels(
    place: str, record: Mapping[str, Any], columns: Mapping[str, str], separators: str | None
) -> tuple[str, ...]:
    """The labels of a line: of its column, text or a list, or the columns of 0 and 1 that have a 1."""
    if "label" not in columns:
        flags = _flag_columns(record, columns)
        wrong = next((name for name in flags if flag(record[name]) is None), None)
        if wrong is not None:
            raise DataError(f"{place}: {wrong}={record[wrong]!r}; each class has a 0 or a 1")
        return tuple(class_name(name) for name in flags if flag(record[name]))
    value = record[columns["label"]]
    if isinstance(value, list):
        found = [_text(place, "label", each) for each in value]
    elif separators is not None and isinstance(value, str | None):
        found = parts(value or "", separators)
    else:
        found = [_text(place, "label", value)]
    return tuple(dict.fromkeys(map(class_name, found)))


def _flag_columns(record: Mapping[str, Any], columns: Mapping[str, str]) -> list[str]:
    """The columns that neither path nor split is in."""
    return [name for name in record if name not in columns.values()]


def _text(place: str, what: str, value: Any) -> str:
    """A value as text; whole numbers in JSON are class names too."""
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise DataError(f"{place}: the {what} is {value!r}; text or a whole number is needed")
    text = "" if value is None else str(value).strip()
    if not text:
        raise DataError(f"{place}: no {what}")
    if "\0" in text:
        raise DataError(f"{place}: the {what} {text!r} holds a zero byte")
    return text


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any], dict[str, str]]]:
    """(line number, values by column, what the columns are called) of each line; objects of JSON have their own each."""
    columns: dict[str, str] = {}
    for line, record in _records(path):
        if not columns or path.suffix.lower() in _JSON_LINES:
            columns = _usable_columns(path, line, record)
        yield line, record, columns


def _usable_columns(path: Path, line: int, record: Mapping[str, Any]) -> dict[str, str]:
    """What the columns of a record are called that hold path, label and perhaps split."""
    columns, names = _columns(record), list(record)
    for what in ("path", "label"):
        if what in columns or (what == "label" and _has_flags(record, columns)):
            continue
        advice = (
            f"there are {some(names)}, and one must be called {', '.join(_COLUMNS[what][:4])} or the like"
        )
        if path.suffix.lower() in _DELIMITED:
            line = 1
            image = next((name for name in names if os.path.splitext(name)[1].lower() in image_kinds()), None)
            if image is not None:
                advice = f"{image!r} is an image: the first line must name the columns, such as path,label"
        raise DataError(f"{path}: line {line}: no column for the {what}; {advice}")
    return columns


def _has_flags(record: Mapping[str, Any], columns: Mapping[str, str]) -> bool:
    """Whether a line says yes or no to each of several classes, in columns of their names."""
    flags = _flag_columns(record, columns)
    return len(flags) > 1 and all(flag(record[name]) is not None for name in flags)


def _columns(names: Iterable[str]) -> dict[str, str]:
    """What the columns are called that hold path, label and split."""
    plain: dict[str, str] = {}
    for name in names:
        word = "_".join(re.findall(r"[^\W_]+", str(name).casefold()))
        plain.setdefault(word, name)
        if word.endswith("s"):
            plain.setdefault(word if word == "class" else word[:-1], name)
    found: dict[str, str] = {}
    for what, usual in _COLUMNS.items():
        free = (plain[word] for word in usual if word in plain and plain[word] not in found.values())
        if (column := next(free, None)) is not None:
            found[what] = column
    return found


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, values by column) of each line that is not empty.

    Raises:
        DataError: the file cannot be read, is no text, or a line is broken.
    """
    try:
        with open(path, encoding=_encoding(path), newline="") as file:
            yield from (
                _json_records(path, file)
                if path.suffix.lower() in _JSON_LINES
                else _delimited_records(path, file)
            )
    except UnicodeError:  # the codec of UTF-16 raises its parent at times
        raise DataError(f"{path}: not UTF-8 text; save it as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _encoding(path: Path) -> str:
    """The encoding that a byte order mark tells, as spreadsheets put it before their text; else UTF-8."""
    with open(path, "rb") as file:
        head = file.read(4)
    # The mark of UTF-32 begins with that of UTF-16.
    if head in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    return "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _delimited_records(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = iter(file)
    head = next(lines, "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    if named := re.fullmatch(r"sep=(.)", head.strip("\r\n")):  # Excel's own first line
        delimiter, head = named[1], "\n"
    reader = csv.reader(chain([head], lines), delimiter=delimiter, strict=True)
    names: list[str] = []
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if not names:
                names = [value.strip() for value in values]
                twice = next((name for name in names if name and names.count(name) > 1), None)
                if twice:
                    raise DataError(f"{path}: line {reader.line_num}: two columns are called {twice!r}")
                continue
            if len(values) > len(names) and any(value.strip() for value in values[len(names) :]):
                raise DataError(
                    f"{path}: line {reader.line_num}: {len(values)} values for {len(names)} columns; "
                    f'put values with {delimiter!r} in them in "quotes"'
                )
            values += [""] * (len(names) - len(values))
            yield reader.line_num, dict(zip(names, values, strict=False))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: broken ({error})") from None
    if not names:
        raise DataError(f"{path}: empty")


def _json_records(path: Path, file: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(iter(lambda: file.readline(_LONGEST), ""), 1):
        if not text.strip():
            continue
        if len(text) >= _LONGEST:
            raise DataError(f"{path}: line {line}: too long; each line must be an object, such as {_EXAMPLE}")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            raise DataError(
                f"{path}: line {line}: not a line of JSON ({reason}); each must be an object, such as {_EXAMPLE}"
            ) from None
        if not isinstance(record, dict):
            raise DataError(f"{path}: line {line}: an object is needed, such as {_EXAMPLE}")
        yield line, record


_EXAMPLE = '{"file_name": "a.jpg", "label": "cat"}'
