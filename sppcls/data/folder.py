"""Image folders: ``train/<class>/`` and ``val/<class>/``, or ``<class>/`` alone, split reproducibly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sppcls.classes import check_known
from sppcls.data.decode import MAX_PIXELS
from sppcls.data.files import FileSource
from sppcls.data.keys import derive
from sppcls.errors import ConfigError, DataError

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm",
)  # fmt: skip


def folder_sources(
    root: str | os.PathLike[str], *, val_fraction: float = 0.2, max_pixels: int = MAX_PIXELS
) -> tuple[FileSource, FileSource]:
    """(train, val) of ``root``: its ``train`` and ``val`` if it has either, else its class folders, split.

    Classes are sorted by name; images may lie in sub-folders of their class; hidden files and folders are
    passed over.

    Raises:
        DataError: ``root`` is missing, no folder or empty, or its contents do not make two matching splits.
    """
    root = _existing(Path(root))
    if (root / "train").is_dir() or (root / "val").is_dir():
        return split_sources(root, max_pixels=max_pixels)
    return single_folder_sources(root, val_fraction=val_fraction, max_pixels=max_pixels)


def split_sources(
    root: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS
) -> tuple[FileSource, FileSource]:
    """(train, val) of ``root/train/<class>/`` and ``root/val/<class>/``; val may lack a class, train not."""
    root = _existing(Path(root))
    for split in ("train", "val"):
        if not (root / split).is_dir():
            raise DataError(
                f"data.root={root}: there is no folder {split}/ in it; train/ and val/ are needed"
            )
    train, train_ignored = _class_files(root / "train")
    val, val_ignored = _class_files(root / "val")
    unknown = sorted(set(val) - set(train))
    if unknown:
        raise DataError(
            f"{root / 'val'}: class {_some(unknown)} is not among the classes in {root / 'train'}"
        )
    classes = list(train)
    return (
        _source(root / "train", train, classes, max_pixels, train_ignored),
        _source(root / "val", val, classes, max_pixels, val_ignored),
    )


def single_folder_sources(
    root: str | os.PathLike[str],
    *,
    val_fraction: float,
    max_pixels: int = MAX_PIXELS,
    leave_out: frozenset[str] = frozenset(),
) -> tuple[FileSource, FileSource]:
    """(train, val) of ``root/<class>/``: in each class, the images whose names hash lowest are val.

    Nothing but the names below ``root`` and the fraction decides. Classes in ``leave_out`` are passed over.
    """
    if not 0 < val_fraction < 1:
        raise ConfigError(f"data.val_fraction={val_fraction}: a number between 0 and 1 is needed")
    root = _existing(Path(root))
    files, ignored = _class_files(root, leave_out)
    train, val = {}, {}
    for name, members in files.items():
        count = round(len(members) * val_fraction)
        if not 0 < count < len(members):
            side = "validation" if count == 0 else "training"
            raise DataError(
                f"data.val_fraction={val_fraction}: class {name!r} in {root} has {len(members)} image(s), "
                f"which leaves none for {side}; change the fraction or add images"
            )
        chosen = set(sorted(members, key=lambda member: derive("split", member))[:count])
        train[name] = [member for member in members if member not in chosen]
        val[name] = [member for member in members if member in chosen]
    classes = list(files)
    return (
        _source(root, train, classes, max_pixels, ignored),
        _source(root, val, classes, max_pixels, 0),
    )


def image_files(places: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Image files among ``places`` (files, taken as they are) and in and below them (folders, sorted by name).

    Raises:
        DataError: a place that does not exist, or a folder without an image.
    """
    found: list[Path] = []
    for place in map(Path, places):
        try:
            is_folder, exists = place.is_dir(), place.exists()
        except OSError as error:  # such as a name that is too long
            raise DataError(f"{place}: cannot be read ({error.strerror})") from error
        if not is_folder:
            if not exists:
                raise DataError(f"{place}: no such file or folder")
            found.append(place)
            continue
        try:
            names = sorted(n for n in _files(place, ".", ()) if n.lower().endswith(EXTENSIONS))
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error
        if not names:
            raise _no_image(place)
        found += [place / name for name in names]
    return found


