"""Random inputs for as long as there is time: `FUZZ_MINUTES=10 pytest -m long tests/long/test_long_fuzz.py -s`.

The minutes are for each target; a target ends at the first input that is not handled as it should be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fuzzing.configs import any_values, command_lines, photos, trained
from fuzzing.files import checkpoints, images, predictions, run_folders
from fuzzing.geometry import GEOMETRY
from fuzzing.target import Target
from fuzzing.worker import Worker

MINUTES = float(os.environ.get("FUZZ_MINUTES", "10"))

pytestmark = [pytest.mark.long, pytest.mark.timeout(60 * MINUTES + 1800)]

TARGETS: dict[str, Callable[[Path, Worker], Target]] = {
    "config values": lambda folder, worker: any_values(photos(folder)),
    "training": lambda folder, worker: trained(photos(folder)),
    "command lines": lambda folder, worker: command_lines(),
    "images": lambda folder, worker: images(worker),
    "checkpoints": lambda folder, worker: checkpoints(worker, folder),
    "predictions": lambda folder, worker: predictions(worker, folder),
    "run folders": lambda folder, worker: run_folders(worker, folder, reports=True),
    **{name: lambda folder, worker, target=target: target for name, target in GEOMETRY.items()},  # type: ignore[misc]
}


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker() as process:
        yield process


@pytest.mark.parametrize("name", TARGETS)
def test_fuzz(name: str, tmp_path: Path, worker: Worker) -> None:
    target = TARGETS[name](tmp_path, worker)
    try:
        target.many(MINUTES)
    finally:
        print(f"\n{name}: {MINUTES:g} minutes, {target}")
