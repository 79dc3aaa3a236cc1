"""A training run as a child process: how its end is judged, and what is left of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from sppcls.sweeps.job import TrainingProcess


def start(words: list[str]) -> TrainingProcess:
    return TrainingProcess(words, say=lambda line: None, note=lambda line: None)


def members(group: int) -> list[int]:
    """Numbers of the living processes of a process group."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = place.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(place.parent.name))
    return found


def test_a_run_that_is_stopped_while_it_still_loads_is_stopped_and_not_failed(
    tiny: Callable[..., list[str]],
) -> None:
    process = start(tiny())
    process.stop()
    ended = process.wait()
    assert ended is not None
    assert (ended.status, ended.reason) == ("stopped", "ended by SIGTERM outside of training")


def test_one_that_ends_before_it_is_stopped_has_ended_as_it_did() -> None:
    process = start(["no such word"])
    number = next(member for member in children(os.getpid()) if "no such word" in command(member))
    while "Z" not in Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]:
        time.sleep(0.01)
    process.stop()
    ended = process.wait()
    assert ended is not None
    assert ended.status == "failed"
    assert "no such word" in ended.reason


def children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(number) for task in tasks for number in task.read_text().split()]


def command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_a_killed_run_leaves_no_process_behind(tiny: Callable[..., list[str]], tmp_path: Path) -> None:
    process = start(tiny("data.num_train=2000", "data.workers=1", "log.save_every_minutes=0.0001"))
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/*/last.ckpt")):
        assert process.wait(0.1) is None
        assert time.monotonic() < deadline
    folder = next(tmp_path.glob("runs/*/*"))
    number = int((folder / ".lock").read_text().split()[0])
    loaders = [member for member in members(number) if member != number]
    assert loaders
    for loader in loaders:
        os.kill(loader, signal.SIGSTOP)  # as one that hangs, so that it does not end by itself
    os.kill(number, signal.SIGKILL)
    ended = process.wait()
    assert ended is not None
    assert (ended.status, ended.reason) == ("failed", "killed by SIGKILL (out of memory?)")
    time.sleep(0.2)
    left = members(number)
    for member in left:
        os.kill(member, signal.SIGKILL)
    assert left == []
