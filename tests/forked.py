"""The real program, loaded once and forked for every start: loading it takes longer than most tests.

``with Loaded() as loaded: process = loaded.start(["train.py", ...])``; the process is one of its own, with its own
pipe, session, environment and signals, and is used as one of ``subprocess.Popen``. Programs that it starts itself are
loaded anew, as always. That the program also starts from nothing is what tests/cli/test_cli.py and others are for.
"""

from __future__ import annotations

import array
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LONGEST_REQUEST = 1 << 20


class Program:
    """A started program; its output and its errors are both in ``stdout``."""

    def __init__(self, output: int, ended: int) -> None:
        self.stdout = open(output, encoding="utf-8", errors="replace")  # noqa: SIM115
        self._ended = os.fdopen(ended, "rb", buffering=0)
        self.pid = int(self._ended.read(8))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._wait(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._wait(timeout) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, None]:
        """All of its output, once it has ended and nobody else holds its pipe."""
        deadline = time.monotonic() + timeout
        parts = []
        with selectors.DefaultSelector() as ready, self.stdout:
            ready.register(self.stdout, selectors.EVENT_READ)
            while True:
                if not ready.select(deadline - time.monotonic()):
                    raise subprocess.TimeoutExpired(str(self.pid), timeout, b"".join(parts))
                part = os.read(self.stdout.fileno(), 65536)
                if not part:
                    break
                parts.append(part)
        self.wait(deadline - time.monotonic())
        return b"".join(parts).decode(errors="replace"), None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Kill it if it still runs."""
        self.kill()
        self.wait(60)
        self.stdout.close()
        self._ended.close()

    def _wait(self, seconds: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as ready:
                ready.register(self._ended, selectors.EVENT_READ)
                if ready.select(seconds):
                    self.returncode = int(self._ended.read(8))
        return self.returncode


class Loaded:
    """A process that holds the loaded program and forks it."""

    def __enter__(self) -> Loaded:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._server.wait(60)

    def start(self, words: list[str], start_new_session: bool = False) -> Program:
        """Start ``python <words>``.

        Args:
            words: a script of the checkout or ``-m`` and a module, and the words of the command line.
            start_new_session: as for ``subprocess.Popen``.
        """
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        request = {
            "words": words,
            "environment": environment,
            "session": start_new_session,
            "cwd": os.getcwd(),
        }
        output, write_output = os.pipe()
        ended, write_ended = os.pipe()
        # SEQPACKET: one request is one message, and the two pipes travel with it.
        socket.send_fds(self._socket, [json.dumps(request).encode()], [write_output, write_ended])
        os.close(write_output)
        os.close(write_ended)
        return Program(output, ended)


# -- in the process that forks -----------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; returns it in the fork, and None in the end."""
    import sppcls.cli.hydra
    import sppcls.engine.train  # noqa: F401  # loaded before the first fork

    # A Ctrl-C is for the programs and for pytest.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    report: dict[int, int] = {}
    with selectors.DefaultSelector() as ready:
        ready.register(requests, selectors.EVENT_READ)
        ready.register(wake, selectors.EVENT_READ)
        while True:
            events = [key.fileobj for key, _ in ready.select()]
            if wake in events:
                os.read(wake, 4096)
                _tell_the_ended(report)
            if requests in events:
                text, pipes, _, _ = socket.recv_fds(requests, _LONGEST_REQUEST, 2)
                if not text:
                    return None
                output, ended = array.array("i", pipes)
                process = os.fork()
                if not process:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                    for other in (wake, woken, ended, *report.values()):
                        os.close(other)
                    requests.close()
                    for number in (1, 2):
                        os.dup2(output, number)
                    os.close(output)
                    request: dict[str, Any] = json.loads(text)
                    return request
                report[process] = ended
                with suppress(BrokenPipeError):
                    os.write(ended, f"{process:8d}".encode())
                os.close(output)


def _tell_the_ended(report: dict[int, int]) -> None:
    while report:
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            return
        ended = report.pop(process)
        with suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(ended, f"{os.waitstatus_to_exitcode(status):8d}".encode())
        os.close(ended)


def _run(request: dict[str, Any]) -> None:
    """What the interpreter does with the words; the fork ends as any program does."""
    if request["session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    first, *words = request["words"]
    if first == "-m":
        module, *words = words
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [str(ROOT / first), *words]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    wanted = _serve(socket.socket(fileno=int(sys.argv[1])))
    if wanted is not None:
        _run(wanted)
