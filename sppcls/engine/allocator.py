"""The C library's allocator, told how training uses memory."""

from __future__ import annotations

import ctypes
import os
import sys

# Parameters of mallopt (malloc.h) and the variables by which a user sets them.
_PARAMETERS = {"MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_MMAP_THRESHOLD_": -3}
_LARGER_THAN_ANY_MAP = 1 << 30


def keep_freed_memory() -> bool:
    """Have glibc keep large blocks that are freed, for the next training step, which asks for the same sizes again.

    By default glibc hands them back to the system at once and gets them anew, page by page and filled with zeros: a
    large part of a step on the CPU. The price is a somewhat higher peak (14 % for the full ZF-5 on batches of 16 at 180).

    Returns:
        Whether it does; not where the user's environment already tunes the allocator, nor on other systems.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _PARAMETERS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is None:
        return False
    taken = [mallopt(parameter, _LARGER_THAN_ANY_MAP) for parameter in _PARAMETERS.values()]
    return all(taken)
