"""Stopping a sweep: its runs save first, wherever a launcher has put them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sppcls._util.signals import WARNING, answering, warnings
from sppcls.runs.folder import in_use
from sppcls.sweeps.job import Ended, TrainingProcess

# The sweep's folder for files of launchers, and the file in it that asks all jobs to stop.
LAUNCHER = ".launcher"
STOP = "stop"

# A scheduler's warnings before a job's end: what our Slurm recipe asks for, and submitit's.
_WARNINGS = (WARNING, signal.SIGUSR2)


def _stop_signals() -> list[int]:
    return [signal.SIGTERM, *warnings()]


def stop_interrupts() -> AbstractContextManager[None]:
    """SIGTERM, and in a Slurm job its warning, end a sweep as Ctrl-C does: by an exception where a run is waited for."""
    return answering(_stop_signals(), lambda number: sys.exit(128 + number))


@contextmanager
def stop_asks_jobs(sweep: Path, say: Callable[[str], None]) -> Iterator[None]:
    """The same signals ask jobs in other processes to save and stop; asked again, nobody waits for them.

    An exception in the launcher would not do: launchers kill their processes on one.
    """
    note = sweep / LAUNCHER / STOP
    note.parent.mkdir(exist_ok=True)
    asked: list[int] = []

    def stop(number: int) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        note.write_text("")
        say("stopping: the runs save what they have; Ctrl-C again stops them at once")

    try:
        with answering((signal.SIGINT, *_stop_signals()), stop):
            try:
                yield
            except Exception:
                if not asked:  # else it may be a complaint about a process that Ctrl-C has ended, too
                    raise
            except BaseException:
                note.write_text("")
                raise
            if asked:
                while any(in_use(folder) for folder in sweep.iterdir() if folder.is_dir()):
                    time.sleep(0.2)
    finally:
        note.unlink(missing_ok=True)
    if asked:
        if asked[0] == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + asked[0])


def wait_until_free(folder: Path, seconds: float = 60) -> bool:
    """Whether nobody writes to a run folder; a run whose sweep was killed takes a moment to save and stop."""
    deadline = time.monotonic() + seconds
    while in_use(folder):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.2)
    return True


class Worker:
    """The process of a launcher that a job has come to, seen from the job."""

    def __init__(self, sweep: Path, say: Callable[[str], None]) -> None:
        self._note = sweep / LAUNCHER / STOP
        self._say = say
        self._parent = os.getppid()
        self._warned: list[int] = []

    def stopping(self) -> str:
        """Why jobs should stop; empty if they should not."""
        if self._note.exists():
            return "the sweep is being stopped"
        if os.getppid() != self._parent:
            return "the process that started it is gone"
        return f"warned by {signal.Signals(self._warned[0]).name}" if self._warned else ""

    def wait_for(self, process: TrainingProcess) -> Ended:
        """Wait for a run, and stop it when it is time to."""
        asked = False
        while (ended := process.wait(0.5)) is None:
            reason = "" if asked else self.stopping()
            if reason:
                asked = True
                self._say(f"stopping: {reason}; the run saves what it has")
                process.stop()
        return ended

    def leave_with_parent(self) -> None:
        """End this process if the one that would take the job's outcome is gone; joblib's waits for minutes."""
        if os.getppid() != self._parent:
            os._exit(1)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Leave Ctrl-C to the sweep's own process, and what a launcher does on a scheduler's warning to the end.

        Submitit has the job queued again and exits, upon which Slurm kills what is left of it: the run saves before.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # And it stays so while the process waits for the next job.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        before: dict[int, Any] = {s: signal.getsignal(s) for s in _WARNINGS if callable(signal.getsignal(s))}
        with answering(before, self._warned.append):
            yield
        if self._warned:
            before[self._warned[0]](self._warned[0], None)
