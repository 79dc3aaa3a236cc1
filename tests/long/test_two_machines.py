"""Two machines, which are two network namespaces of this one: torchrun on each, and one of them is lost.

`pytest -m long tests/long/test_two_machines.py -n 0 -s`, as root on Linux with iproute2.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from machines import ADDRESSES, FIRST, SECOND, Machines, needs_namespaces

from sppcls.runs.checkpoint import read_checkpoint

# No dropout and no normalisation over a batch: two shares of a batch then give the gradient of the whole.
WORDS = ["trainer=torchrun", "head.dropout=0", "backbone.norm=null", "optimizer.lr=0.001", "scheduler=constant",
         "data.num_train=96", "log.save_every_minutes=0.0001", "trainer.timeout=20"]  # fmt: skip

pytestmark = [pytest.mark.timeout(1800), needs_namespaces]
Train = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def machines() -> Iterator[Machines]:
    with Machines() as machines:
        yield machines


@pytest.fixture
def torchrun(machines: Machines) -> Train:
    """``torchrun`` on one machine, as a person would start it there."""

    def start(name: str, words: list[str], *, nodes: int = 2, processes: int = 1) -> subprocess.Popen[str]:
        join = ["--nnodes", str(nodes), "--nproc-per-node", str(processes), "--rdzv-backend", "c10d",
                "--rdzv-endpoint", f"{FIRST}:29500"]  # fmt: skip
        command = [sys.executable, "-m", "torch.distributed.run", *join, "train.py", *words]
        return machines.start(name, command, env={**os.environ, "GLOO_SOCKET_IFNAME": "cable"})

    return start


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return outputs


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "last.ckpt")["state_dict"]


def epochs(folder: Path) -> list[dict[str, float]]:
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def error_lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("sppcls: ")]


def test_two_machines_are_as_two_processes_of_one(
    tiny: Callable[..., list[str]], torchrun: Train, tmp_path: Path
) -> None:
    words = tiny(
        *WORDS, "data.batch_size=8", "head.dropout=0.5"
    )  # dropout's draws are those of a process's number
    outputs = finish(*(torchrun(name, [*words, "run_name=apart"]) for name in ADDRESSES))
    assert "epoch 1/2" in "".join(outputs)
    finish(torchrun(FIRST, [*words, "run_name=one"], nodes=1, processes=2))
    apart, one = (weights(tmp_path / "runs" / "shapes" / name) for name in ("apart", "one"))
    assert all(torch.equal(apart[name], one[name]) for name in one)


@pytest.mark.parametrize("loss", ["killed", "cable"])
def test_a_machine_is_lost_and_the_run_goes_on_with_one(
    tiny: Callable[..., list[str]], machines: Machines, torchrun: Train, tmp_path: Path, loss: str
) -> None:
    words = tiny(*WORDS, "trainer.max_epochs=4")
    folder = tmp_path / "runs" / "shapes" / "lost"
    first, _ = (torchrun(name, [*words, "data.batch_size=2", "run_name=lost"]) for name in ADDRESSES)
    while not (folder / "last.ckpt").exists() or read_checkpoint(folder / "last.ckpt")["global_step"] < 30:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    lost_at = time.monotonic()
    if loss == "killed":
        machines.kill(SECOND)
    else:
        machines.cable("down")
    output = first.communicate(timeout=120)[0]
    seconds = time.monotonic() - lost_at
    print(f"{loss}: the run ended after {seconds:.1f} s\n" + "\n".join(error_lines(output)))
    assert seconds < 60
    assert first.returncode == 1
    (line,) = error_lines(output)
    assert "its machine or process is gone" in line
    assert f"ckpt_path={folder}" in line
    assert "on N processes instead of 2, data.batch_size=4/N" in line
    if loss == "cable":
        machines.cable("up")
    step = read_checkpoint(folder / "last.ckpt")["global_step"]
    assert 30 <= step < 4 * 24

    again = [*words, "trainer.max_epochs=5"]
    alone = torchrun(FIRST, [*again, f"ckpt_path={folder}", "data.batch_size=2"], nodes=1)
    (refused,) = error_lines(alone.communicate()[0])
    assert "data.batch_size=4" in refused
    finish(torchrun(FIRST, [*again, f"ckpt_path={folder}", "data.batch_size=4"], nodes=1))
    finish(torchrun(FIRST, [*again, "data.batch_size=4", "run_name=alone"], nodes=1))
    # The same images in every step, in two shares until the loss and in one after it: equal but for rounding.
    whole, resumed = epochs(folder.with_name("alone")), epochs(folder)
    assert [row["images_seen"] for row in resumed] == [96 * (n + 1) for n in range(5)]
    assert [row["train/loss"] for row in resumed] == pytest.approx(
        [row["train/loss"] for row in whole], rel=1e-4
    )
    one, other = (torch.cat([value.flatten().float() for value in weights(folder.with_name(name)).values()])
                  for name in ("alone", "lost"))  # fmt: skip
    print(f"weights differ by {(one - other).norm() / one.norm():.1e} of their length")
    assert (one - other).norm() < 1e-3 * one.norm()
