"""Impatient signals, a reader that leaves, a clock that jumps, and memory that runs out."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from killing import ROOT, STATEFUL, Runs, differences
from tiny_runs import TINY

WORDS = [*TINY, *STATEFUL, "trainer.max_epochs=3", "ckpt_path=auto"]


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with Runs() as runs:
        yield runs


@pytest.fixture(scope="module")
def whole(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without trouble."""
    place = tmp_path_factory.mktemp("whole")
    ended = runs.start([*WORDS, f"runs_dir={place}", "run_name=run"])
    assert ended.status == 0, ended.output
    return place / "shapes" / "run"


@pytest.mark.parametrize(
    ("signum", "times"), [(signal.SIGTERM, 2), (signal.SIGINT, 3)], ids=["SIGTERM twice", "SIGINT 3 times"]
)
def test_a_signal_repeated_stops_at_once_and_costs_no_checkpoint(
    runs: Runs, whole: Path, tmp_path: Path, signum: int, times: int
) -> None:
    words = [*WORDS, f"runs_dir={tmp_path}", "run_name=run", "data.workers=1"]
    folder = tmp_path / "shapes" / "run"
    process = runs.begin(words)
    runs.wait_for((folder / "last.ckpt").exists, process)
    for _ in range(times):
        try:
            os.killpg(process, signum)  # as a terminal does
        except ProcessLookupError:
            break
        time.sleep(0.02)
    ended = runs.end()
    # The first one may have been obeyed before the second one came; a third may come before Python can hear it.
    assert ended.status in (128 + signum, 130, 143, -signum), ended.output
    assert "Traceback" not in ended.output
    ended = runs.start(words)
    assert ended.status == 0, ended.output
    assert differences(whole, folder) == []


def test_a_reader_that_leaves_does_not_end_the_training(whole: Path, tmp_path: Path) -> None:
    """``python train.py | head -1``, in a shell."""
    words = [*WORDS, f"runs_dir={tmp_path}", "run_name=run"]
    command = f'{sys.executable} {ROOT / "train.py"} "$@" 2>{tmp_path / "stderr"} | head -1; exit ${{PIPESTATUS[0]}}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command, "bash", *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (tmp_path / "stderr").read_text() == ""
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    folder = tmp_path / "shapes" / "run"
    assert differences(whole, folder) == []
    assert "Trained to epoch 3 of 3" in (folder / "train.log").read_text()


@pytest.mark.skipif(not shutil.which("faketime"), reason="needs the program faketime")
def test_a_clock_that_jumps(whole: Path, tmp_path: Path) -> None:
    """Two days back in the middle of the run, then a year ahead: durations are those of a clock that does not jump."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LD_PRELOAD": str(library),
                   "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
                   "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    words = [*WORDS, f"runs_dir={tmp_path}", "run_name=run", "log.save_every_minutes=0.0001"]
    folder = tmp_path / "shapes" / "run"
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        for epochs, jump in ((1, "-2d"), (2, "+1y")):
            while process.poll() is None and _rows(folder) < epochs:
                time.sleep(0.005)
            clock.write_text(f"{jump}\n")
        output = process.communicate(timeout=300)[0]
    passed = time.monotonic() - started
    assert process.returncode == 0, output
    days = re.findall(r"^(\d{4}-\d\d-\d\d) ", (folder / "train.log").read_text(), re.MULTILINE)
    assert len(set(days)) == 3, "the log shows that the clock has jumped"
    assert differences(whole, folder) == []
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in ("epoch_seconds", "train_seconds"):
        assert all(0 < float(row[name]) < passed for row in rows)
    assert 0 < json.loads((folder / "result.json").read_text())["train_seconds"] < passed


def _rows(folder: Path) -> int:
    path = folder / "metrics.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


# 34 steps in an epoch: of 3 epochs and more, memory is looked at on a CPU too.
CHECKED = [*TINY, *STATEFUL, "data.num_train=34", "data.batch_size=1", "scheduler=constant", "backbone.norm=batch",
           "trainer.accumulate_grad_batches=1", "sizes=progressive_128_224", "sizes.sizes=[64,96]",
           "mix.mixup=0", "mix.cutmix=0"]  # fmt: skip
LARGE = ["backbone.width=0.25", "data.num_train=2000", "data.batch_size=1000", "trainer.max_epochs=60",
         "data.workers=1", "augment=none"]  # fmt: skip


def test_the_look_at_memory_leaves_no_trace(runs: Runs, tmp_path: Path) -> None:
    words = [*(w for w in CHECKED if w != "trainer.max_epochs=2"), f"runs_dir={tmp_path}"]
    assert runs.start([*words, "trainer.max_epochs=2"], {"call": "_fits", "number": 1}).status == 0
    assert runs.start([*words, "trainer.max_epochs=3", "run_name=dead"], {"call": "_fits", "number": 1}).status == -9
    ended = runs.start([*words, "trainer.max_epochs=2", "run_name=unchecked"])
    assert ended.status == 0, ended.output
    ended = runs.start([*words, "trainer.max_epochs=3", "run_name=checked"], {"call": "on_train_epoch_start", "number": 1})
    assert ended.status == -9
