"""The tier of a test: ``unit``, ``run`` (trains, or starts programs) or ``long`` (minutes to hours, run by hand).

A test's marker names its tier; without one, its file or the nearest folder does, as listed here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

TIERS = ("unit", "run", "long")
DEFAULTS = {
    "": "unit",
    "_util/test_allocator.py": "run",
    "cli/doctor": "run",
    "cli/test_cli.py": "run",
    "cli/test_installed.py": "run",
    "comparison/test_board.py": "run",
    "comparison/test_board_browser.py": "run",
    "comparison/test_compare_command.py": "run",
    "comparison/test_first_screen.py": "run",
    "detection/test_detector.py": "run",
    "detection/test_judging.py": "run",
    "engine": "run",
    "engine/test_preflight.py": "unit",
    "evaluation/test_evaluate.py": "run",
    "hostile": "run",
    "inference/test_export.py": "run",
    "inference/test_export_docs.py": "run",
    "long": "long",
    "sweeps": "run",
    "sweeps/search": "unit",
    "sweeps/search/test_search.py": "run",
    "test_docs.py": "run",
    "test_notebooks.py": "run",
}


@cache
def default_tier(place: Path) -> str:
    """Tier of a file, given relative to the tests' folder."""
    names = (str(folder) if folder.parts else "" for folder in (place, *place.parents))
    return next(DEFAULTS[name] for name in names if name in DEFAULTS)


@cache
def tier_of(path: Path, tests: Path) -> str:
    """Tier of a file; what lies elsewhere, as the examples do, trains."""
    return default_tier(path.relative_to(tests)) if path.is_relative_to(tests) else "run"


def give_tier(item: pytest.Item, tests: Path) -> None:
    """Mark a test with the tier of its place, unless it has a tier's marker already.

    Raises:
        pytest.UsageError: it has the markers of two tiers.
    """
    marked = sorted({mark.name for mark in item.iter_markers()}.intersection(TIERS))
    if len(marked) > 1:
        raise pytest.UsageError(f"{item.nodeid} is marked {' and '.join(marked)}: a test has one tier")
    if not marked:
        item.add_marker(tier_of(item.path, tests))
