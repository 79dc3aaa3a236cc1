"""Imports inside the package point down only; the contracts are in ``pyproject.toml``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """What import-linter says of the package in ``folder``."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as lint; lint()"
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_package_keeps_the_contracts() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kept, 0 broken" in done.stdout


def test_an_import_that_points_up_breaks_them(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sppcls", tmp_path / "sppcls", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, line in {
        "nn/lrn.py": "import pytorch_lightning",
        "runs/folder.py": "from sppcls.engine import logger",
        "comparison/statistics.py": "import torch",
        "data/sizes.py": "import sppcls.data.sampler",  # which imports it
    }.items():
        with open(tmp_path / "sppcls" / path, "a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    done = check(tmp_path)
    assert done.returncode == 1
    assert "0 kept, 4 broken" in done.stdout
