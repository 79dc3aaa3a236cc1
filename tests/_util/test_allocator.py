"""The allocator's setting, seen from the system's side: page faults of large blocks that come and go."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAULTS = """
import resource, torch
from sppcls._util.allocator import give_back_freed_memory, keep_freed_memory
{first}
for _ in range(12):  # a few more blocks come before the first one is used again
    torch.ones({values})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones({values})
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


KEEP = """
kept = keep_freed_memory()
if not kept:
    give_back_freed_memory()
"""


def faults(first: str = KEEP, values: int = 8 << 20, **environment: str) -> tuple[bool, int]:
    """What ``kept`` is, and how many faults ten blocks of so many values cost; 8 << 20 are 32 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(first=first, values=values)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    kept, count = done.stdout.split()
    return kept == "True", int(count)


pytestmark = pytest.mark.skipif(
    not (sys.platform.startswith("linux") and os.confstr("CS_GNU_LIBC_VERSION")), reason="glibc's allocator"
)


def test_freed_memory_is_used_again() -> None:
    # Ten blocks of 32 MiB are 81,920 pages of 4 KiB, or fewer faults where the system gives larger pages.
    kept, few = faults()
    _, many = faults("kept = False")
    assert kept
    assert few < 1_000 < 40_000 < many


@pytest.mark.parametrize(
    ("environment", "keeps"),
    [
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "1073741824", "MALLOC_MMAP_THRESHOLD_": "1073741824"}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}, False),
    ],
)
def test_a_user_who_tunes_the_allocator_is_not_overruled(environment: dict[str, str], keeps: bool) -> None:
    kept, count = faults(**environment)
    assert not kept
    assert count < 1_000 if keeps else count > 40_000


def test_afterwards_memory_is_kept_as_far_as_by_itself() -> None:
    untouched, given_back = "kept = False", "kept = keep_freed_memory(); give_back_freed_memory()"
    # 1 MiB: ten blocks are 2,560 pages. glibc learns to keep them.
    assert faults(untouched, values=1 << 18)[1] < 300
    assert faults(given_back, values=1 << 18) == (True, pytest.approx(0, abs=300))
    # 80 MiB, beyond what it learns.
    assert faults(given_back, values=20 << 20)[1] > 40_000


@pytest.mark.parametrize("chosen", [None, "active"])
def test_threads_that_wait_leave_their_core_to_others(
    tiny: Callable[..., list[str]], chosen: str | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if chosen:
        environment["OMP_WAIT_POLICY"] = chosen
    done = subprocess.run(
        [sys.executable, "-m", "sppcls.cli.main", "train", *tiny("trainer.max_epochs=1", "trainer.limit_train_batches=1")],
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    # What GNU's OpenMP itself says when torch loads it.
    assert ("GOMP_SPINCOUNT = '0'" in done.stderr) == (chosen is None)
