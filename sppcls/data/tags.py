"""Class folders as tags: the same photo in several of them has all their labels."""

from __future__ import annotations

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
        photo = (length, source.digest(name)) if several[length] > 1 else name
        first.setdefault(photo, name)
        labels[photo].add(target)
    sets = LabelSets(labels[photo] for photo in first)
    names = list(first.values())
    kept = source.max_pixels, source.ignored, source.pixel_range
    return FileSource(source.root, names, sets, source.classes, *kept)


def _length(source: FileSource, name: str) -> int:
    try:
        return (source.root / name).stat().st_size
    except OSError:
        return -1
