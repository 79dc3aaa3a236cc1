"""Files that are written: not over others unasked, and never half."""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sppcls.errors import CheckpointError, ConfigError


def check_local(path: str | os.PathLike[str], wants: str) -> None:
    """Refuse an address of the web where a file is wanted.

    Args:
        path: what was named.
        wants: what is wanted, as "sppcls predicts image files".

    Raises:
        ConfigError: it is an address such as ``https://...``.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)) and not os.path.lexists(path):
        address = re.sub(r":/+", "://", str(path), count=1)  # a path has lost a slash
        raise ConfigError(f"{address}: is a URL; {wants}: download it first, and name the file")


def mode_of(path: str | os.PathLike[str]) -> int | None:
    """The mode of what a path leads to, see :mod:`stat`; None where there is nothing.

    Raises:
        CheckpointError: it cannot be known.
    """
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # such as a name that is too long, or has a zero byte
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read ({reason})") from None


def check_new_file(path: str | os.PathLike[str], overwrite: bool, option: str = "--out") -> Path:
    """A file that may be written: in a folder that exists, and not there yet unless it may be replaced.

    Raises:
        ConfigError: naming the option, the path and what to do.
    """
    path = Path(path)
    try:
        is_folder = path.is_dir()
    except OSError as error:  # such as a name that is too long
        raise ConfigError(f"{option} {path}: cannot be written ({error.strerror})") from None
    if is_folder:
        raise ConfigError(f"{option} {path}: a folder; name a file")
    if path.exists() and not overwrite:
        raise ConfigError(f"{option} {path}: exists already; name another file, or add --overwrite")
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{option} {path}: cannot be written (permission denied)")
    return path


@contextmanager
def writing(path: str | os.PathLike[str], option: str = "") -> Iterator[None]:
    """A block that does nothing but write.

    Raises:
        ConfigError: it could not, for example because the disk is full; names the option, if any, and the path.
    """
    try:
        yield
    except OSError as error:
        name = f"{option} {path}".lstrip()
        raise ConfigError(f"{name}: cannot be written ({error.strerror or error})") from None


@contextmanager
def replacing(path: str | os.PathLike[str], option: str = "") -> Iterator[Path]:
    """A temporary neighbour of ``path`` to write to; it takes the place of ``path`` once it is whole.

    Raises:
        ConfigError: as :func:`writing`; ``path`` is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{_unlike_others()}.tmp{path.suffix}")
    try:
        with writing(path, option):
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain data as JSON; errors as of :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_csv(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, object]],
    columns: Sequence[str] = (),
    option: str = "",
) -> None:
    """Write rows as CSV, with a heading; errors as of :func:`replacing`.

    Args:
        path: the file.
        rows: cells by column; those that a row lacks are empty.
        columns: in the order of the file; by default those of the rows.
        option: names the file in messages.
    """
    with replacing(path, option) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, list(columns) or list(dict.fromkeys(key for row in rows for key in row))
        )
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def one_at_a_time(lock: Path, waiting: Callable[[], None]) -> Iterator[bool]:
    """A block that one process at a time is in; the lock ends with the process, however it ends.

    Gives False on a file system that has no locks: other processes may be in the block then.

    Args:
        lock: a file that is made for it, and stays.
        waiting: called before this process waits for another one.

    Raises:
        OSError: the file cannot be made.
    """
    with open(lock, "a+b") as file:
        held = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            held = False
        try:
            yield held
        finally:
            if held:  # not left to closing, as processes that were forked may still hold the file
                fcntl.flock(file, fcntl.LOCK_UN)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` what ``source`` is now, at once; ``source`` is only ever replaced, so a link is a copy."""
    temporary = target.with_name(f".{target.name}.{_unlike_others()}.tmp")
    try:
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, temporary)
            _to_disk(temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # replace() leaves it where both were one file already


def _unlike_others() -> str:
    """A part of a file's name: another machine or container may have a process of the same number."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


# Of file systems that have no such thing.
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def _to_disk(path: Path) -> None:
    """Before it takes another file's place: a machine that fails may have renamed what it has not written yet."""
    with open(path, "rb") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_FSYNC:
                raise


def read_json(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is none, or something else, or half of one."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the last: of brackets in brackets without end
        return None
    return found if isinstance(found, dict) else None
