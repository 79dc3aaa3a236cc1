"""Which of the processes of a run this one is, when torchrun, Slurm or the like has started them all."""

from __future__ import annotations

import os
import time

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
