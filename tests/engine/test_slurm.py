"""Runs in a job of Slurm: two tasks that srun would have started, and the warning before the end of the job."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import wait_until

from sppcls import compose, train
from sppcls._util.signals import WARNING
from sppcls.engine.slurm import queue_again, slurm_environment, slurm_job
from sppcls.errors import ConfigError, Interrupted

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A job of two tasks on one node; returns the file in which a stand-in for ``scontrol`` keeps its arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    asked = tmp_path / "asked"
    (programs / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (programs / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    job = {"JOB_ID": "4711", "JOB_NAME": "train", "NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1",
           "NODEID": "0", "NODELIST": "127.0.0.1"}  # fmt: skip
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    yield asked
    signal.signal(signal.SIGTERM, before)  # ignored once a job is queued again


def end_the_job_too() -> None:
    """Let ``scontrol`` end the process that asks for it, as Slurm does: soon, and whatever it is at."""
    program = Path(os.environ["PATH"].partition(":")[0]) / "scontrol"
    again = "(for n in 1 2 3 4 5 6 7 8 9 10; do kill -TERM $PPID; sleep 0.1; done) > /dev/null 2>&1 &"
    program.write_text(f"{program.read_text()}{again}\n")


def test_two_tasks_are_warned_and_the_job_queued_again_goes_on(
    tiny, program, cluster: Path, tmp_path: Path, unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_PORT", str(unused_port))
    end_the_job_too()
    words = [*tiny("data.num_train=160", "data.batch_size=2", "data.workers=1", "ckpt_path=auto"),
             "trainer=slurm", "trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.threads=1"]  # fmt: skip

    def srun() -> list:
        tasks = []
        for rank in ("0", "1"):
            monkeypatch.setenv("SLURM_PROCID", rank)
            monkeypatch.setenv("SLURM_LOCALID", rank)
            tasks.append(program(words, start_new_session=True))
        return tasks

    tasks = srun()
    runs = tmp_path / "runs" / "shapes"
    wait_until(lambda: bool(list(runs.glob("*/last.ckpt"))), tasks[0])
    for task in reversed(tasks):
        os.killpg(task.pid, signal.SIGUSR1)  # Slurm signals all processes of a task, the loaders' too
    outputs = [task.communicate(timeout=120)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [128 + signal.SIGUSR1] * 2, outputs
    assert cluster.read_text() == "requeue 4711\n"
    assert "stopped by SIGUSR1" in outputs[0]
    assert "saved. Slurm job 4711 is queued again" in outputs[0]
    assert "Slurm job" not in outputs[1]
    assert "Traceback" not in "".join(outputs)
    (folder,) = runs.iterdir()
    assert not list(folder.glob("hpc_ckpt*")), "Lightning's own way of requeueing stays out of it"

    tasks = srun()
    outputs = [task.communicate(timeout=240)[0] for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], outputs
    assert f"resumed     {folder / 'last.ckpt'}" in outputs[0]
    assert list(runs.iterdir()) == [folder]
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        assert [row["images_seen"] for row in csv.DictReader(file)] == ["160", "320"]


def test_a_command_that_would_begin_anew_is_saved_but_not_queued_again(
    tiny, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    last = tmp_path / "runs" / "shapes" / "one" / "last.ckpt"

    def warn() -> None:
        while not last.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a signal that comes too late ends no tests
    try:
        threading.Thread(target=warn, daemon=True).start()
        with pytest.raises(Interrupted) as caught:
            train(compose(tiny("data.num_train=400", "data.batch_size=2", "run_name=one")))
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN, "as it was before training"
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught.value.exit_code == 128 + signal.SIGUSR1
    assert "Slurm job 4711 is not queued again: without ckpt_path=auto" in str(caught.value)
    assert "Resume with: " in str(caught.value)
    assert not cluster.exists()


WARNED = """
import atexit, os, signal
from pytorch_lightning import Callback

def warn(kill=os.kill, process=os.getpid(), number=signal.SIGUSR1):
    kill(process, number)

if os.environ["WARNED"] == "early":
    warn()
atexit.register(warn)

class WithTheInterpreter:
    def __del__(self, warn=warn):
        warn()

last = WithTheInterpreter()

class Nothing(Callback):
    pass
"""


def test_a_warning_outside_of_the_training_ends_nothing(
    tiny, cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "warned.py").write_text(WARNED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, value in {"NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    end_the_job_too()
    words = tiny("plugins=[warned]", "+callbacks.nothing._target_=warned.Nothing", "ckpt_path=auto")

    def start(when: str) -> tuple[int, str]:
        monkeypatch.setenv("WARNED", when)
        done = subprocess.run(
            [sys.executable, ROOT / "train.py", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    status, output = start("early")
    assert status == 128 + signal.SIGUSR1, output
    assert "stopped by SIGUSR1 at epoch 1, step 1; saved. Slurm job 4711 is queued again" in output
    status, output = start("late")
    assert status == 0, output
    assert "resumed" in output
    assert cluster.read_text() == "requeue 4711\n"


def test_a_job_with_another_number_of_tasks_is_one_line(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = slurm_environment(devices=2, num_nodes=1)
    assert environment is not None
    assert environment.auto_requeue is False
    with pytest.raises(ConfigError, match=r"^trainer.devices=1: this Slurm job has --ntasks-per-node=2"):
        slurm_environment(devices=1, num_nodes=1)
    with pytest.raises(ConfigError, match=r"^trainer.num_nodes=2: this Slurm job has --nodes=1"):
        slurm_environment(devices=2, num_nodes=2)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(ConfigError, match="SLURM_NTASKS=2; give sbatch --ntasks-per-node"):
        slurm_environment(devices=2, num_nodes=1)
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")  # a shell inside a job: srun has not started this process
    assert slurm_environment(devices=2, num_nodes=1) is None


def test_what_scontrol_says_when_it_refuses(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queue_again() == ""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "40")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert slurm_job() == "40_3"
    assert queue_again() == ""
    assert cluster.read_text() == "requeue 4711\nrequeue 40_3\n"
    program = Path(os.environ["PATH"].partition(":")[0]) / "scontrol"
    program.write_text("#!/bin/sh\necho 'Job is not\nrequeueable' >&2\nexit 1\n")
    assert queue_again() == "scontrol requeue 40_3: Job is not requeueable"
    program.unlink()
    assert "No such file" in queue_again()


def test_the_script_of_the_page_has_what_a_warned_job_needs_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (script,) = re.findall(
        r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "docs/cluster.md").read_text(), re.DOTALL
    )
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(\S*)", script, re.MULTILINE))
    assert {"chdir", "partition", "mem", "time", "requeue"} < set(asked)
    assert re.fullmatch(f"{WARNING.name.removeprefix('SIG')}@\\d+", asked["signal"])

    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text('PATH="$PWD/.venv/bin:$PATH"\n')
    srun = tmp_path / ".venv" / "bin" / "srun"  # found only where the environment is active
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$SRUN_CPUS_PER_TASK" "$@"\n')
    srun.chmod(0o755)
    (tmp_path / "train.sbatch").write_text(script)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked["cpus-per-task"])
    done = subprocess.run(
        ["bash", "train.sbatch", "data.root=A B"], cwd=tmp_path, capture_output=True, text=True
    )
    words = ["python", "train.py", "trainer=slurm", "ckpt_path=auto", "data.root=A B"]
    assert done.stdout.splitlines() == [asked["cpus-per-task"], "--kill-on-bad-exit=1", *words], done.stderr
