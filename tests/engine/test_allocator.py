"""The allocator's setting, seen from the system's side: page faults of large blocks that come and go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import resource, torch
from sppcls.engine.allocator import give_back_freed_memory, keep_freed_memory
kept = keep_freed_memory()
if not kept:
    give_back_freed_memory()
for _ in range(12):  # a few more blocks come before the first one is used again
    torch.ones(8 << 20)  # 32 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(8 << 20)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> tuple[bool, int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(
    not (sys.platform.startswith("linux") and os.confstr("CS_GNU_LIBC_VERSION")), reason="glibc's allocator"
)
def test_freed_memory_is_used_again_unless_the_user_says_otherwise() -> None:
    # Ten blocks of 32 MiB are 81,920 pages of 4 KiB, or fewer faults where the system gives larger pages.
    kept, few = faults()
    theirs, many = faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert kept
    assert not theirs
    assert few < 1_000 < 40_000 < many
    # One who keeps more than we would is not overruled either.
    theirs, few = faults(MALLOC_TRIM_THRESHOLD_="1073741824", MALLOC_MMAP_THRESHOLD_="1073741824")
    assert not theirs
    assert few < 1_000
