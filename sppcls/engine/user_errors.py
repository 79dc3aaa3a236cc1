"""What can go wrong around a run, in one line each."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sppcls._util.reason import own_line, reason_with_line
from sppcls.data.stream import loader_problem
from sppcls.errors import DataError, Interrupted, PartError, SppclsError
from sppcls.runs.names import LAST, LOG

_WRITING = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE,
)  # fmt: skip


def as_user_error(error: Exception, folder: Path | None) -> SppclsError | None:
    """An error of the machine as one for the person at the keyboard; None if it is of another kind.

    Args:
        error: what ended the training.
        folder: the run's, if this process writes to it.
    """
    if folder is not None and _is_gone(folder) and not isinstance(error, Interrupted):
        return SppclsError(
            f"{folder}: the run folder was removed or renamed while it was in use; training stopped"
        )
    # Lightning hides the error of a loader that could not begin behind one of its own.
    if problem := loader_problem(error) or (error.__context__ and loader_problem(error.__context__)):
        written = folder is not None and (folder / LAST).is_file()
        return DataError(problem + ("; ckpt_path=auto resumes from the last checkpoint" if written else ""))
    if isinstance(error, OSError) and error.errno in _WRITING:
        place = error.filename if isinstance(error.filename, str) else folder
        return SppclsError(f"{place}: {os.strerror(error.errno)}; the last checkpoint written is intact")
    return None


def hidden_error(error: Exception) -> BaseException | None:
    """The error that another package has taken for one of its own; None if there is none.

    A signal, or the death of a loader, may arrive in any line. Where Lightning's TensorBoard logger writes a figure it
    becomes a ValueError about the figure.
    """
    causes: list[BaseException] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    stop = next((cause for cause in causes if isinstance(cause, Interrupted)), None)
    return stop or (error.__cause__ if str(error).lstrip().startswith("you tried to log") else None)


def part_error(error: Exception, folder: Path | None) -> PartError | None:
    """An exception that a part of somebody's own has raised, in one line; None of any other.

    Args:
        error: what ended the training.
        folder: the run's, whose ``train.log`` gets the traceback; None on processes that do not write there.
    """
    if isinstance(error, PartError):
        # Of a loader process: torch hands it on as a page of traceback, whose last line is the message.
        text = str(error).strip().splitlines()[-1].removeprefix(f"{PartError.__module__}.PartError: ")
    else:
        function, _ = own_line(error)
        if not function:
            return None
        text = f"{function} failed: {reason_with_line(error)}"
    return PartError(text + (f"; the traceback is in {folder / LOG}" if folder is not None else ""))


def _is_gone(folder: Path) -> bool:
    try:
        return not folder.is_dir()
    except OSError:  # a file server that does not answer, say
        return False


@contextmanager
def quiet_event_writer() -> Iterator[None]:
    """Keep the thread that writes TensorBoard's events from printing a traceback when it cannot write.

    Its error is raised in the main thread at the next event, where it is reported like any other.
    """
    previous = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        of_writer = type(failed.thread).__name__ == "_AsyncWriterThread"
        if not (of_writer and issubclass(failed.exc_type, OSError)):
            previous(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous
