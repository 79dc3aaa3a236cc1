"""Two machines, which are two network namespaces of this one: torchrun on each, and one of them is lost.

`pytest -m long tests/long/test_two_machines.py -n 0 -s`, as root on Linux with iproute2.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sppcls.runs.checkpoint import read_checkpoint

ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = {"sppcls-a": "10.77.0.1", "sppcls-b": "10.77.0.2"}
FIRST, SECOND = ADDRESSES
# No dropout and no normalisation over a batch: two shares of a batch then give the gradient of the whole.
WORDS = ["trainer=torchrun", "head.dropout=0", "backbone.norm=null", "optimizer.lr=0.001", "scheduler=constant",
         "data.num_train=96", "log.save_every_minutes=0.0001", "trainer.timeout=20"]  # fmt: skip

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        os.name != "posix" or os.geteuid() != 0 or shutil.which("ip") is None,
        reason="network namespaces need root and iproute2",
    ),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Cluster:
    """Two machines with a cable between them."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []
        for name in ADDRESSES:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", FIRST, "type", "veth", "peer", "name", "cable", "netns", SECOND)
        for name, address in ADDRESSES.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")

    def train(
        self, name: str, words: list[str], *, machines: int = 2, processes: int = 1
    ) -> subprocess.Popen[str]:
        """``torchrun`` on one machine, as a person would start it there."""
        host = (
            "--rdzv-conf",
            f"is_host={int(name == FIRST)}",
        )  # both have one name, by which torchrun would tell
        join = [*host, "--nnodes", str(machines), "--nproc-per-node", str(processes), "--rdzv-backend", "c10d",
                "--rdzv-endpoint", f"{ADDRESSES[FIRST]}:29500", "--local-addr", ADDRESSES[name]]  # fmt: skip
        command = [
            "ip",
            "netns",
            "exec",
            name,
            sys.executable,
            "-m",
            "torch.distributed.run",
            *join,
            "train.py",
        ]
        self.started.append(
            subprocess.Popen(
                [*command, *words],
                cwd=ROOT,
                env={**os.environ, "GLOO_SOCKET_IFNAME": "cable"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return self.started[-1]

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        for name in ADDRESSES:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.close()


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
    tiny: Callable[..., list[str]], cluster: Cluster, tmp_path: Path
) -> None:
    words = tiny(
        *WORDS, "data.batch_size=8", "head.dropout=0.5"
    )  # dropout's draws are those of a process's number
    outputs = finish(*(cluster.train(name, [*words, "run_name=apart"]) for name in ADDRESSES))
    assert "epoch 1/2" in "".join(outputs)
    finish(cluster.train(FIRST, [*words, "run_name=one"], machines=1, processes=2))
    apart, one = (weights(tmp_path / "runs" / "shapes" / name) for name in ("apart", "one"))
    assert all(torch.equal(apart[name], one[name]) for name in one)


@pytest.mark.parametrize("loss", ["killed", "cable"])
def test_a_machine_is_lost_and_the_run_goes_on_with_one(
    tiny: Callable[..., list[str]], cluster: Cluster, tmp_path: Path, loss: str
) -> None:
    words = tiny(*WORDS, "trainer.max_epochs=4")
    folder = tmp_path / "runs" / "shapes" / "lost"
    first, _ = (cluster.train(name, [*words, "data.batch_size=2", "run_name=lost"]) for name in ADDRESSES)
    while not (folder / "last.ckpt").exists() or read_checkpoint(folder / "last.ckpt")["global_step"] < 30:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    lost_at = time.monotonic()
    if loss == "killed":
        subprocess.run(f"ip netns pids {SECOND} | xargs kill -9", shell=True, check=True)
    else:
        ip("-n", SECOND, "link", "set", "cable", "down")
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
        ip("-n", SECOND, "link", "set", "cable", "up")
    step = read_checkpoint(folder / "last.ckpt")["global_step"]
    assert 30 <= step < 4 * 24

    again = [*words, "trainer.max_epochs=5"]
    alone = cluster.train(FIRST, [*again, f"ckpt_path={folder}", "data.batch_size=2"], machines=1)
    (refused,) = error_lines(alone.communicate()[0])
    assert "data.batch_size=4" in refused
    finish(cluster.train(FIRST, [*again, f"ckpt_path={folder}", "data.batch_size=4"], machines=1))
    finish(cluster.train(FIRST, [*again, "data.batch_size=4", "run_name=alone"], machines=1))
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
