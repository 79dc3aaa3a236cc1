"""Answers to signals, for as long as a block lasts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def answering(signals: Iterable[int], answer: Callable[[int], object]) -> Iterator[None]:
    """Call ``answer`` with the number of each signal that comes in the block; afterwards they are answered as before."""
    before = {number: signal.signal(number, lambda number, _: answer(number)) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
