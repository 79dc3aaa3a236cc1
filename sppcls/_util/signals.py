"""Answers to signals, for as long as a block lasts."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

# What `sbatch --signal=USR1@120` sends to every process 120 seconds before the end of a job.
WARNING = signal.SIGUSR1

_kept: list[int] = []


def warnings() -> list[int]:
    """The signals that warn of the end of a job: in a job of Slurm."""
    return [WARNING] if "SLURM_JOB_ID" in os.environ else []


def keep(signals: Iterable[int]) -> None:
    """From now on keep these signals for whoever answers them, outside of whose block they would end the program.

    The interpreter takes its own handlers away as it ends, which may take a while: they are ignored then.
    """
    for number in signals:
        signal.signal(number, lambda number, _: _kept.append(number))
        atexit.register(signal.signal, number, signal.SIG_IGN)


def kept(signals: Iterable[int]) -> list[int]:
    """Which of these have come unanswered; told once."""
    found = [number for number in _kept if number in signals]
    _kept[:] = [number for number in _kept if number not in found]
    return found


@contextmanager
def answering(signals: Iterable[int], answer: Callable[[int], object]) -> Iterator[None]:
    """Call ``answer`` with the number of each signal that comes in the block, or was kept for it; afterwards they are
    answered as before."""
    before = {number: signal.signal(number, lambda number, _: answer(number)) for number in signals}
    try:
        for number in kept(before):
            answer(number)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
