"""What can go wrong around a run, in one line each."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sppcls.errors import DataError, SppclsError

_WRITING = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ESTALE,
)


def explain(error: Exception, folder: Path) -> SppclsError | None:
    """An error of the machine as one for the person at the keyboard; None if it is of another kind."""
    if not folder.is_dir():
        return SppclsError(
            f"{folder}: the run folder was removed or renamed while it was in use; training stopped"
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return DataError(
            "a loader process died, or was killed for lack of memory (fewer data.workers need less); "
            "ckpt_path=auto goes on from the last checkpoint"
        )
    if isinstance(error, OSError) and error.errno in _WRITING:
        place = error.filename if isinstance(error.filename, str) else folder
        return SppclsError(f"{place}: {os.strerror(error.errno)}; the last checkpoint written is intact")
    return None


@contextmanager
def quiet_event_writer() -> Iterator[None]:
    """Keep the thread that writes TensorBoard's events from printing a traceback when it cannot write.

    Its error is raised in the main thread at the next event, where it is told like any other.
    """
    told = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not (
            issubclass(failed.exc_type, OSError) and type(failed.thread).__name__ == "_AsyncWriterThread"
        ):
            told(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = told
