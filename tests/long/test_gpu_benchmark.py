"""The benchmark for machines with a GPU goes through all its parts without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def test_a_dry_run_writes_its_table(tmp_path: Path) -> None:
    out = tmp_path / "table.md"
    subprocess.run([sys.executable, str(SCRIPT), "--dry", "--out", str(out)], check=True)
    rows = [line.split(" | ")[0] for line in out.read_text().splitlines() if line.startswith("| ")]
    for part, count in {"SPP 6-3-2-1": 12, "training step": 4, "sppcls train": 2, "full ZF-5": 3}.items():
        assert sum(row.startswith(f"| {part}") for row in rows) == count
    assert "A dry run" in out.read_text()
    assert "Failed" not in out.read_text()


def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--data-root", "."],
        env={"CUDA_VISIBLE_DEVICES": "", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "needs a GPU" in done.stderr
