"""One training run in a process of its own, started, watched and stopped by another process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sppcls.errors import ConfigError
from sppcls.runs.names import CONFIG, LOG, METRICS, PREDICTIONS

_PARENT = "SPPCLS_PARENT"

# What a distributed run leaves in the environment of its processes, and must not be believed by another run.
_DISTRIBUTED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR",
                "MASTER_PORT", "PL_GLOBAL_SEED", "PL_SEED_WORKERS", "SPPCLS_RUN_FOLDER")  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How the process of a run ended.

    Attributes:
        status: ``finished``, ``failed`` or ``stopped``.
        reason: one line on why it did not finish.
        seconds: that it took.
        peak_memory_mib: largest resident memory of the process or one that it started.
    """

    status: str
    reason: str
    seconds: float
    peak_memory_mib: float


class TrainingProcess:
    """``sppcls train <words>`` as a child process in a session of its own.

    So a Ctrl-C in the terminal reaches the parent alone, which then asks the child to save and stop, once. A child
    whose parent has died stops by itself (:func:`stop_without_parent`).

    Args:
        words: the words of the run.
        say: called with every line that it prints.
        note: called before waiting for a child that was asked to stop.
    """

    def __init__(self, words: list[str], say: Callable[[str], None], note: Callable[[str], None]) -> None:
        self._say, self._note = say, note
        environment = {k: v for k, v in os.environ.items() if k not in _DISTRIBUTED}
        # In a job of Slurm it is one process, which starts the others of a distributed run itself.
        environment = {k: v for k, v in environment.items() if not k.startswith("SLURM_")}
        environment[_PARENT] = str(os.getpid())
        environment["PYTHONUNBUFFERED"] = "1"
        self.ended: Ended | None = None
        self._last = ""
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sppcls.cli.main", "train", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                # A whole sweep or search is resumed, not one run of it.
                text = line.rstrip().partition(" Resume with:")[0]
                with suppress(OSError):  # nobody reads it any more
                    self._say(text)
                if text.strip():
                    self._last = text

    def stop(self) -> None:
        """Ask the run to save what it has and stop; asked again, it stops at once."""
        if self.ended is None:
            self._send(signal.SIGTERM)

    def _send(self, signum: int) -> None:
        # Popen's own would take the status of a process that has just ended, which is for _wait.
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signum)

    def wait(self, seconds: float | None = None) -> Ended | None:
        """How it ended; None if it still runs after ``seconds``.

        If this process is interrupted meanwhile, the run is stopped and waited for before the interruption takes its course.
        """
        if self.ended is None:
            try:
                self.ended = self._wait(seconds)
            except BaseException as interruption:
                self._stop_and_wait(isinstance(interruption, KeyboardInterrupt))
                raise
        return self.ended

    def _stop_and_wait(self, by_hand: bool) -> None:
        self._note(
            "stopping: the run saves what it has" + ("; Ctrl-C again stops it at once" if by_hand else "")
        )
        for attempt in range(3):
            try:
                self._send(signal.SIGKILL if attempt == 2 else signal.SIGTERM)
                self.ended = self._wait(None)
                return
            except (KeyboardInterrupt, SystemExit):
                continue

    def _wait(self, seconds: float | None) -> Ended | None:
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            process, status, usage = os.wait4(self._process.pid, os.WNOHANG)
            if process:
                break
            if deadline is not None and time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code
        # What a run that was killed leaves behind: loader processes, the other processes of a distributed run.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reader.join(timeout=5)  # whoever has left the session may hold the pipe open
        if not self._reader.is_alive() and self._process.stdout is not None:
            self._process.stdout.close()
        unit = 1024 if sys.platform != "darwin" else 1024 * 1024
        state, reason = _judge(code, self._last)
        return Ended(state, reason, time.perf_counter() - self._started, usage.ru_maxrss / unit)


def _judge(code: int, last: str) -> tuple[str, str]:
    if code == 0:
        return "finished", ""
    said = last.removeprefix("sppcls: error: ").removeprefix("sppcls: ")
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        return "stopped", said
    if code < 0:
        name = signal.Signals(-code).name
        if -code in (signal.SIGINT, signal.SIGTERM):
            return "stopped", f"ended by {name} outside of training"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return "failed", f"killed by {name}{hint}"
    return "failed", said or f"exit status {code}"


def stop_without_parent() -> None:
    """In a process that :class:`TrainingProcess` started: save and stop when the parent is gone.

    A scheduler's warnings reach every process of a job; there the parent answers them, by SIGTERM.
    """
    parent = os.environ.pop(_PARENT, None)
    if parent is None:
        return
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


# What a run may have written before its first checkpoint; its answers, if it has one epoch only.
_WRITTEN_FIRST = (CONFIG, METRICS, LOG, "bad_images.txt", "events.out.tfevents*", ".*",
                  PREDICTIONS, f"{PREDICTIONS}/val_*.npz", f"{PREDICTIONS}/.*")  # fmt: skip


def remove_dead_attempt(folder: Path) -> None:
    """Make room for a run that begins anew where one has died before its first checkpoint.

    Raises:
        ConfigError: the folder holds something that no run writes; nothing is removed then.
    """
    if not folder.is_dir():
        return
    found = [path.relative_to(folder) for path in folder.rglob("*")]
    strange = [path for path in found if not any(map(path.match, _WRITTEN_FIRST))]
    if strange:
        raise ConfigError(f"{folder}: holds {strange[0]}, which no run writes; move it away")
    shutil.rmtree(folder)
