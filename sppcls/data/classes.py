"""The class lists of a checkpoint and of data: the same in a run, and all of them known where data is tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import is_normalized

from sppcls._util.near import closest
from sppcls.data.balance import without_image
from sppcls.data.names import class_name, few
from sppcls.errors import CheckpointError


def check_classes(old: list[str], new: list[str], path: str | Path) -> None:
    """Refuse data with other classes than a checkpoint's.

    Raises:
        CheckpointError: naming the classes that only one of them has.
    """
    if old == new:
        return
    there, here = set(old), set(new)
    if there == here:
        raise CheckpointError(f"{path}: the same classes in another order than in data.root")
    raise CheckpointError(_other(path, there, here))


def check_known(known: Sequence[str], found: Sequence[str], path: str | Path) -> None:
    """Refuse data to be tested with classes that a checkpoint does not know; some of the known ones may be missing.

    Raises:
        CheckpointError: naming the unknown classes and the known one closest to the first.
    """
    composed = {class_name(name) for name in known}
    unknown = sorted(name for name in set(found) if class_name(name) not in composed)
    if unknown:
        near = closest(unknown[0], known)
        meant = f" (closest to {unknown[0]}: {near})" if near else ""
        raise CheckpointError(_other(path, set(known), set(found)) + meant)


def class_numbers(
    classes: Sequence[str], own: Sequence[str], path: str | Path, first: str | Path
) -> list[int]:
    """The numbers that a network of ``own`` classes gives to ``classes``, which are the same in any order.

    Raises:
        CheckpointError: they are others; ``path`` and ``first`` are what has ``own`` and ``classes``.
    """
    number = {class_name(name): index for index, name in enumerate(own)}
    wanted = [class_name(name) for name in classes]
    if len(number) == len(wanted) and number.keys() == set(wanted):
        return [number[name] for name in wanted]
    raise CheckpointError(
        f"{path}: other classes than {first}; only in the former: {_some(sorted(number.keys() - set(wanted)))}; "
        f"only in the latter: {_some(sorted(set(wanted) - number.keys()))}"
    )


def missing_line(classes: Sequence[str], targets: Sequence[Any]) -> str:
    """A line that names the classes without an image; empty if there are none."""
    absent = without_image(classes, targets)
    return f"no image of {len(absent)} of the {len(classes)} classes: {_some(absent)}" if absent else ""


def _other(path: str | Path, there: set[str], here: set[str]) -> str:
    return (
        f"{path}: other classes; only in the checkpoint: {_some(sorted(there - here))}; "
        f"only in the data: {_some(sorted(here - there))}"
    )


def _some(names: list[str]) -> str:
    # Two forms of the same letters look alike.
    shown = [name if is_normalized("NFC", name) else f"{name} (in decomposed letters, NFD)" for name in names]
    return few(shown) or "none"
