"""From files of labels to the images that they name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sppcls.data.label_files import LabelFile, Row, rows
from sppcls.data.names import ROLES, class_name, in_order, role_of, some
from sppcls.data.tree import Folder, files_below
from sppcls.errors import DataError

_SHOWN = 80  # letters of a path in a message


class Labelled(NamedTuple):
    """Images by split with their labels, as files of labels say.

    Attributes:
        splits: labels of each image by its path below the root, sorted by class and path, or by path where images may have
            several labels; only ``train`` is always there.
        classes: names of all classes, in order.
        notes: what is worth knowing, a line each.
    """

    splits: dict[str, dict[str, tuple[str, ...]]]
    classes: list[str]
    notes: list[str]


def read_labels(root: Folder, files: Sequence[LabelFile], separators: str | None = None) -> Labelled:
    """The images below ``root`` that files of labels name.

    A path counts from the folder of its file or from ``root``; any end of it will do that is an image's alone, in all or
    in the folder of the file, with or without its extension.

    Args:
        root: folder of the images.
        files: of labels.
        separators: signs that stand between labels, and lines on one image add to each other; None: an image has one label.

    Raises:
        DataError: naming file and line: what is missing, ambiguous, contradictory or outside ``root``.
    """
    images, one_label = _Images(root), separators is None
    seen: dict[str, Row] = {}
    repeated = 0
    missing: list[Row] = []
    found: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
    first: dict[tuple[str, str], Row] = {}
    for file in files:
        for row in rows(file, separators):
            name = images.find(row)
            if name is None:
                missing.append(row)
                continue
            before, role = seen.setdefault(name, row), row.split or "train"
            if before is not row:
                _check_agree(name, before, row)
                repeated += one_label
            if before is row or not one_label:
                found[role][name] = found[role].get(name, ()) + row.labels
            for label in row.labels:
                first.setdefault((role, label), row)
    _check_found(images, files, missing, found)
    trained = {label for labels in found["train"].values() for label in labels}
    _check_trained(first, trained)
    if len(trained) < 2:
        where = ", ".join(str(file.path) for file in files)
        only = f"a single class ({min(trained)!r})" if trained else "no label"
        raise DataError(f"{where}: holds {only}; two classes are needed at least")
    notes = [f"{repeated:,} lines that repeat an image are counted once"] if repeated else []
    if unused := len(images) - len(seen):
        what = "have no label" if one_label else "are in no line"
        notes.append(f"{unused:,} images {what} and are not used")
    classes = in_order(trained)
    number = {name: index for index, name in enumerate(classes)}

    def place(image: tuple[str, tuple[str, ...]]) -> tuple[int, str]:
        return (number[image[1][0]] if one_label else 0), image[0]

    splits = {role: dict(sorted(found[role].items(), key=place)) for role in ROLES if role in found}
    return Labelled(splits, classes, notes)


def _check_found(
    images: _Images, files: Sequence[LabelFile], missing: Sequence[Row], found: Mapping[str, Any]
) -> None:
    """Raise DataError if a line's image is missing, or there is none to train on."""
    if missing:
        more = f" ({len(missing):,} such lines)" if len(missing) > 1 else ""
        raise DataError(f"{missing[0].place}: {images.why_not(missing[0].path)}{more}")
    if "train" not in found:
        where = ", ".join(str(file.path) for file in files)
        raise DataError(f"{where}: no image to train on" + (f", only {', '.join(found)}" if found else ""))


def _check_trained(first: Mapping[tuple[str, str], Row], trained: Collection[str]) -> None:
    """Raise DataError if a class has no image to train on; ``first`` is the first row of each split and class."""
    for (role, label), row in first.items():
        if label not in trained:
            raise DataError(f"{row.place}: class {label!r} has no image to train on, only for {role}")


def _check_agree(name: str, before: Row, row: Row) -> None:
    """Raise DataError if two rows contradict each other; ``label`` is empty where images may have several."""
    for what, one, other in (("label", before.label, row.label), ("split", before.split, row.split)):
        if one != other:
            several = "; images with several labels: data.multi_label=true" if what == "label" else ""
            raise DataError(
                f"{row.place}: {name!r} has {what} {other!r}, and {one!r} in line {before.line}{several}"
            )


def _is_absolute(path: str) -> bool:
    return path.startswith("/") or re.match(r"[A-Za-z]:[/\\]", path) is not None


class _Images:
    """The images below a root, to be found by what people write of their paths."""

    def __init__(self, root: Folder) -> None:
        self._root = root.path
        self._real = os.path.realpath(root.path)
        found = files_below(root)
        self._names = {class_name(name): name for name in found.images}
        self._unreadable = {class_name(name) for name in found.unreadable}
        self._by_end: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def find(self, row: Row) -> str | None:
        """Path below the root of the image that a row names; None if there is none.

        Raises:
            DataError: there are several, or the path leaves the root.
        """
        path = self._below(row)
        own = os.path.relpath(row.file.parent, self._root)
        own = "" if own == "." or own.startswith("..") or _is_absolute(row.path) else f"{class_name(own)}/"
        for place in (own, ""):
            if place + path in self._names:
                return self._names[place + path]
        ends = self._ending_in(path)
        role = row.split or role_of(row.file.stem)
        for fits in (
            lambda name: name.startswith(own),
            lambda name: os.path.splitext(name)[0] == own + path,
            lambda name: os.path.splitext(name)[0] == path,
            # The folder of the split, such as train/ for a file train.csv.
            lambda name: role is not None and role in map(role_of, name.split("/")[:-1]),
        ):
            ends = [name for name in ends if fits(name)] or ends
        if len(ends) > 1:
            could_be = some(sorted(self._names[name] for name in ends), 3)
            raise DataError(f"{row.place}: {row.path!r} could be {could_be}; write their folders too")
        return self._names[ends[0]] if ends else None

    def why_not(self, path: str) -> str:
        """What to say of a path that is no image's."""
        clean = class_name(path.replace("\\", "/"))
        if any(name == clean or name.endswith(f"/{clean}") for name in self._unreadable):
            return f"{path!r} is of a kind that cannot be read here"
        # Unlike exists(), it takes a name that is too long, such as an image in base64, for one of no file.
        if os.path.lexists(self._root / path):
            return f"{path!r} is not an image of a known kind"
        shown = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}..."
        return f"no image {shown!r} in {self._root}"

    def _below(self, row: Row) -> str:
        """The path below the root that a row means, in composed letters and with ``/`` between folders."""
        path = row.path
        if "\\" in path and path not in self._names:
            path = path.replace("\\", "/")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
            raise DataError(f"{row.place}: {row.path!r} is an address; download the images")
        if _is_absolute(path):
            below = os.path.relpath(path, self._root)
            if below.startswith(".."):
                below = os.path.relpath(path, self._real)
        else:
            below = os.path.normpath(path)
        if below == ".." or below.startswith("../") or re.match(r"[A-Za-z]:/", path):
            raise DataError(f"{row.place}: {row.path!r} is outside of data.root={self._root}")
        return class_name(below)

    def _ending_in(self, path: str) -> list[str]:
        """Images whose path ends in ``path``, with or without their extension."""
        if not self._by_end:
            by_end: dict[str, list[str]] = defaultdict(list)
            for composed in self._names:
                last = composed.rpartition("/")[2]
                for end in {last, os.path.splitext(last)[0]}:
                    by_end[end].append(composed)
            self._by_end = by_end
        return [
            name
            for name in self._by_end.get(path.rpartition("/")[2], ())
            if f"/{name}".endswith(f"/{path}") or f"/{os.path.splitext(name)[0]}".endswith(f"/{path}")
        ]
