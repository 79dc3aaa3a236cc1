"""The labels of images in columns of a table: class numbers, names, lists of them, or a 0 or a 1 for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sppcls.data.label_values import MULTI_LABEL, SEPARATORS, flag, parts, several_in
from sppcls.data.names import in_order
from sppcls.errors import DataError

_Rows = dict[str, list[tuple[Any, ...] | None]]


class ColumnLabels(NamedTuple):
    """What columns say of images.

    Attributes:
        rows: labels of each row by split, None for a row without.
        keys: what stands in the rows for each class.
        classes: their names.
        several: whether an image may have several.
    """

    rows: _Rows
    keys: list[Any]
    classes: list[str]
    several: bool


def read_columns(
    values: Mapping[str, Sequence[tuple[Any, ...]]],
    columns: Sequence[str],
    names: Sequence[str] | None,
    multi_label: bool | str | None,
    setting: str,
) -> ColumnLabels:
    """The labels in one column, or in a column for each class.

    Args:
        values: of the columns, row by row, by split.
        columns: their names.
        names: of the classes, if the numbers in a single column have some.
        multi_label: one of :data:`~sppcls.data.label_values.MULTI_LABEL`; None: what the column shows.
        setting: that names the columns, for messages.

    Raises:
        DataError: they say nothing of the kind, or other than one label where ``multi_label`` is False.
    """
    if len(columns) > 1:
        rows = {role: [_flagged(columns, row, setting) for row in found] for role, found in values.items()}
        return _labels(rows, columns, columns, multi_label, setting)
    of_role = {role: [value for (value,) in found] for role, found in values.items()}
    every = [value for found in of_role.values() for value in found if value is not None]
    if every and all(isinstance(value, list) for value in every):
        if _are_flags(every):
            keys = range(len(every[0]))
            rows = {
                role: [_flagged(keys, v or (), setting) for v in found] for role, found in of_role.items()
            }
            return _labels(rows, keys, names or list(map(str, keys)), multi_label, setting)
        rows = {role: [None if v is None else tuple(v) for v in found] for role, found in of_role.items()}
    elif all(isinstance(value, str) for value in every) and (
        several_in(every) if multi_label is None else MULTI_LABEL[multi_label]
    ):
        signs, multi_label = MULTI_LABEL[multi_label] or SEPARATORS, True
        # As in a file, no text is no label; but nobody has labelled a split that has no text at all.
        unlabelled = {role for role, found in of_role.items() if found.count(None) == len(found)}
        rows = {
            role: [None if role in unlabelled else tuple(parts(v or "", signs)) for v in found]
            for role, found in of_role.items()
        }
    else:
        rows = {role: [None if v in (None, -1) else (v,) for v in found] for role, found in of_role.items()}
        multi_label = multi_label or False
    if not all(isinstance(key, int | str) for found in rows.values() for row in found for key in row or ()):
        raise DataError(f"{setting}: its values are neither whole numbers nor names, nor lists of them")
    if names is not None:
        return _labels(rows, range(len(names)), names, multi_label, setting)
    there = {key for row in rows["train"] for key in row or ()}
    if not there:
        raise DataError(f"{setting}: no training row has a class")
    # Numbers are names, and no count: 1 to 10, say.
    ordered = sorted(there) if all(isinstance(key, int) for key in there) else in_order(map(str, there))
    return _labels(rows, ordered, list(map(str, ordered)), multi_label, setting)


def _labels(
    rows: _Rows, keys: Sequence[Any], classes: Sequence[str], multi_label: bool | str | None, setting: str
) -> ColumnLabels:
    """Labels that are several of an image where ``multi_label`` says so, or else a row has other than one."""
    others = {len(row) for found in rows.values() for row in found if row is not None} - {1}
    if multi_label is False and others:
        raise DataError(f"{setting}: a row has {max(others)} labels; several need data.multi_label=true")
    return ColumnLabels(rows, list(keys), list(classes), bool(multi_label) or bool(others))


def _are_flags(lists: Sequence[list[Any]]) -> bool:
    """Whether lists have a 0 or a 1 for each class; as class numbers none would be in a list twice."""
    if len(set(map(len, lists))) > 1 or any(flag(value) is None for row in lists for value in row):
        return False
    return any(isinstance(row[0], bool) or len(set(row)) < len(row) for row in lists if row)


def _flagged(keys: Sequence[Any], row: Sequence[Any], setting: str) -> tuple[Any, ...] | None:
    """The classes with a 1; None where there is neither 0 nor 1."""
    if all(value is None for value in row):
        return None
    flags = dict(zip(keys, map(flag, row), strict=True))
    if wrong := [key for key, value in flags.items() if value is None]:
        value = dict(zip(keys, row, strict=True))[wrong[0]]
        raise DataError(f"{setting}: {wrong[0]} is {value!r} in a row; each class has a 0 or a 1")
    return tuple(key for key, value in flags.items() if value)
