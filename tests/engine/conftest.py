"""Runs of the real program that are killed, stopped or starved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Loaded
from killing import Runs


@pytest.fixture(scope="module")
def runs(loaded: Loaded) -> Iterator[Runs]:
    with Runs(loaded) as runs:
        yield runs


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest, runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the test file's ``WORDS`` without trouble."""
    place = tmp_path_factory.mktemp("whole")
    ended = runs.start([*request.module.WORDS, f"runs_dir={place}", "run_name=run"])
    assert ended.status == 0, ended.output
    return place / "shapes" / "run"
