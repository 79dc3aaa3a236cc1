"""The class lists of a checkpoint and of data, which have to be the same."""

from __future__ import annotations

from pathlib import Path
from unicodedata import is_normalized

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
    only_there, only_here = sorted(there - here), sorted(here - there)
    raise CheckpointError(
        f"{path}: other classes; only in the checkpoint: {_some(only_there)}; only in the data: {_some(only_here)}"
    )


def _some(names: list[str], most: int = 5) -> str:
    if not names:
        return "none"
    # Two forms of the same letters look alike.
    names = [name if is_normalized("NFC", name) else f"{name} (in decomposed letters, NFD)" for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
