"""The example that trains over the workers of Ray, on a Ray of this machine: `pytest -m long tests/long/test_ray_train.py -n 0`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sppcls.runs.checkpoint import read_checkpoint

pytest.importorskip("ray.train")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(1800)
def test_two_workers_are_as_two_processes(tiny: Callable[..., list[str]], tmp_path: Path) -> None:
    words = tiny("data.batch_size=8")
    # Ray gives its workers the lowest priority, and a minute to load torch.
    slow = {
        "RAY_worker_niceness": "0",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
        "RAY_AUTH_MODE": "disabled",
    }
    runs = {
        "ray": ["examples/ray/train_on_ray.py", "--workers", "2", "--storage", str(tmp_path / "ray")],
        "here": ["train.py", "trainer=ddp", "trainer.devices=2"],
    }
    for name, command in runs.items():
        done = subprocess.run(
            [sys.executable, *command, *words, f"run_name={name}"],
            cwd=ROOT, env={**os.environ, **slow}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    ray, here = (
        read_checkpoint(tmp_path / "runs" / "shapes" / name / "last.ckpt")["state_dict"] for name in runs
    )
    assert all(torch.equal(ray[name], here[name]) for name in here)
