"""Folders on disk, each of them listed once at most."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from sppcls.data.kinds import image_kinds
from sppcls.data.names import is_junk
from sppcls.errors import DataError


class _Listing(NamedTuple):
    """What is in a folder. Names of files are one string, with the one letter between them that no name has: it is kept as
    long as its folder, and strings of their own would take three times as much."""

    folders: dict[str, Folder]
    images: str
    unreadable: str
    others: str


_DEEPEST = 100  # far more than anybody has, and far less than Python allows calls within calls


class Folder:
    """A folder and what is in it, junk left out; links are followed, but not in circles.

    It is listed when first asked about, and no file is opened.

    Args:
        path: the folder.
        above: real paths of the folders that it was reached through.
    """

    def __init__(self, path: Path, above: tuple[str, ...] = ()) -> None:
        self.path, self._above = path, above

    @cached_property
    def real(self) -> str:
        """Its path without links: that of the same folder, however it is reached."""
        return os.path.realpath(self.path)

    @property
    def is_circle(self) -> bool:
        """Whether it is a link to a folder that it lies in; it seems empty then."""
        return self.real in self._above

    @cached_property
    def _listing(self) -> _Listing:
        folders: dict[str, Folder] = {}
        images, unreadable, others = list[str](), list[str](), list[str]()
        here = self.real
        if self.is_circle:
            return _Listing({}, "", "", "")
        if len(self._above) >= _DEEPEST:
            raise DataError(f"{self._above[0]}: folders within folders, {_DEEPEST} deep and more")
        kinds = image_kinds()
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    name = entry.name
                    if is_junk(name):
                        continue
                    if entry.is_dir():
                        folders[name] = Folder(self.path / name, (*self._above, here))
                        continue
                    kind = kinds.get(name[name.rfind(".") :].lower())
                    (others if kind is None else images if kind.readable else unreadable).append(name)
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error
        return _Listing(dict(sorted(folders.items())), *map("/".join, (images, unreadable, others)))

    @property
    def folders(self) -> dict[str, Folder]:
        """Folders in it by name, in the order of their names."""
        return self._listing.folders

    @property
    def images(self) -> list[str]:
        """Names of the image files in it, in no order."""
        return _apart(self._listing.images)

    @property
    def unreadable(self) -> list[str]:
        """Names of the image files in it that are of a kind that cannot be decoded here."""
        return _apart(self._listing.unreadable)

    @property
    def others(self) -> list[str]:
        """Names of all other files in it."""
        return _apart(self._listing.others)

    @cached_property
    def holds_images(self) -> bool:
        """Whether there is an image in it or below, of whatever kind."""
        here = self._listing
        return bool(here.images or here.unreadable) or any(f.holds_images for f in self.folders.values())

    @property
    def classes(self) -> dict[str, Folder]:
        """The folders in it that hold images."""
        return {name: folder for name, folder in self.folders.items() if folder.holds_images}

    def innermost(self) -> tuple[Folder, str]:
        """The folder that the only folder in a folder leads to, as long as that holds folders again; and its path.

        ``outer/inner/CLASS/*`` gives ``inner`` and ``"inner/"``; most folders are their own innermost.
        """
        only = self.only()
        if only is None:
            return self, ""
        folder, path = self.folders[only].innermost()
        return folder, f"{only}/{path}"

    def only(self) -> str | None:
        """Name of the only folder in this one, if it is no more than a wrapping around others."""
        if len(self.folders) != 1 or self.images:
            return None
        ((name, folder),) = self.folders.items()
        return name if folder.classes and not folder.images else None

    def walk(self, relative: str = "") -> Iterator[tuple[str, Folder]]:
        """This folder and all below it, each with its path and ``/`` at its end, ``relative`` being that of this one."""
        yield relative, self
        for name, folder in self.folders.items():
            yield from folder.walk(f"{relative}{name}/")

    def is_same(self, other: Folder) -> bool:
        """Whether it is the same folder on disk."""
        return self.real == other.real


def _apart(names: str) -> list[str]:
    return names.split("/") if names else []


class Files(NamedTuple):
    """Files in and below a folder by their paths: images, images of kinds that cannot be read, and how many others."""

    images: list[str]
    unreadable: list[str]
    others: int


def files_below(folder: Folder, relative: str = "") -> Files:
    """The files in and below a folder, sorted, with ``relative`` before their paths."""
    images: list[str] = []
    unreadable: list[str] = []
    others = 0
    for path, each in folder.walk(relative):
        images += [path + name for name in each.images]
        unreadable += [path + name for name in each.unreadable]
        others += len(each.others)
    return Files(sorted(images), sorted(unreadable), others)
