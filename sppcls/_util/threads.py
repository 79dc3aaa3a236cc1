"""Work for every core at once: threads in each of which torch takes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Barrier
from typing import Generic, Protocol, TypeVar

import torch

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Later(Protocol[T_co]):
    """A result that is on its way."""

    def done(self) -> bool:
        """Whether :meth:`result` has it at once."""

    def result(self) -> T_co:
        """The result; raises what the work raised."""


class OnDemand(Generic[T]):
    """Work that is done when its result is asked for, as a :class:`Later`."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work

    def done(self) -> bool:
        return True

    def result(self) -> T:
        return self._work()


@contextmanager
def one_core_each() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch uses in an operation, in each of which its operations use one.

    For many small pieces of work: several cores on one of them wait for each other more than they work. Torch's
    operations let other threads of Python run. On leaving, work that has not begun is dropped.

    Examples:
        >>> with one_core_each() as threads:
        ...     [later.result() for later in [threads.submit(torch.ones(2).sum), threads.submit(torch.zeros(2).sum)]]
        [tensor(2.), tensor(0.)]
    """
    count = torch.get_num_threads()
    threads = ThreadPoolExecutor(count)
    all_here = Barrier(count)

    def begin() -> None:
        torch.get_num_threads()  # a thread takes the number of the process when it first asks, later than it is set
        torch.set_num_threads(1)
        all_here.wait()

    try:
        wait([threads.submit(begin) for _ in range(count)])
        torch.set_num_threads(count)  # each of them has set the number of threads to come as well
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)
