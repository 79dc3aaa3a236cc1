"""The time left of a sweep, and what is printed of each job's header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sppcls.sweeps.folder import save_outcome
from sppcls.sweeps.job import Ended
from sppcls.sweeps.progress import Progress


def finished(sweep: Path, job: str, seconds: float, train_seconds: float) -> None:
    (sweep / job).mkdir()
    (sweep / job / "result.json").write_text(json.dumps({"epochs": 2, "train_seconds": train_seconds}))
    save_outcome(sweep, job, Ended("finished", "", seconds, 900.0))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    jobs = [{"name": f"seed{seed}", "values": {}, "overrides": []} for seed in range(8)]
    (tmp_path / "sweep.json").write_text(json.dumps({"name": "s", "jobs": jobs}))
    return tmp_path


def test_the_time_left_is_the_median_of_finished_jobs_for_each_that_is_left(sweep: Path) -> None:
    progress = Progress(sweep, ["seed0", "seed1", "seed2", "seed3"])
    assert progress.time_left("seed0") == ""
    save_outcome(sweep, "seed7", Ended("failed", "killed", 5000.0, 900.0))
    assert progress.time_left("seed0") == ""
    finished(sweep, "seed0", seconds=600, train_seconds=590)
    assert progress.time_left("seed1") == " (about 30 min left)"
    finished(sweep, "seed4", seconds=6000, train_seconds=5000)
    finished(sweep, "seed5", seconds=30, train_seconds=900)  # its last process had little left to do
    # 2 times, then once, the median of 10, 15 and 100 minutes.
    assert progress.time_left("seed2") == " (about 30 min left)"
    assert progress.time_left("seed3") == " (about 15 min left)"


@pytest.mark.parametrize(("seconds", "text"), [(10, "less than 1 min"), (5940, "about 99 min"), (9000, "about 2.5 h")])  # fmt: skip
def test_long_times_are_hours(sweep: Path, seconds: float, text: str) -> None:
    finished(sweep, "seed0", seconds=seconds, train_seconds=0)
    assert Progress(sweep, ["seed1"]).time_left("seed1") == f" ({text} left)"


def test_a_later_header_has_only_what_differs_and_the_rest_is_whole(sweep: Path) -> None:
    progress = Progress(sweep, ["seed0", "seed1"])
    said: list[str] = []
    for folder in ("a", "b"):
        say = progress.shortened(said.append)
        for line in ("backbone  zf5", f"folder  {folder}", "", "epoch 1/1 the same", "", "Best at epoch 1:"):
            say(line)
    rest = ["", "epoch 1/1 the same", "", "Best at epoch 1:"]
    assert said == ["backbone  zf5", "folder  a", *rest, "folder  b", *rest]
