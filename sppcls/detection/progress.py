"""How those who wait are told how far a stage is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Wrap = Callable[[Iterable[Any], int], Iterable[Any]]
"""Takes the items of a stage and their number, and gives the items: as a bar does."""

Progress = Callable[[str], Wrap]
"""The wrapper of a stage, by what the stage does."""


def unseen(items: Iterable[Any], total: int) -> Iterable[Any]:
    """A :data:`Wrap` that shows nothing."""
    return items


def no_progress(what: str) -> Wrap:
    """A :data:`Progress` that shows nothing."""
    return unseen
