"""Training runs that are killed at chosen moments, hundreds of them: the program is loaded once and forked for each.

``with Runs(loaded) as runs: runs.start(words, moment)``; a fork does what ``python train.py <words>`` does, and may be given
other troubles than being killed.
"""

from __future__ import annotations

import csv
import ctypes
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forked import Loaded

ROOT = Path(__file__).resolve().parent.parent

# Everything that has a state of its own: dropout, mixup and cutmix, averaged weights, accumulation, a plateau rule.
STATEFUL = ["head.dropout=0.5", "mix.mixup=0.2", "mix.cutmix=1.0", "ema.enabled=true", "ema.decay=0.9",
            "trainer.accumulate_grad_batches=2", "scheduler=paper", "scheduler.patience=0", "data.batch_size=8",
            "data.num_train=48", "data.num_val=20"]  # fmt: skip

# One of each kind of size schedule.
SCHEDULES = {
    "single": ["sizes=single_224", "sizes.sizes=[96]"],
    "alternating": ["sizes=multi_224_180", "sizes.sizes=[96,72]"],
    "random per epoch": ["sizes=random_180_224", "sizes.sizes=[72,96]"],
    "random per batch": ["sizes=random_batch_180_224", "sizes.sizes=[72,96]"],
    "progressive": ["sizes=progressive_128_224", "sizes.sizes=[64,96]"],
}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status (-9: killed), its seconds, what it printed, file operations of its own."""

    status: int
    seconds: float
    output: str
    operations: int


class Runs:
    """A process that holds the loaded program and forks a run for every request."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def __enter__(self) -> Runs:
        requests, write_requests = os.pipe()
        self._server = self._loaded.start([__file__], start_new_session=True, stdin=requests, errors=True)
        os.close(requests)
        self._requests = os.fdopen(write_requests, "w")
        return self

    def __exit__(self, *_: object) -> None:
        # Not only closed: a loader process that a test has left behind holds a copy.
        with suppress(BrokenPipeError), self._requests:
            self._send(None)
        # A run that was begun and not ended ends with it.
        with suppress(subprocess.TimeoutExpired):
            self._server.wait(30)
        self._server.close()

    def begin(
        self,
        words: list[str],
        moment: dict[str, Any] | None = None,
        loaders_too: bool = False,
        **others: Any,
    ) -> int:
        """Start a run, one at a time; returns its process number.

        Args:
            words: of the command line.
            moment: when it dies by SIGKILL: ``{"seconds": s}`` after the start; ``{"operation": n}``, before the n-th
                time that it makes, opens for writing, renames, links or removes a file; ``{"call": name, "number":
                n}``, at the n-th call of a function of that name; None: never.
            loaders_too: kill its loader processes at the same moment, as a machine that fails would.
            others: ``memory``, bytes that it can have; ``powerless``, to have a root that file
                permissions bind.
        """
        self._send({"words": words, "moment": moment or {}, "loaders_too": loaders_too, **others})
        return int(self._answer()["process"])

    def end(self) -> Ended:
        """Wait for the run to end."""
        return Ended(**self._answer())

    def start(self, words: list[str], *arguments: Any, **others: Any) -> Ended:
        """Run to the end; the arguments are those of :meth:`begin`."""
        self.begin(words, *arguments, **others)
        return self.end()

    def wait_for(self, happened: Callable[[], bool], process: int) -> None:
        """Until something that a begun run does has happened."""
        deadline = time.monotonic() + 120
        while not happened():
            assert not _gone(process), self.end().output
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def _send(self, request: dict[str, Any] | None) -> None:
        self._requests.write(json.dumps(request) + "\n")
        self._requests.flush()

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def _gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def differences(one: Path, other: Path) -> list[str]:
    """What differs between the folders of two finished runs, besides times; weights are compared bit for bit."""
    found = []
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(folder / name, weights_only=True) for folder in (one, other))
        for part in ("state_dict", "optimizer_states", "averaging_state", "epoch", "global_step"):
            if not equal(a.get(part), b.get(part)):
                found.append(f"{name}: {part}")
        for part, value in a["sppcls_progress"].items():
            if part != "train_seconds" and not equal(value, b["sppcls_progress"][part]):
                found.append(f"{name}: {part}")
    rows = []
    for folder in (one, other):
        with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
            kept = [{k: v for k, v in row.items() if not _timed(k)} for row in csv.DictReader(file)]
        rows.append(kept)
    if rows[0] != rows[1]:
        found.append("metrics.csv")
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    found += [f"result.json: {k}" for k in results[0] if not _timed(k) and results[0][k] != results[1].get(k)]
    answers = [sorted(path.name for path in folder.glob("predictions/*")) for folder in (one, other)]
    if answers[0] != answers[1] or not answers[0]:
        return [*found, "predictions: other files"]
    for name in answers[0]:
        with np.load(one / "predictions" / name) as a, np.load(other / "predictions" / name) as b:
            for part in ("index", "label", "top_class", "top_score"):
                if part in a and not np.array_equal(a[part], b[part]):
                    found.append(f"{name}: {part}")
    leftovers = [path.name for path in other.glob(".*.tmp*")] + [
        path.name for path in other.glob("previous*")
    ]
    return found + [f"left behind: {name}" for name in leftovers]


