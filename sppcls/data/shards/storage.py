"""Files of a folder or of any address that fsspec knows, read in pieces."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sppcls._util.reason import reason_of
from sppcls.errors import DataError, Interrupted

T = TypeVar("T")

_PAUSES = (0.5, 2.0, 8.0)  # seconds before another try
_THREADS = 16


class Missing(Exception):
    """There is no such file, or it has no such piece."""


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is an address (``s3://bucket/folder``) rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*(::|://)", str(place)) is not None


def _missing(error: Exception) -> Missing:
    """What an error says of the file; raises it again if it says something about the connection."""
    if isinstance(error, FileNotFoundError):
        return Missing("no such file")
    if getattr(error, "status", None) == 416:  # HTTP's word for a piece behind the end
        return Missing("the shard is cut off")
    raise error


class Storage:
    """The files in a folder.

    Args:
        root: a path, or an address of a kind that fsspec knows.

    Attributes:
        remote: whether reading is slow to begin, so that pieces should be asked for together.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = str(root)
        self.remote = is_address(root)
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __str__(self) -> str:
        return self.root

    def read(self, file: str) -> bytes:
        """A whole file.

        Raises:
            Missing: there is no such file.
            DataError: the folder or the address cannot be reached.
        """
        if self.remote:
            return self._trying(lambda files, root: files.cat_file(f"{root}/{file}"))
        return self._local(file, Path.read_bytes)

    def size(self, file: str) -> int | None:
        """Bytes of a file; None where an address does not tell. Raises as :meth:`read`."""
        if self.remote:
            found = self._trying(lambda files, root: files.info(f"{root}/{file}")["size"])
            return None if found is None else int(found)
        return self._local(file, lambda path: path.stat().st_size)

    def sizes(self, files: Sequence[str]) -> list[int | Missing | None]:
        """:meth:`size` of many files, or what is raised where one is missing."""

        def one(file: str) -> int | Missing | None:
            try:
                return self.size(file)
            except Missing as error:
                return error

        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(one, files))

    def pieces(self, wanted: Sequence[tuple[str, int, int]]) -> list[bytes | Missing]:
        """Pieces (file, first byte, bytes) of files, all at once where that saves time.

        A piece may be shorter, or longer, than was asked for: whoever reads it has to look.

        Raises:
            DataError: the folder or the address cannot be reached, after several tries.
        """
        if not self.remote:
            return [self._piece(*piece) for piece in wanted]

        def read(files: Any, root: str) -> list[Any]:
            names, starts = [f"{root}/{file}" for file, _, _ in wanted], [start for _, start, _ in wanted]
            ends = [start + size for _, start, size in wanted]
            found = files.cat_ranges(names, starts, ends, on_error="return")
            return [_missing(piece) if isinstance(piece, Exception) else bytes(piece) for piece in found]

        pieces: list[bytes | Missing] = self._trying(read)
        return pieces

    def _piece(self, file: str, start: int, size: int) -> bytes | Missing:
        try:
            handle = os.open(os.path.join(self.root, file), os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            return Missing("no such file")
        except OSError as error:
            return Missing(f"cannot be read ({error.strerror})")
        try:
            if hasattr(os, "posix_fadvise"):  # or what lies behind would be read, too, for nothing
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)
            return os.pread(handle, size, start)
        except OSError as error:
            return Missing(f"cannot be read ({error.strerror})")
        finally:
            os.close(handle)

    def _local(self, file: str, read: Callable[[Path], T]) -> T:
        path = Path(self.root) / file
        try:
            return read(path)
        except FileNotFoundError:
            raise Missing("no such file") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None

    def _trying(self, read: Callable[[Any, str], Any]) -> Any:
        """What ``read`` gives, in a few tries: connections break, and a training takes days."""
        for pause in (*_PAUSES, None):
            try:
                return read(*self._files())
            except FileNotFoundError:
                raise Missing("no such file") from None
            except (ImportError, ValueError, PermissionError, NotImplementedError) as error:
                raise DataError(f"{self.root}: cannot be read ({reason_of(error)})") from None
            except Interrupted:  # a signal that came within
                raise
            except Exception as error:  # each kind of address has errors of its own
                if pause is None:
                    raise DataError(f"{self.root}: cannot be reached ({reason_of(error)})") from None
                time.sleep(pause)
        raise AssertionError

    def _files(self) -> tuple[Any, str]:
        """fsspec's file system and the folder in it; a process that was forked needs one of its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            files, root = fsspec.core.url_to_fs(self.root)
            self._opened = os.getpid(), files, root.rstrip("/")
        return self._opened[1:]