def labelled_images(folder: str | os.PathLike[str], classes: Sequence[str]) -> FileSource:
    """The images of ``folder/val/<class>/`` if there is such a folder, else of ``folder/<class>/``.

    Classes of ``classes`` without an image are no fault: what is there can be tested.

    Raises:
        CheckpointError: a class that is not among ``classes``; says which, and which one is closest.
        DataError: there is no such folder, or no image in it.
    """
    root = Path(folder)
    root = root / "val" if os.path.isdir(root / "val") else root
    if not os.path.isdir(root):  # os.path's own: a name that is too long is no folder, and no error
        raise DataError(
            f"{root}: {'a file, a folder is needed' if os.path.exists(root) else 'no such folder'}"
        )
    there = _class_names(root)
    check_known(classes, there, root)
    files, ignored = _images_of(root, [name for name in classes if name in there])
    if not any(files.values()):
        raise _no_image(root)
    return _source(root, files, classes, MAX_PIXELS, ignored)


def holds_class_folders(folder: str | os.PathLike[str], classes: Sequence[str]) -> bool:
    """Whether a folder has a folder of one of ``classes`` in it."""
    return any(os.path.isdir(Path(folder, name)) for name in classes)


def _no_image(folder: Path) -> DataError:
    return DataError(f"{folder}: no image in this folder (looked for {', '.join(EXTENSIONS)})")


def _source(
    root: Path, files: Mapping[str, list[str]], classes: Sequence[str], max_pixels: int, ignored: int
) -> FileSource:
    names = [name for members in files.values() for name in members]
    number = {name: index for index, name in enumerate(classes)}
    targets = [number[class_name] for class_name, members in files.items() for _ in members]
    return FileSource(root, names, targets, classes, max_pixels, ignored)


def _existing(root: Path) -> Path:
    if not os.path.exists(root):
        raise DataError(f"data.root={root}: no such folder")
    if not os.path.isdir(root):
        raise DataError(f"data.root={root}: is a file, a folder of class folders is needed")
    return root


def _class_files(root: Path, leave_out: frozenset[str] = frozenset()) -> tuple[dict[str, list[str]], int]:
    """:func:`_images_of` all class folders of ``root`` (sorted): two at least, none of them empty."""
    names = _class_names(root, leave_out)
    if not names:
        raise DataError(f"{root}: has no class folders; images belong into one folder per class")
    found, ignored = _images_of(root, names)
    empty = [name for name in names if not found[name]]
    if empty:
        raise DataError(f"{root}: no image in the folder of class {_some(empty)}")
    if len(names) == 1:
        raise DataError(
            f"{root}: holds a single class folder ({names[0]!r}); two classes are needed at least"
        )
    return found, ignored


def _class_names(root: Path, leave_out: frozenset[str] = frozenset()) -> list[str]:
    """Names of the folders in ``root``, sorted, hidden ones left out."""
    try:
        with os.scandir(root) as found:
            return sorted(
                entry.name
                for entry in found
                if entry.is_dir() and not entry.name.startswith(".") and entry.name not in leave_out
            )
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def _images_of(root: Path, classes: Iterable[str]) -> tuple[dict[str, list[str]], int]:
    """Image names (relative to ``root``, sorted) by class folder, and how many other files there are."""
    found: dict[str, list[str]] = {}
    ignored = 0
    try:
        for name in classes:
            files = list(_files(root / name, name, (os.path.realpath(root),)))
            found[name] = sorted(file for file in files if file.lower().endswith(EXTENSIONS))
            ignored += len(files) - len(found[name])
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error
    return found, ignored


def _files(folder: Path, relative: str, above: tuple[str, ...]) -> Iterator[str]:
    """Names of the files in and below a folder, links followed but not in circles, hidden ones left out."""
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as found:
        entries = [(entry.name, entry.is_dir()) for entry in found if not entry.name.startswith(".")]
    for name, is_folder in entries:
        if is_folder:
            yield from _files(folder / name, f"{relative}/{name}", (*above, here))
        else:
            yield f"{relative}/{name}"


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
