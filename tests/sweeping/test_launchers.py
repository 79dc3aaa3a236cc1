"""Sweeps whose jobs are put into other processes by Hydra's launchers."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import wait_until

from sppcls.errors import ConfigError
from sppcls.run_folder import in_use
from sppcls.sweeping.launch import run_sweep


def summary(sweep: Path) -> dict[str, dict[str, str]]:
    with open(sweep / "summary.csv", newline="", encoding="utf-8") as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def images_seen(run: Path) -> list[str]:
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        return [row["images_seen"] for row in csv.DictReader(file)]


def family(process: int) -> Iterator[int]:
    """A process and all that it has started, in whatever session."""
    yield process
    children = Path(f"/proc/{process}/task/{process}/children")
    for child in children.read_text().split() if children.exists() else ():
        yield from family(int(child))


def test_joblib_runs_two_at_once_and_whatever_stops_them_they_go_on(tiny, program, tmp_path: Path) -> None:
    words = ["-m", *tiny("seed=0,1", "data.num_train=160", "data.batch_size=2", "log.save_every_minutes=0.0001",
                         "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")]  # fmt: skip
    sweep = tmp_path / "runs" / "shapes-seed"
    runs = [sweep / "seed0", sweep / "seed1"]

    def start_and_wait_for_two(known: list[int]) -> subprocess.Popen[str]:
        process = program(words, start_new_session=True)
        wait_until(lambda: all((run / "last.ckpt").exists() for run in runs), process)
        wait_until(
            lambda: all(
                (run / "last.ckpt").stat().st_mtime_ns > t for run, t in zip(runs, known, strict=True)
            ),
            process,
        )
        return process

    # Ctrl-C: a terminal sends it to the sweep and to joblib's workers.
    process = start_and_wait_for_two([0, 0])
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "seed0: stopped by SIGTERM" in output.replace("sppcls: ", "")
    assert "seed1: stopped by SIGTERM" in output.replace("sppcls: ", "")
    assert not any(map(in_use, runs))
    assert {name: row["status"] for name, row in summary(sweep).items()} == {
        "seed0": "stopped",
        "seed1": "stopped",
    }

    # kill -9 of the sweep alone: its runs notice, save and stop, and joblib's workers leave.
    process = start_and_wait_for_two([(run / "last.ckpt").stat().st_mtime_ns for run in runs])
    process.kill()
    output = process.communicate(timeout=60)[0]  # which ends when nobody can write to it any more
    assert not any(map(in_use, runs))
    assert "2 runs: 0 finished, 2 begun, 0 new" in output

    process = program(words)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    assert "run 1 of 2 goes on" in output
    assert "run 2 of 2 goes on" in output
    assert [images_seen(run) for run in runs] == [["160", "320"]] * 2
    assert {row["status"] for row in summary(sweep).values()} == {"finished"}
    assert not (sweep / ".launcher").exists()
