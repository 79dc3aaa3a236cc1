"""Downloaded archives, unpacked so that nothing lands outside of the folder and nothing half-unpacked looks whole."""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from sppcls.errors import DataError

# Photos hardly pack. What grows more than this is made to fill a disk.
MAX_GROWTH = 20
_SMALL = 100_000_000
_MEMBER = 4096  # bytes that a member takes on a disk, whatever it holds

UNPACKING = ".unpacking-"
"""How the names of hidden folders begin that members are written to at first."""


class _Member(NamedTuple):
    """One entry of an archive; ``open`` is None for a folder and a link, ``link`` the file that a link repeats."""

    name: str
    size: int
    open: Callable[[], IO[bytes]] | None
    link: str | None = None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar file (plain or compressed) or a zip file into ``folder``.

    Only files and folders are made. A link becomes a copy of the file that it names, which must come before it in
    the archive. That is stricter than ``tarfile``'s ``data`` filter, which came with Python 3.11.4 and lets links
    lead out of the folder up to 3.11.12, and it holds for zip files too. Members are written to a hidden neighbour
    first: ``folder`` gets them when the archive has been read to its end.

    Raises:
        DataError: a member with an absolute name or ``..`` in it, a link to anything else, a device or pipe; or an
            archive that takes more than :data:`MAX_GROWTH` times its size or more than the disk has left. Nothing
            is changed then.
        OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error: it is damaged, or cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNPACKING, dir=folder) as hidden:
        room = min(_SMALL + MAX_GROWTH * archive.stat().st_size, shutil.disk_usage(hidden).free)
        with _members(archive) as members:
            for member in members:
                room -= _MEMBER + _size(member, hidden, archive)
                if room < 0:
                    most = f"{MAX_GROWTH} times its size, or than the disk has left"
                    raise DataError(f"{archive}: unpacks to more than {most}")
                _write(member, hidden)
        _move_into(Path(hidden), folder)


def _size(member: _Member, folder: str, archive: Path) -> int:
    """Bytes that a member will take in ``folder``; raises DataError for one that must not be unpacked there."""
    if not _stays_below(member.name):
        raise DataError(f"{archive}: {member.name!r} leads out of the folder it is unpacked to")
    if member.link is None:
        return member.size
    source = Path(folder, member.link)
    if not (_stays_below(member.link) and source.is_file()):
        raise DataError(
            f"{archive}: {member.name!r} links to {member.link!r}, which is no file before it in the archive"
        )
    return source.stat().st_size


def _stays_below(name: str) -> bool:
    """Whether a name stays in its folder, whatever the system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return not any(path.drive or path.root or ".." in path.parts for path in paths)


def _write(member: _Member, folder: str) -> None:
    target = Path(folder, member.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.link is not None:
        shutil.copyfile(Path(folder, member.link), target)
    elif member.open is None:
        target.mkdir(exist_ok=True)
    else:
        with member.open() as content, open(target, "wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield _zip_members(packed, archive)
    else:
        with tarfile.open(archive) as tar:
            yield _tar_members(tar, archive)


def _tar_members(tar: tarfile.TarFile, archive: Path) -> Iterator[_Member]:
    for info in tar:
        if info.isdir():
            yield _Member(info.name, 0, None)
        elif info.isreg():
            yield _Member(info.name, info.size, partial(_content, tar, info))
        elif info.islnk():
            yield _Member(info.name, 0, None, info.linkname)
        elif info.issym():  # unlike the other kind, it is relative to the folder that it is in
            link = posixpath.join(posixpath.dirname(info.name), info.linkname)
            yield _Member(info.name, 0, None, posixpath.normpath(link))
        else:
            raise DataError(f"{archive}: {info.name!r} is neither a file nor a folder")


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(info)
    assert content is not None  # which is for what is no file
    return content


def _zip_members(packed: zipfile.ZipFile, archive: Path) -> Iterator[_Member]:
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir():
            yield _Member(info.filename, 0, None)
        elif kind in (0, stat.S_IFREG):
            yield _Member(info.filename, info.file_size, partial(packed.open, info))
        else:  # a link, mostly, which zip files of photos have no use for
            raise DataError(f"{archive}: {info.filename!r} is neither a file nor a folder")


def _move_into(source: Path, target: Path) -> None:
    """Give ``target`` what is in ``source``; files of the same name are replaced, other ones stay."""
    for entry in sorted(os.listdir(source)):
        old, new = source / entry, target / entry
        try:
            os.replace(old, new)
        except OSError:
            if not (old.is_dir() and new.is_dir()):
                raise
            _move_into(old, new)
