"""What a run says: to the terminal and, once there is a run folder, to its ``train.log``."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

_LOG = logging.getLogger("sppcls")


class _TqdmHandler(logging.Handler):
    """Prints above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm  # not at the top: `sppcls doctor` starts without any package

        if not hasattr(tqdm, "_lock"):
            # No other process draws bars. tqdm's own lock is one of processes too, for which Python 3.14 starts a process.
            tqdm.set_lock(threading.RLock())
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except OSError:
            silence(sys.stdout)  # nobody reads any more, as with `| head`; train.log has it all


class _LogFile(logging.FileHandler):
    """``train.log``; a full disk is reported by what cannot do without it."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def silence(stream: TextIO) -> None:
    """Send to nowhere what is written to a stream from now on, and what it still holds, which could not be written."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def train_command() -> str:
    """How training is started here, for commands that a person may paste: a checkout has ``train.py``."""
    installed = (Path(__file__).resolve().parents[1] / "conf").is_dir()
    return "sppcls train" if installed or Path(sys.argv[0]).stem == "sppcls" else "python train.py"


def start_console(folder: Path | None) -> None:
    """Print messages of this process; with a folder also append them to ``folder/train.log``."""
    for handler in list(_LOG.handlers):
        _LOG.removeHandler(handler)
        handler.close()
    _LOG.disabled = (
        False  # Hydra configures logging anew for every job of a sweep, which switches loggers off
    )
    _LOG.setLevel(logging.INFO)
    _LOG.propagate = False
    _LOG.addHandler(_TqdmHandler())
    if folder is not None:
        file = _LogFile(folder / "train.log", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
        _LOG.addHandler(file)


def say(message: str) -> None:
    """One message to the person who watches, of one line or several."""
    _LOG.info(visible(message))


def say_to_log(message: str) -> None:
    """A message for ``train.log`` alone, as the terminal gets it in another way: why the run ended."""
    for handler in _LOG.handlers:
        if isinstance(handler, _LogFile):
            handler.handle(_LOG.makeRecord(_LOG.name, logging.INFO, "", 0, visible(message), (), None))


def printable(name: str | Path) -> str:
    """A file or class name as text that can be encoded: bytes that are no characters become escapes like ``\\xff``."""
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, which no file name can hold but a checkpoint can
        return str(name).encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(name: str | Path) -> str:
    """A name for a terminal: line ends and control characters, which could move the cursor or hide text, as escapes."""
    return _escaped(printable(name), "")


def visible(text: str) -> str:
    """A message for a terminal: as :func:`one_line`, but its lines stay lines."""
    return _escaped(printable(text), "\n\t")


def _escaped(text: str, kept: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in text
    )


def table(
    rows: Sequence[Sequence[object]], header: Sequence[str] | None = None, columns: int | None = None
) -> str:
    """Rows as aligned text columns, each row a line; columns of numbers to the right.

    Args:
        rows: cells.
        header: a title for each column.
        columns: of the terminal: what does not fit beside the first column follows in further tables, each of which
            begins with that column again; None: any width.
    """
    cells = [[one_line(str(cell)) for cell in row] for row in rows]
    numeric = [
        all(row[i].replace(".", "", 1).replace("-", "", 1).isdigit() for row in cells)
        for i in range(len(cells[0]))
    ]
    shown = ([list(header)] if header else []) + cells
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    blocks = []
    for kept in _side_by_side(widths, columns):
        lines = []
        for row in shown:
            padded = (row[i].rjust(widths[i]) if numeric[i] else row[i].ljust(widths[i]) for i in kept)
            lines.append("  ".join(padded).rstrip())
        if header:
            lines.insert(1, "  ".join("-" * widths[i] for i in kept))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _side_by_side(widths: Sequence[int], columns: int | None) -> list[list[int]]:
    """Numbers of the columns of each table, the first in each; at least one more, however wide it is."""
    found = [[0]]
    for i, width in enumerate(widths[1:], 1):
        used = sum(widths[j] + 2 for j in found[-1])
        if columns is not None and len(found[-1]) > 1 and used + width > columns:
            found.append([0])
        found[-1].append(i)
    return found


def terminal_columns() -> int | None:
    """Columns of the terminal that standard output goes to; None where it goes elsewhere, as into a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
