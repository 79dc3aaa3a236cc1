"""Files of labels: CSV or JSON lines with a path, a label and perhaps a split for each image."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sppcls.data.names import class_name, role_of, some
from sppcls.data.tree import Folder
from sppcls.errors import DataError

# Usual names of the columns, the most telling first; case, signs and a plural "s" do not matter.
_COLUMNS = {
    "path": ("path", "file_path", "filepath", "image_path", "img_path", "file_name", "filename", "image_file", "image_name",
             "img_name", "imagename", "file", "image", "img", "photo", "picture", "image_id", "img_id", "id"),
    "label": ("label", "label_name", "class", "class_name", "classname", "category", "category_name", "target",
              "target_class", "species", "breed", "class_label", "class_id", "category_id", "label_id"),
    "split": ("split", "set", "subset", "data_set", "dataset", "fold", "partition", "phase", "usage"),
}  # fmt: skip

_DELIMITED, _JSON_LINES = (".csv", ".tsv", ".txt"), (".jsonl", ".ndjson", ".json")
_RECOGNISED = (".csv", ".tsv", ".jsonl", ".ndjson")  # without being named


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
        label: name of its class.
        split: ``train``, ``val`` or ``test``; None where there are no splits.
    """

    file: Path
    line: int
    path: str
    label: str
    split: str | None

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
    if path.suffix.lower() not in _DELIMITED + _JSON_LINES:
        raise DataError(f"data.labels={value}: must be one of {', '.join(_DELIMITED + _JSON_LINES)}")
    return LabelFile(path)


def find_files(root: Folder, *, below: bool = True) -> list[LabelFile]:
    """Files whose columns are those of labels: in ``root`` or, if there is none and ``below``, in the folders in it.

    Several are the splits that their names, or those of their folders, stand for.

    Raises:
        DataError: several, and not one for each split.
    """
    found = _files_in(root)
    if not found and below:
        found = [
            LabelFile(file.path, role_of(name))
            for name, folder in root.folders.items()
            for file in _files_in(folder)
        ]
    if len(found) < 2:
        return [LabelFile(file.path) for file in found]
    roles = [file.role for file in found]
    if None in roles or len(set(roles)) < len(roles) or "train" not in roles:
        found.sort(key=lambda file: file.role != "train")
        names = [os.path.relpath(file.path, root.path) for file in found]
        word = shlex.quote(f"data.labels={names[0]}")
        raise DataError(f"{root.path}: {some(names)} could each hold the labels; name one, such as {word}")
    return found


def _files_in(folder: Folder) -> list[LabelFile]:
    names = sorted(name for name in folder.others if name.lower().endswith(_RECOGNISED))
    return [
        LabelFile(folder.path / name, role_of(Path(name).stem))
        for name in names
        if "submission" not in name.lower() and _looks_right(folder.path / name)
    ]


def _looks_right(path: Path) -> bool:
    """Whether the first line of a file names a path and a label."""
    try:
        _, first = next(_records(path))
        names = _columns(path, first)
    except (DataError, StopIteration):
        return False
    return "path" in names and "label" in names


def labels_in(files: Iterable[LabelFile]) -> set[str]:
    """The labels in some files."""
    return {row.label for file in files for row in rows(file)}


def rows(file: LabelFile) -> Iterator[Row]:
    """The rows of a file, one by one.

    Raises:
        DataError: the file cannot be read, or naming the line: a value is missing or of another kind.
    """
    path = file.path
    columns: dict[str, str] = {}
    is_json = path.suffix.lower() in _JSON_LINES
    for line, record in _records(path):
        if not columns or is_json:
            columns = _columns(path, record)
            for what in ("path", "label"):
                if what not in columns:
                    raise DataError(
                        f"{path}: line {line if is_json else 1}: no column for the {what}; there are {some(list(record))}, "
                        f"and one must be called {', '.join(_COLUMNS[what][:4])} or the like"
                    )
        place = f"{path}: line {line}"
        name = _text(place, "path", record[columns["path"]])
        label = class_name(_text(place, "label", record[columns["label"]]))
        split = file.role
        if "split" in columns:
            word = _text(place, "split", record[columns["split"]])
            split = role_of(word)
            if split is None:
                raise DataError(
                    f"{place}: {word!r} is not the name of a split; use train, val or test, "
                    f"or call the column {columns['split']!r} otherwise"
                )
        yield Row(path, line, name, label, split)


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


def _columns(path: Path, names: Iterable[str]) -> dict[str, str]:
    """What the columns of a file are called that hold path, label and split."""
    plain: dict[str, str] = {}
    for name in names:
        word = "_".join(re.findall(r"[^\W_]+", str(name).casefold()))
        plain.setdefault(word, name)
        if word.endswith("s"):
            plain.setdefault(word if word == "class" else word[:-1], name)
    found: dict[str, str] = {}
    for what, usual in _COLUMNS.items():
        for word in usual:
            if word in plain and plain[word] not in found.values():
                found[what] = plain[word]
                break
    return found


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, values by column) of each line that is not empty.

    Raises:
        DataError: the file cannot be read, is no text, or a line is broken.
    """
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the text.
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from (
                _json_records(path, file)
                if path.suffix.lower() in _JSON_LINES
                else _delimited_records(path, file)
            )
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save it as CSV in UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _delimited_records(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = iter(file)
    head = next(lines, "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
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


def _json_records(path: Path, file: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            raise DataError(f"{path}: line {line}: not a line of JSON ({reason})") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}: line {line}: an object is needed, such as {_EXAMPLE}")
        yield line, record


_EXAMPLE = '{"file_name": "a.jpg", "label": "cat"}'
