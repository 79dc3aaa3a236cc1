"""Which of the processes of a run this one is, when torchrun, Slurm or the like has started them all."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# Seconds that the other processes leave the first one to say an error that all of them meet, and to be ended with it.
GRACE = 3.0


def rank() -> int:
    """Number of this process, whoever started it: torchrun, Slurm, Lightning, or nobody. (On a machine that Lightning
    did not start, all it knows is the number of the machine.)"""
    if int(os.environ.get("NODE_RANK", 0)) and "RANK" not in os.environ:
        return int(os.environ["NODE_RANK"])
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def outside_rank() -> int:
    """Number of this process among those that another program has started; 0 of one that stands alone."""
    if int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", 1))) == 1:
        return 0
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))


def let_the_first_speak() -> str:
    """Wait, in all processes but the first, before an error is printed; returns what to put before it."""
    number = outside_rank()
    if not number:
        return ""
    time.sleep(GRACE)
    return f"process {number} on {os.uname().nodename}: "


def let_gloo_finish(seconds: float = 10) -> None:
    """Wait until gloo's threads are idle, at the end of what this process exchanges with others.

    One of them lets go of its last tensor some time after the exchange. If the interpreter ends before, the process is
    aborted ("terminate called without an active exception", https://github.com/pytorch/pytorch/issues/190489).
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    calm, until = 0, time.monotonic() + seconds
    while calm < 3 and time.monotonic() < until:
        time.sleep(0.01)  # and leave them Python's lock
        calm = 0 if any(map(_at_work, Path("/proc/self/task").glob("*"))) else calm + 1


def _at_work(thread: Path) -> bool:
    """Whether a thread of Linux is one of gloo's and runs, or would if it had a processor."""
    try:
        name, _, state = (thread / "stat").read_text().rpartition(") ")
    except OSError:  # it has ended
        return False
    return "(pt_gloo" in name and not state.startswith("S")
