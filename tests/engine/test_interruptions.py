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
from pathlib import Path

import pytest
import torch
from forked import Loaded
from killing import ROOT, STATEFUL, Runs, differences, equal
from tiny_runs import TINY
from torch.utils.tensorboard import SummaryWriter

import sppcls
from sppcls.errors import DataError, Interrupted

WORDS = [*TINY, *STATEFUL, "trainer.max_epochs=3", "ckpt_path=auto"]


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
    assert ended.status in (128 + signum, 130, -signum), ended.output
    assert "Traceback" not in ended.output
    ended = runs.start(words)
    assert ended.status == 0, ended.output
    assert differences(whole, folder) == []


def test_a_stop_in_the_middle_of_a_log_call_is_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning's logger turns whatever is raised while it writes a figure into a ValueError about the figure."""
    written = SummaryWriter.add_scalar

    def add_scalar(self: SummaryWriter, tag: str, *args: object, **kwargs: object) -> None:
        if tag == "step/loss":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        written(self, tag, *args, **kwargs)

    monkeypatch.setattr(SummaryWriter, "add_scalar", add_scalar)
    with pytest.raises(Interrupted, match="^stopped by SIGINT at once; nothing is saved yet$") as caught:
        sppcls.train(sppcls.compose([*TINY, f"runs_dir={tmp_path}"]))
    assert caught.value.exit_code == 130


def test_a_loader_that_dies_in_the_middle_of_a_log_call_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add_scalar(self: SummaryWriter, tag: str, *args: object, **kwargs: object) -> None:
        raise RuntimeError("DataLoader worker (pid 4321) is killed by signal: Killed. ")

    monkeypatch.setattr(SummaryWriter, "add_scalar", add_scalar)
    with pytest.raises(DataError, match="loader process"):
        sppcls.train(sppcls.compose([*TINY, f"runs_dir={tmp_path}"]))


def test_a_reader_that_leaves_does_not_end_the_training(whole: Path, loaded: Loaded, tmp_path: Path) -> None:
    """As in ``python train.py | head -1``."""
    words = [*WORDS, f"runs_dir={tmp_path}", "run_name=run"]
    process = loaded.start(["train.py", *words], errors=True)
    try:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(60) == 0
    finally:
        process.close()
    folder = tmp_path / "shapes" / "run"
    assert differences(whole, folder) == []
    assert "Trained to epoch 3 of 3" in (folder / "train.log").read_text()


@pytest.mark.skipif(not shutil.which("faketime"), reason="needs the program faketime")
def test_a_clock_that_jumps(whole: Path, tmp_path: Path) -> None:
    """Two days back in the middle of the run, then a year ahead: durations are those of a clock that does not jump."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LD_PRELOAD": str(library),
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


# 48 steps in an epoch: on a CPU, memory is looked at before 3 epochs of it, but not before 2.
CHECKED = [*TINY, *STATEFUL, "data.batch_size=1", "data.val_batch_size=20", "scheduler=constant", "mix.mixup=0",
           "trainer.accumulate_grad_batches=1", "mix.cutmix=0"]  # fmt: skip


@pytest.mark.long
def test_the_look_at_memory_leaves_no_trace(runs: Runs, tmp_path: Path) -> None:
    words = [*CHECKED, f"runs_dir={tmp_path}"]
    ended = runs.start([*words, "run_name=unchecked"], {"call": "_fits", "number": 1})
    assert ended.status == 0, ended.output
    three = [*words, "trainer.max_epochs=3"]
    assert runs.start([*three, "run_name=looks"], {"call": "_fits", "number": 1}).status == -9
    # A validation step is two calls, one is before training: killed in the third epoch's.
    ended = runs.start([*three, "run_name=checked"], {"call": "validation_step", "number": 7})
    assert ended.status == -9, ended.output
    folders = (tmp_path / "shapes" / "unchecked", tmp_path / "shapes" / "checked")
    one, other = (torch.load(folder / "last.ckpt", weights_only=True) for folder in folders)
    assert one["epoch"] == other["epoch"] == 1
    for part in ("state_dict", "optimizer_states", "averaging_state"):
        assert equal(one.get(part), other.get(part)), part


@pytest.mark.parametrize(
    "epochs",
    [pytest.param(2, id="in the first step", marks=pytest.mark.long), pytest.param(60, id="before it")],
)
def test_too_large_a_batch_is_told_with_one_that_fits(runs: Runs, tmp_path: Path, epochs: int) -> None:
    def attempt(batch: int) -> str:
        words = [*TINY, "backbone.width=0.25", f"data.num_train={2 * batch}", f"data.batch_size={batch}",
                 "data.val_batch_size=8", f"trainer.max_epochs={epochs}", f"runs_dir={tmp_path}"]  # fmt: skip
        ended = runs.start(words, {"call": "on_train_batch_end", "number": 1}, memory=300 << 20)
        assert ended.status in (1, -9), ended.output
        assert "Traceback" not in ended.output
        assert ended.status == -9 or "images/s" not in ended.output
        return ended.output if ended.status == 1 else ""

    begin = r"data.batch_size=400: out of memory in a training step of 400 images at size 96"
    pattern = begin + (
        r"; (?:the largest that fits is )?(\d+)(?: fit)?: choose data.batch_size=\1 or smaller sizes"
        r" \(trainer.accumulate_grad_batches=(\d+) keeps"
    )
    output = attempt(400)
    told = re.search(pattern, output)
    if epochs == 2 and not told:  # the step that had begun may leave too little to try another
        assert re.search(f"{begin}: choose a smaller batch or smaller sizes", output), output
        return
    assert told, output
    most, accumulate = int(told[1]), int(told[2])
    assert most * accumulate >= 400 > most * (accumulate - 1)
    assert attempt(most // 2) == ""
    assert "out of memory" in attempt(3 * most)


def test_a_run_that_does_not_fit_any_more_keeps_its_config(runs: Runs, tmp_path: Path) -> None:
    words = [*TINY, "backbone.width=0.25", "data.num_train=400", "data.val_batch_size=8", "scheduler=constant",
             f"runs_dir={tmp_path}", "run_name=run"]  # fmt: skip
    small = [*words, "data.batch_size=20", "ckpt_path=auto"]
    ended = runs.start([*small, "trainer.max_epochs=1"])
    assert ended.status == 0, ended.output
    folder = tmp_path / "shapes" / "run"
    before = (folder / "config.yaml").read_bytes()
    large = [*words, "data.batch_size=400", f"ckpt_path={folder}", "trainer.max_epochs=150"]
    ended = runs.start(large, memory=300 << 20)
    assert ended.status == 1, ended.output
    assert "out of memory in a training step of 400 images" in ended.output
    assert (folder / "config.yaml").read_bytes() == before
    again = runs.start([*small, "trainer.max_epochs=150"], {"call": "on_train_batch_end", "number": 1})
    assert "resumed  " in again.output, again.output
    assert [path.name for path in (tmp_path / "shapes").iterdir()] == ["run"]
