"""Sweeps whose jobs are put into other processes by Hydra's launchers."""

from __future__ import annotations

import csv
import importlib.util
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import wait_until

from sppcls.errors import ConfigError
from sppcls.runs.folder import in_use
from sppcls.sweeps.launch import _EXTRAS, run_sweep

ROOT = Path(__file__).resolve().parent.parent.parent


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


def test_joblib_runs_two_at_once_and_after_ctrl_c_the_sweep_goes_on(tiny, program, tmp_path: Path) -> None:
    words = [
        "-m",
        *tiny("seed=0,1", "data.num_train=160", "data.batch_size=2", "log.save_every_minutes=0.0001"),
    ]
    sweep = tmp_path / "runs" / "shapes-seed"
    runs = [sweep / "seed0", sweep / "seed1"]
    process = program([*words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], start_new_session=True)
    wait_until(lambda: all((run / "last.ckpt").exists() for run in runs), process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the sweep and to joblib's processes
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert output.count("sppcls: stopped by SIGTERM") == 2
    assert not any(map(in_use, runs))
    assert [row["status"] for row in summary(sweep).values()] == ["stopped", "stopped"]

    # Without joblib, whose processes and theirs are loaded anew, which takes longer than all the rest.
    process = program([*words, "log.save_every_minutes=10"], children=2)
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    assert "[1/2] seed0 resumed" in output
    assert "[2/2] seed1 resumed" in output
    assert [images_seen(run) for run in runs] == [["160", "320"]] * 2
    assert [row["status"] for row in summary(sweep).values()] == ["finished", "finished"]
    assert not (sweep / ".launcher").exists()


@pytest.mark.long  # without submitit: tests/engine/test_slurm.py
def test_submitit_warns_a_run_of_two_processes_which_goes_on(
    tiny, program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a job of Slurm with one task, which must not be taken for the one process of the run.
    for name in ("JOB_ID", "PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    words = ["-m", *tiny("seed=0", "data.num_train=160", "data.batch_size=2", "trainer.devices=2",
                         "trainer.strategy=ddp", "hydra/launcher=submitit_local")]  # fmt: skip
    sweep = tmp_path / "runs" / "shapes-seed"
    process = program(words)
    wait_until(lambda: bool(list(sweep.glob("*/last.ckpt"))), process)
    (run,) = (path.parent for path in sweep.glob("*/last.ckpt"))
    (log,) = (sweep / ".launcher" / ".submitit").glob("*/*_0_log.out")
    _, *members = family(int(log.name.partition("_")[0]))  # submitit's stand-in for Slurm, and the job
    for member in members:
        os.kill(member, signal.SIGUSR2)  # Slurm signals every process of a job
    output = process.communicate(timeout=240)[0]
    assert process.returncode == 0, output
    said = log.read_text()
    name = run.name
    assert said.count(f"{name}: [1/1] {name}\n") == 1
    assert said.count(f"{name}: stopping: warned by SIGUSR2; the run saves what it has") == 1
    assert said.count(f"{name}: [1/1] {name} resumed\n") == 1
    assert images_seen(run) == ["160", "320"]
    assert summary(sweep)[name]["status"] == "finished"


def test_a_process_of_a_launcher_starts_without_torch() -> None:
    # It only starts the run, which loads torch itself.
    code = "import sys, sppcls.sweeps.launch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_launcher_that_is_not_installed_is_one_line(tiny, tmp_path: Path) -> None:
    if importlib.util.find_spec("ray"):
        pytest.skip("it is installed")
    with pytest.raises(ConfigError, match=r'^hydra/launcher=ray: needs pip install "sppcls\[ray\]"$'):
        run_sweep(tiny("seed=0,1", "hydra/launcher=ray"))
    assert not (tmp_path / "runs").exists()


def test_a_run_is_one_task_of_a_job(tiny) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.tasks_per_node=4: a run is one task"):
        run_sweep(tiny("seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.tasks_per_node=4"))


def test_the_extras_bring_what_the_messages_say() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for launcher, extra in _EXTRAS.items():
        assert any(launcher.partition("_")[0] in package for package in extras[extra])
