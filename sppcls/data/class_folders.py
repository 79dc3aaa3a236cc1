"""The images of class folders: their numbers and names, and what may be wrong with them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sppcls._util.near import closest
from sppcls.data.files import FileSource, PackedStrings
from sppcls.data.hold_out import hold_out as divide
from sppcls.data.kinds import image_kinds
from sppcls.data.layout import Part
from sppcls.data.names import alike, class_name, counted, in_order, some
from sppcls.data.tree import files_below
from sppcls.errors import DataError


class ClassImages(NamedTuple):
    """Files in class folders: images by class, in order; images of kinds that cannot be read; how many others."""

    by_class: dict[str, PackedStrings]
    unreadable: dict[str, list[str]]
    others: int
    notes: list[str]


def images_of(part: Part) -> ClassImages:
    """The files of all class folders. Folders whose names are the same letters, composed or not, are one class."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in part.folder.folders:
        if name not in part.leave_out:
            names[class_name(name)].append(name)
    found = ClassImages({}, {}, 0, [])
    others = 0
    for name in in_order(names):
        images, unreadable = [], []
        for folder in names[name]:
            files = files_below(part.folder.folders[folder], f"{folder}/")
            images += files.images
            unreadable += files.unreadable
            others += files.others
        found.by_class[name], found.unreadable[name] = PackedStrings(sorted(images)), unreadable
    twice = [name for name, folders in names.items() if len(folders) > 1]
    if twice:
        found.notes.append(
            f"class {some(twice)} has two folders, in composed (NFC) and in decomposed letters (NFD), taken as one"
        )
    found.notes.extend(alike_lines(found.by_class))
    return found._replace(others=others)


def check_links(parts: Mapping[str, Part]) -> list[str]:
    """Refuse folders that links bring into two classes, into two splits, or twice into one class.

    Args:
        parts: by split.

    Returns:
        A line on each link, below a class, that leads round in a circle.

    Raises:
        DataError: names both places.
    """
    seen: dict[str, tuple[str, str, Path]] = {}
    notes = []
    for role, part in parts.items():
        for name, top in part.folder.folders.items():
            if name in part.leave_out:
                continue
            if top.is_circle:
                raise DataError(f"{top.path}: is a link to a folder that it lies in, and no class; remove it")
            for _, folder in top.walk():
                if folder.is_circle:
                    notes.append(f"{folder.path} is a link to a folder that it lies in, and is not followed")
                    continue
                at = (role, class_name(name), folder.path)
                before = seen.setdefault(folder.real, at)
                if before[2] == folder.path:
                    continue
                twice = "as two splits" if before[0] != role else "as two classes"
                if before[:2] == at[:2]:
                    twice = "twice"
                raise DataError(
                    f"{before[2]} and {folder.path} are the same folder, by a link; its images would count {twice}: "
                    "remove one of them"
                )
    return notes


def sources_of(parts: Mapping[str, Part], max_pixels: int) -> tuple[dict[str, FileSource], list[str]]:
    """A source for each split, with the classes of ``train``, and lines on what may be a mistake.

    Raises:
        DataError: less than two classes, a class without a training image, or one that training lacks.
    """
    notes = check_links(parts)
    files = {role: images_of(part) for role, part in parts.items()}
    place, train = parts["train"].folder.path, files["train"]
    if not train.by_class:
        raise DataError(f"{place}: has no class folders; images belong into one folder per class")
    empty = [name for name, members in train.by_class.items() if not members]
    if empty:
        unreadable = [path for name in empty for path in train.unreadable[name]]
        raise DataError(f"{place}: no image in the folder of class {some(empty)}{remedies(unreadable)}")
    if len(train.by_class) == 1:
        (only,) = train.by_class
        raise DataError(f"{place}: holds a single class folder ({only!r}); two classes are needed at least")
    classes = list(train.by_class)
    sources = {}
    for role, part in parts.items():
        found = files[role]
        held = {name: members for name, members in found.by_class.items() if members}
        unknown = [name for name in held if name not in train.by_class]
        if unknown:
            raise DataError(
                f"{part.folder.path}: class {some(unknown)} is not among the classes in {place}"
                + _closest(unknown[0], classes)
            )
        if not held:
            raise DataError(f"{part.folder.path}: no image in it{remedies(_all(found.unreadable))}")
        sources[role] = source_of(part.folder.path, held, classes, max_pixels, found.others)
        if role == "val" and len(held) < len(classes):
            missing = [name for name in classes if name not in held]
            notes.append(f"{part.path} has no image of class {some(missing)}")
        notes += [line for line in found.notes if line not in notes]
        prefix = f"{part.path}: " if part.path else ""
        notes += [prefix + line for line in unreadable_lines(_all(found.unreadable))]
    return sources, notes


def hold_out(source: FileSource, val_fraction: float) -> tuple[FileSource, FileSource]:
    """(train, val): see :func:`sppcls.data.hold_out.held_out`."""
    train, val = divide(source, val_fraction, f"data.val_fraction={val_fraction}")
    train.ignored = source.ignored
    return train, val


def source_of(
    root: Path,
    files: Mapping[str, PackedStrings],
    classes: Sequence[str],
    max_pixels: int,
    ignored: int = 0,
) -> FileSource:
    """Images by class; ``root`` is the folder that their names count from."""
    names = PackedStrings.joined(list(files.values()))
    number = {name: index for index, name in enumerate(classes)}
    targets = [number[name] for name, members in files.items() for _ in range(len(members))]
    return FileSource(root, names, targets, classes, max_pixels, ignored)


def _all(by_class: Mapping[str, list[str]]) -> list[str]:
    return [path for paths in by_class.values() for path in paths]


def alike_lines(classes: Iterable[str]) -> list[str]:
    return [f"classes {some(names)} differ in case or spaces only" for names in alike(classes)]


def _closest(name: str, classes: Sequence[str]) -> str:
    """A hint at the class that a name was meant for."""
    groups = alike([name, *classes])
    near = next((group[1] for group in groups if group[0] == name), None) or closest(name, classes)
    return f" (is it {near!r}?)" if near else ""


def unreadable_lines(paths: Sequence[str]) -> list[str]:
    """A line for each kind of image that cannot be read here: how many, of which class, and what to do."""
    kinds = image_kinds()
    by_kind: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for path in paths:
        kind = kinds[os.path.splitext(path)[1].lower()]
        by_kind[kind.name, kind.remedy][path.partition("/")[0] if "/" in path else ""] += 1
    lines = []
    for (name, remedy), counts in by_kind.items():
        classes = f" ({counted(counts)})" if any(counts) else ""
        lines.append(f"{counts.total():,} {name} images are left out{classes}: {remedy}")
    return lines


def remedies(paths: Sequence[str]) -> str:
    """What to do about images that cannot be read, to follow a message."""
    lines = unreadable_lines(paths)
    return f"; {'; '.join(lines)}" if lines else ""


def no_image(folder: Path, unreadable: Sequence[str]) -> DataError:
    kinds = dict.fromkeys(kind.name for kind in image_kinds().values() if kind.readable)
    return DataError(
        f"{folder}: no image in this folder (looked for {', '.join(kinds)}){remedies(unreadable)}"
    )
