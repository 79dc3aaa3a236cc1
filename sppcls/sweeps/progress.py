"""What a sweep that runs one job after the other says of each: the time left, and what is new in its header."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from sppcls.sweeps.folder import seconds_taken


class Progress:
    """One command's way through the jobs of a sweep: ``todo``, those not finished, in the order in which they are run."""

    def __init__(self, sweep: Path, todo: Sequence[str]) -> None:
        self._sweep, self._todo = sweep, list(todo)
        self._headers: set[str] = set()

    def time_left(self, job: str) -> str:
        """`` (about 42 min left)`` before ``job`` is run; empty as long as no job of the sweep has finished."""
        taken = seconds_taken(self._sweep)
        if not taken:
            return ""
        minutes = median(taken) * (len(self._todo) - self._todo.index(job)) / 60
        if minutes < 1:
            return " (less than 1 min left)"
        return f" (about {f'{minutes:.0f} min' if minutes < 100 else f'{minutes / 60:.1f} h'} left)"

    def shortened(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """``say`` for what one job prints, without the lines of its header that an earlier job has printed, too."""
        header = True

        def say_new(line: str) -> None:
            nonlocal header
            header = header and line != ""  # which ends it
            if header and line in self._headers:
                return
            if header:
                self._headers.add(line)
            say(line)

        return say_new