def _timed(name: str) -> bool:
    return "second" in name or name == "images_per_s"


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same, tensors in them bit for bit."""
    if torch.is_tensor(a):
        return torch.is_tensor(b) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


# -- in the forked run ------------------------------------------------------------------------------------------------

_OPERATIONS = {"os.rename": 0, "os.link": 1, "os.remove": 0, "os.mkdir": 0, "open": 0}


def _die(group: bool) -> None:
    if group:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _count_operations(
    deadly: int | None, group: bool, runs_dir: str, report: int, at_first: Callable[[], None]
) -> None:
    """Die before operation number ``deadly``; the count goes into the file ``report`` as it grows."""
    count = 0
    me = os.getpid()

    def hook(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _OPERATIONS or os.getpid() != me:
            return
        if event == "open" and not (isinstance(values[2], int) and values[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if not str(values[_OPERATIONS[event]]).startswith(runs_dir):
            return
        count += 1
        if count == 1:
            at_first()
        if count == deadly:
            _die(group)
        os.pwrite(report, f"{count:9d}".encode(), 0)

    sys.addaudithook(hook)


def _count_calls(name: str, number: int, group: bool) -> None:
    left = number

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal left
        called = frame.f_code.co_name if event == "call" else getattr(argument, "__name__", "")
        if event in ("call", "c_call") and called == name:
            left -= 1
            if not left:
                _die(group)

    sys.setprofile(profile)


def _run(request: dict[str, Any], output: str, report: int) -> None:
    from sppcls.cli.main import train_main

    os.setsid()
    with open(output, "wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    if "memory" in request:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + request["memory"],) * 2)
    if request.get("powerless"):
        header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
        assert ctypes.CDLL(None).capset(header, none) == 0
    moment, group = request["moment"], request["loaders_too"]
    runs_dir = next(w.partition("=")[2] for w in request["words"] if w.startswith("runs_dir="))

    def count_calls() -> None:
        """Not from the start: to count them takes as long as all else, and a config is made of many."""
        if "call" in moment:
            _count_calls(moment["call"], moment["number"], group)

    _count_operations(moment.get("operation"), group, runs_dir, report, count_calls)
    sys.argv = [str(ROOT / "train.py"), *request["words"]]
    status = train_main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve() -> None:
    import sppcls.cli.hydra
    import sppcls.engine.train  # noqa: F401  # loaded before the first fork

    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    output = folder / f"killed-{os.getpid()}.txt"
    counts = folder / f"killed-{os.getpid()}.count"
    for line in sys.stdin:
        request = json.loads(line)
        if request is None:
            break
        report = os.open(counts, os.O_CREAT | os.O_RDWR | os.O_TRUNC)
        started = time.monotonic()
        child = os.fork()
        if not child:
            try:
                _run(request, str(output), report)
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
                os._exit(70)
        print(json.dumps({"process": child}), flush=True)
        killer = None
        if "seconds" in request["moment"]:
            kill = os.killpg if request["loaders_too"] else os.kill
            killer = threading.Timer(request["moment"]["seconds"], kill, (child, signal.SIGKILL))
            killer.start()
        _, status = os.waitpid(child, 0)
        if killer is not None:
            killer.cancel()
            killer.join()
        seen = os.pread(report, 9, 0)
        os.close(report)
        ended = {
            "status": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - started,
            "output": output.read_text(errors="replace") if output.exists() else "",
            "operations": int(seen or 0),
        }
        print(json.dumps(ended), flush=True)
    for file in (output, counts):
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    _serve()
