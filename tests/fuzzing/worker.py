"""A process that is handed bytes, one file after another, so that a decoder that crashes or hangs is found out."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
MEMORY = 12 << 30  # bytes of address space, of which importing torch takes some
SECONDS = 60  # for one file; the machine may be busy


class Worker:
    """The process, started when needed and again after its death; use as a context."""

    def __enter__(self) -> Worker:
        self._process: subprocess.Popen[bytes] | None = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def ask(self, kind: str, data: bytes, **more: Any) -> str:
        """How the file was taken, in a word.

        Raises:
            AssertionError: by an exception that is not ours, by death, or not at all.
        """
        started = False
        if self._process is None:
            environment = {
                **os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), "OMP_NUM_THREADS": "1",
            }  # fmt: skip
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fuzzing.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            started = True
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"kind": kind, "size": len(data), **more}).encode() + b"\n")
        self._process.stdin.write(data)
        self._process.stdin.flush()
        try:
            answer = self._read(300 if started else SECONDS)  # the first time it imports what it needs
        except AssertionError as error:
            raise AssertionError(f"{error}; {kept(data)}") from None
        assert "failed" not in answer, f"{answer['failed']}\n{kept(data)}"
        return str(answer["outcome"])

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else b""
        if line:
            return dict(json.loads(line))
        process = self._process
        if ready:
            process.wait(30)
        status = process.poll()
        self.__exit__()
        raise AssertionError(f"no answer after {seconds} s" if status is None else f"it died: {status}")


def kept(data: bytes) -> str:
    """Where the bytes that did harm are kept."""
    with tempfile.NamedTemporaryFile(prefix="fuzz-", delete=False) as file:
        file.write(data)
    return f"the file: {file.name}"


def image(data: bytes, folder: Path) -> str:
    """An image file: a picture, or an ImageError."""
    import torch

    from sppcls.data.decode import check_header, decode, header_size
    from sppcls.errors import ImageError

    path = folder / "image"
    path.write_bytes(data)
    reason = check_header(path, 1 << 21)
    assert reason is None or reason.splitlines() == [reason]
    header_size(path)
    try:
        found = decode(data, 1 << 21)
    except ImageError as error:
        message = str(error)
        found = None
    if found is None:
        assert message.splitlines() == [message]
        return "refused"
    assert found.dtype == torch.uint8
    assert found.ndim == 3
    assert found.shape[0] == 3
    assert 0 < found.shape[1] * found.shape[2] <= 1 << 21
    assert reason is None, "the header was refused, the image was not"
    return "fine"


def command(words: list[str]) -> str:
    """A command of the program: it ends well, or with one line."""
    from sppcls.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    # A photo that cannot be classified has a line, and so has their number; else there is one.
    assert all(line.startswith("sppcls: ") for line in err.getvalue().splitlines()), err.getvalue()
    assert err.getvalue() or not status
    assert "Traceback" not in err.getvalue()
    return "refused" if status else "fine"


def checkpoint(data: bytes, folder: Path) -> str:
    """A checkpoint: a network that classifies a photo, or one line."""
    from PIL import Image

    (folder / "net.ckpt").write_bytes(data)
    photo = folder / "photo.png"
    if not photo.exists():
        Image.new("RGB", (120, 100), "red").save(photo)
    return command(["predict", str(folder / "net.ckpt"), str(photo)])


def answers(data: bytes, folder: Path) -> str:
    """A file of predictions, compared with itself."""
    (folder / "a_96.npz").write_bytes(data)
    return command(["compare", str(folder / "a_96.npz"), str(folder / "a_96.npz"), "--format", "csv"])


def run_file(data: bytes, folder: Path, name: str, sweep: str, report: bool) -> str:
    """A file of a run folder in a sweep with three others that are as they should be."""
    from sppcls.comparison import compare
    from sppcls.comparison.report import content
    from sppcls.errors import SppclsError

    path = Path(sweep) / name
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        if report:
            return command(["compare", sweep, "--out", str(folder / "report")])
        found = compare([sweep], None)
        content.introduction(found)
        content.groups_table(found).text()
        content.measures_table(found)
        if headline := content.Content(found).headline:
            content.differences_table("", headline).text()
        return "left out" if found.problems else "fine"
    except SppclsError:
        return "refused"
    finally:
        path.write_bytes(before)


def crash(data: bytes, folder: Path) -> str:
    """What a faulty decoder would do."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return "alive"


KINDS = {"image": image, "checkpoint": checkpoint, "answers": answers, "run_file": run_file, "crash": crash}


def main() -> None:
    """Answer each request on standard input with a line on what was standard output."""
    answers_to = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def answer(**what: Any) -> None:
        answers_to.write(json.dumps(what) + "\n")
        answers_to.flush()

    with tempfile.TemporaryDirectory() as folder:
        while line := sys.stdin.buffer.readline():
            request = json.loads(line)
            data = sys.stdin.buffer.read(request.pop("size"))
            try:
                answer(outcome=KINDS[request.pop("kind")](data, Path(folder), **request))
            except BaseException:
                answer(failed=traceback.format_exc()[-6000:])


if __name__ == "__main__":
    main()
