"""Class folders as tags: the same photo in several of them has all their labels."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

from sppcls.data.files import FileSource
from sppcls.data.label_sets import LabelSets


def one_photo_each(source: FileSource) -> FileSource:
    """The photos of class folders, each once, with the labels of all folders that it is in.

    The same photo is a file of the same bytes, a link or a copy; not one of the same name, as cameras and downloads call
    many photos alike. Only files of the same length are read. A photo keeps the first of its names.

    Args:
        source: images with one label each, in the order of the classes.
    """
    names = [source.name(index) for index in range(len(source))]
    lengths = [_length(source, name) for name in names]
    several = Counter(lengths)
    labels: dict[object, set[int]] = defaultdict(set)
    first: dict[object, str] = {}
    for name, length, target in zip(names, lengths, source.targets, strict=True):
        photo = (length, _digest(source, name)) if several[length] > 1 else name
        first.setdefault(photo, name)
        labels[photo].add(target)
    sets = LabelSets(labels[photo] for photo in first)
    tagged = FileSource(
        source.root, list(first.values()), sets, source.classes, source.max_pixels, source.ignored
    )
    tagged.pixel_range = source.pixel_range
    return tagged


def _length(source: FileSource, name: str) -> int:
    try:
        return (source.root / name).stat().st_size
    except OSError:
        return -1


def _digest(source: FileSource, name: str) -> str:
    try:
        with open(source.root / name, "rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return name  # like no other; the look at its header names it
