"""The real program, loaded once and forked for every start: loading it takes longer than most tests.

``with Loaded() as loaded: process = loaded.start(["train.py", ...])``; the process is one of its own, with its own
pipes, session, environment and signals, and is used as one of ``subprocess.Popen``. ``loaded.run`` is
``subprocess.run``. Programs of Python that it starts itself are loaded anew, but for as many as ``children`` says:
these are its real children, which it forked before it began, and wait to be told their words. That programs also start
from nothing is what tests/cli/test_cli.py, tests/sweeps/test_job.py and others are for.
"""

from __future__ import annotations

import array
import atexit
import gc
import inspect
import io
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_LONGEST_REQUEST = 1 << 20


class Program:
    """A started program; its output and its errors are both in ``stdout``, unless ``stderr`` is given."""

    def __init__(self, output: int, ended: int, errors: int | None = None) -> None:
        self.stdout = open(output, encoding="utf-8", errors="replace")  # noqa: SIM115
        self.stderr = None if errors is None else open(errors, encoding="utf-8", errors="replace")  # noqa: SIM115
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

    def communicate(self, timeout: float = 600) -> tuple[str, str | None]:
        """All of its output and its errors, once it has ended and nobody else holds its pipes."""
        deadline = time.monotonic() + timeout
        files = [file for file in (self.stdout, self.stderr) if file is not None]
        parts: dict[Any, list[bytes]] = {file: [] for file in files}
        with selectors.DefaultSelector() as ready:
            for file in files:
                ready.register(file, selectors.EVENT_READ)
            while ready.get_map():
                readable = ready.select(deadline - time.monotonic())
                if not readable:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout, b"".join(parts[self.stdout]))
                for key, _ in readable:
                    part = os.read(key.fd, 65536)
                    parts[key.fileobj].append(part)
                    if not part:
                        ready.unregister(key.fileobj)
        for file in files:
            file.close()
        self.wait(deadline - time.monotonic())
        output, *errors = (b"".join(parts[file]).decode(errors="replace") for file in files)
        return output, (errors[0] if errors else None)

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
        if self.stderr is not None:
            self.stderr.close()
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
        # Not only closed: a loader process that a test has left behind holds a copy.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._server.wait(60)

    def start(
        self,
        words: list[str],
        start_new_session: bool = False,
        *,
        children: int = 0,
        stdin: int | None = None,
        errors: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Program:
        """Start ``python <words>``.

        Args:
            words: a script, ``-m`` and a module, or ``-c`` and code, and the words of the command line.
            start_new_session: as for ``subprocess.Popen``.
            children: as many programs of Python that it starts are forked too.
            stdin: file that it reads; none is an empty one.
            errors: whether they have a pipe of their own.
            env: environment; that of this process without it. ``PYTHONPATH`` comes too late to be obeyed.
            cwd: its folder; that of this process without it.
        """
        request = {
            "words": list(map(str, words)),
            "environment": {**(os.environ if env is None else env), "PYTHONPATH": str(ROOT)},
            "session": start_new_session,
            "cwd": str(cwd or os.getcwd()),
            "children": children,
        }
        output, write_output = os.pipe()
        ended, write_ended = os.pipe()
        theirs = [write_output, write_ended]
        read_errors = None
        if errors:
            read_errors, write_errors = os.pipe()
            theirs.append(write_errors)
        with open(os.devnull) as nothing:
            # SEQPACKET: one request is one message, and the files travel with it.
            files = [nothing.fileno() if stdin is None else stdin, write_output, theirs[-1 if errors else 0]]
            socket.send_fds(self._socket, [json.dumps(request).encode()], [*files, write_ended])
        for end in theirs:
            os.close(end)
        return Program(output, ended, read_errors)

    def run(
        self,
        words: list[str],
        *,
        children: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """``subprocess.run`` of ``python <words>`` with ``capture_output``; ``children`` as in :meth:`start`."""
        process = self.start(words, children=children, errors=True, env=env, cwd=cwd)
        try:
            output, errors = process.communicate(timeout)
        finally:
            process.close()
        assert process.returncode is not None
        return subprocess.CompletedProcess(words, process.returncode, output, errors)


# What a first run loads, and, by the first config, Hydra's plugins.
_LOADED = ("sppcls.cli.hydra", "sppcls.cli.train", "sppcls.engine.train", "torch.utils.serialization.config",
           "tensorboard.plugins.hparams.plugin_data_pb2")  # fmt: skip

# -- in the process that forks -----------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for every request; returns it in the fork, and None in the end."""
    for name in _LOADED:
        import_module(name)
    _prepare()
    # A fork that looks for garbage among all that was loaded, as it does at its end, copies it: a second of CPU time.
    if not _counts_leaks():
        gc.collect()
        gc.freeze()
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
                text, files, _, _ = socket.recv_fds(requests, _LONGEST_REQUEST, 4)
                if not text:
                    return None
                *standard, ended = array.array("i", files)
                process = os.fork()
                if not process:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for other in (wake, woken, ended, *report.values()):
                        os.close(other)
                    requests.close()
                    request: dict[str, Any] = json.loads(text)
                    _move(standard, [0, 1, 2])
                    return request
                report[process] = ended
                with suppress(BrokenPipeError):
                    os.write(ended, f"{process:8d}".encode())
                for file in standard:
                    os.close(file)


def _prepare() -> None:
    """Compose and draw what most programs of the tests do."""
    for words in ([], ["pyramid=l321"]):
        import_module("sppcls").compose(words)
    for split, count in (("train", 48), ("val", 40)):
        source = import_module("sppcls.data.shapes").ShapesSource(split, count)
        for index in range(count):
            source.image(index)


def _counts_leaks() -> bool:
    """Whether Triton is one of nanobind, as that of torch 2.15 is: at the end it prints all of it that was kept."""
    triton = sys.modules.get("triton._C.libtriton")
    return triton is not None and type(triton.ir.builder).__name__.startswith("nb_")


def _tell_the_ended(report: dict[int, int]) -> None:
    while report:
        process, status = os.waitpid(-1, os.WNOHANG)
        if not process:
            return
        ended = report.pop(process)
        with suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(ended, f"{os.waitstatus_to_exitcode(status):8d}".encode())
        os.close(ended)


def _move(files: list[int], numbers: list[int]) -> None:
    """Give open files the numbers that a program expects."""
    for file, number in zip(files, numbers, strict=True):
        os.dup2(file, number)
    for file in files:
        os.close(file)


# -- in a fork ---------------------------------------------------------------------------------------------------------

# Children that wait for their words: their process numbers, and where they hear them.
_waiting: list[tuple[int, socket.socket]] = []


def _run(request: dict[str, Any]) -> None:
    """What the interpreter does with the words; the fork ends as any program does."""
    if request["session"]:
        os.setsid()
    for _ in range(request["children"]):
        words = _wait_for_words()
        if words is not None:  # in the child
            request = words
            break
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    _open_standard_files()
    if _waiting:
        subprocess.Popen = _StartWaiting  # type: ignore[misc]
    first, *words = request["words"]
    if first == "-m":
        module, *words = words
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    elif first == "-c":
        code, *words = words
        sys.argv = ["-c", *words]
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [str(ROOT / first), *words]
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")


def _open_standard_files() -> None:
    """As the interpreter does at its start: those that were there are made for other files, which can be sought in."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        file = open(number, "wb" if number else "rb", 0 if unbuffered and number else -1, closefd=False)  # noqa: SIM115
        new = io.TextIOWrapper(
            file, old.encoding, old.errors, line_buffering=name == "stderr", write_through=unbuffered
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _wait_for_words() -> dict[str, Any] | None:
    """Fork a child; returns in the child, once it is to run, its request."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = os.fork()
    if process:
        theirs.close()
        _waiting.append((process, ours))
        return None
    ours.close()
    for _, other in _waiting:
        other.close()
    _waiting.clear()
    with open(os.devnull, "r+b", buffering=0) as nothing:  # who waits keeps no pipe open
        for number in (0, 1, 2):
            os.dup2(nothing.fileno(), number)
    text, files, _, _ = socket.recv_fds(theirs, _LONGEST_REQUEST, 3)
    theirs.close()
    if not text:  # the program has ended without it
        os._exit(0)
    request: dict[str, Any] = json.loads(text)
    _move(list(array.array("i", files)), [0, 1, 2])
    if request["session"]:
        os.setsid()
    return request


class _StartWaiting(subprocess.Popen):  # type: ignore[type-arg]
    """Starts a program of Python by giving its words to a child that waits, as long as there is one."""

    def _execute_child(self, *given: Any, **named: Any) -> None:
        start = super()._execute_child  # type: ignore[misc]
        wanted = inspect.signature(start).bind(*given, **named).arguments
        interpreter, *words = map(os.fspath, wanted["args"]) if not wanted["shell"] else ("",)
        is_program = interpreter == sys.executable and (words[0] in ("-m", "-c") or words[0].endswith(".py"))
        if not _waiting or not is_program or wanted["preexec_fn"] or wanted["pass_fds"]:
            start(*given, **named)
            return
        self.pid, heard = _waiting.pop(0)
        request = {
            "words": words,
            "environment": dict(os.environ if wanted["env"] is None else wanted["env"]),
            "session": wanted["start_new_session"],
            "cwd": os.fspath(wanted["cwd"] or os.getcwd()),
        }
        names = ("p2cread", "c2pwrite", "errwrite")
        files = [number if wanted[name] == -1 else wanted[name] for number, name in enumerate(names)]
        with heard:
            socket.send_fds(heard, [json.dumps(request).encode()], files)
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(wanted[name] for name in pipes))  # type: ignore[attr-defined]


def _end(status: int) -> None:
    """End as the interpreter does, but for taking all that was loaded to pieces, which takes as long as a short run."""
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except (OSError, ValueError):
            return  # the interpreter knows what to say
    os._exit(status & 0xFF)


if __name__ == "__main__":
    wanted = _serve(socket.socket(fileno=int(sys.argv[1])))
    if wanted is not None:
        try:
            _run(wanted)
        except SystemExit as ended:
            if isinstance(ended.code, int | None):
                _end(ended.code or 0)
            raise
        _end(0)
