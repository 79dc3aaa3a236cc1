"""Which versions ``python tests/versions.py`` asks for, and that public CI tests those that the package names."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from versions import ROOT, requirements

PROJECT = """
[project]
dependencies = ["torch>=2.14", "numpy>=2.0"]
[project.optional-dependencies]
timm = ["timm>=1.0.21"]
dev = ["pytest>=8.0", "ruff>=0.15", "numpy>=2.0", "mkdocstrings[python]>=1.0"]
"""


def test_the_lowest_versions_are_pinned_and_the_newest_are_not(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(PROJECT)
    assert requirements(path, lowest=True) == [
        "torch==2.14",
        "numpy==2.0",
        "pytest==8.0",
        "mkdocstrings[python]==1.0",
    ]
    assert requirements(path, lowest=False) == [
        "torch>=2.14",
        "numpy>=2.0",
        "pytest>=8.0",
        "mkdocstrings[python]>=1.0",
    ]


def test_what_has_no_lowest_version_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(PROJECT.replace("numpy>=2.0", "numpy"))
    with pytest.raises(SystemExit, match=r"pyproject.toml: numpy: only name>=version and"):
        requirements(path, lowest=True)


@pytest.mark.parametrize("lowest", [True, False])
def test_the_packages_own_requirements_are_understood(lowest: bool) -> None:
    found = requirements(ROOT / "pyproject.toml", lowest)
    assert {"torch", "pytest", "mkdocstrings[python]"} <= {re.split("[=>]=", line)[0] for line in found}


def test_public_ci_runs_every_python_of_the_classifiers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line}
    workflow = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    cells = workflow["jobs"]["tests"]["strategy"]["matrix"]["include"]
    lowest = min(named, key=lambda version: tuple(map(int, version.split("."))))
    assert project["requires-python"] == f">={lowest}"
    assert {cell["python"] for cell in cells} == named
    # Old packages have no files for new Pythons.
    assert [cell["python"] for cell in cells if cell["versions"] == "lowest"] == [lowest]
    assert all(cell["versions"] in ("lowest", "newest") for cell in cells)
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in named
