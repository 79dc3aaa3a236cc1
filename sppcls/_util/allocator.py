"""Settings of the libraries under torch for the way in which a training uses memory and threads. Free of torch."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from typing import Any

# Parameters of mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGER_THAN_ANY_MAP = 1 << 30
# What glibc comes to by itself at most, from the sizes of what is freed; once set, thresholds no longer move.
_MMAP_AT_MOST, _TRIM_AT_MOST = 32 << 20, 64 << 20


def let_idle_threads_sleep() -> None:
    """Have the threads of OpenMP sleep, not spin, while they wait for each other; before torch is loaded.

    Loader processes share the cores with them: a thread that spins keeps a core from the loader, and the thread that it
    waits for may be the one that has no core. Where nothing else wants the cores, spinning is quicker: this is for training,
    not for prediction. A choice of the user's stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


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
    # Older versions take no more than they come to by themselves.
    taken = mallopt(_MMAP_THRESHOLD, _LARGER_THAN_ANY_MAP) or mallopt(_MMAP_THRESHOLD, _MMAP_AT_MOST)
    return bool(taken and mallopt(_TRIM_THRESHOLD, _LARGER_THAN_ANY_MAP))


def give_back_freed_memory() -> None:
    """Have glibc hand back what it keeps, as far as it can, and from now on keep as much as by itself.

    Does nothing where the user's environment tunes the allocator.
    """
    mallopt, trim = _function("mallopt"), _function("malloc_trim")
    if mallopt is not None and trim is not None and not _is_tuned():
        mallopt(_MMAP_THRESHOLD, _MMAP_AT_MOST)
        mallopt(_TRIM_THRESHOLD, _TRIM_AT_MOST)
        trim(0)


def trim_freed_memory() -> None:
    """Have glibc hand back what it keeps at the moment, as after many small pieces that are not asked for again."""
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def allow_many_files(wanted: int = 4096) -> None:
    """Let this process open ``wanted`` files, or as many as it may: every batch of a loader process takes some.

    torch cannot end its loader processes once there are too few, and a limit below the one that the system enforces is
    seldom meant.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _is_tuned() -> bool:
    return (
        "MALLOC_TRIM_THRESHOLD_" in os.environ
        or "MALLOC_MMAP_THRESHOLD_" in os.environ
        or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    )


def _function(name: str) -> Any:
    """A function of glibc's; other C libraries have none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
