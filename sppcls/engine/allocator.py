"""The C library's allocator, told how training uses memory."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

# Parameters of mallopt (malloc.h) and the variables by which a user sets them.
_PARAMETERS = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
_LARGER_THAN_ANY_MAP = 1 << 30
_BY_DEFAULT = 128 << 10


def keep_freed_memory() -> bool:
    """Have glibc keep large blocks that are freed, for the next training step, which asks for the same sizes again.

    By default glibc hands them back to the system at once and gets them anew, page by page and filled with zeros: a
    large part of a step on the CPU. The price is a somewhat higher peak.

    Returns:
        Whether it does; not where the user's environment already tunes the allocator, nor on other systems.
    """
    mallopt = _function("mallopt")
    if mallopt is None or _is_tuned():
        return False
    taken = [mallopt(parameter, _LARGER_THAN_ANY_MAP) for parameter in _PARAMETERS.values()]
    return all(taken)


def give_back_freed_memory() -> None:
    """Have glibc hand back what it keeps, as far as it can, and keep no more, unless the user's environment tunes it."""
    mallopt, trim = _function("mallopt"), _function("malloc_trim")
    if mallopt is not None and trim is not None and not _is_tuned():
        for parameter in _PARAMETERS.values():
            mallopt(parameter, _BY_DEFAULT)
        trim(0)


def _is_tuned() -> bool:
    return any(name in os.environ for name in _PARAMETERS)


def _function(name: str) -> Any:
    """A function of glibc's; other C libraries have none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
