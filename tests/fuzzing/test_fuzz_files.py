"""Damaged files of every kind, in a process of their own: a crash or an endless loop would be told here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzing.files import checkpoints, images, predictions, run_folders
from fuzzing.worker import Worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as process:
        yield process


def test_damaged_images(worker: Worker) -> None:
    images(worker).few(150)


def test_damaged_checkpoints(worker: Worker, tmp_path: Path) -> None:
    checkpoints(worker, tmp_path).few(40)


def test_damaged_predictions(worker: Worker, tmp_path: Path) -> None:
    predictions(worker, tmp_path).few(40)


def test_damaged_run_folders(worker: Worker, tmp_path: Path) -> None:
    run_folders(worker, tmp_path, reports=False).few(40)


def test_the_worker_tells_of_an_exception_and_of_its_death() -> None:
    with Worker() as worker:
        with pytest.raises(AssertionError, match="KeyError"):
            worker.ask("no such kind", b"")
        for _ in range(2):  # another one takes its place
            with pytest.raises(AssertionError, match="it died: -11"):
                worker.ask("crash", b"")
