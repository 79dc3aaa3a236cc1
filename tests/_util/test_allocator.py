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
import resource
from sppcls._util.allocator import give_back_freed_memory, keep_freed_memory
{first}
for _ in range(12):  # a few more blocks come before the first one is used again
    bytearray({size})
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray({size})
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


KEEP = """
kept = keep_freed_memory()
if not kept:
    give_back_freed_memory()
"""


# Blocks of torch come from the same allocator, but loading it takes long.
TORCHS = FAULTS.replace("import resource", "import resource, torch").replace(
    "bytearray", "torch.ByteTensor(0).new_ones"
)


def faults(
    first: str = KEEP, size: int = 32 << 20, program: str = FAULTS, **environment: str
) -> tuple[bool, int]:
    """What ``kept`` is, and how many faults ten blocks of so many bytes cost."""
    done = subprocess.run(
        [sys.executable, "-c", program.format(first=first, size=size)],
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
    kept, few = faults(program=TORCHS)
    _, many = faults("kept = False", program=TORCHS)
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
    assert faults(untouched, size=1 << 20)[1] < 300
    assert faults(given_back, size=1 << 20) == (True, pytest.approx(0, abs=300))
    # 80 MiB, beyond what it learns.
    assert faults(given_back, size=80 << 20)[1] > 40_000


def start(*words: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    left = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    return subprocess.run(
        [sys.executable, *words],
        env={**left, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, path))), **environment},
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(("chosen", "policy"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_a_training_says_how_threads_wait_before_it_loads_torch(
    tiny: Callable[..., list[str]], tmp_path: Path, chosen: dict[str, str], policy: str
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import os\nos.write(1, os.environ['OMP_WAIT_POLICY'].encode())\nos._exit(0)\n"
    )
    done = start("-m", "sppcls.cli.main", "train", *tiny(), path=tmp_path, **chosen)
    assert done.stdout == policy


def test_threads_that_wait_leave_their_core_to_others(tmp_path: Path) -> None:
    code = "from sppcls._util.allocator import let_idle_threads_sleep; let_idle_threads_sleep(); import torch"
    done = start("-c", code, path=tmp_path, OMP_DISPLAY_ENV="VERBOSE")
    # What GNU's OpenMP itself says when torch loads it.
    assert "GOMP_SPINCOUNT = '0'" in done.stderr
