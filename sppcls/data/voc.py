"""PASCAL VOC folders with several classes per image, and the average precision of VOC's development kit.

Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) Challenge"; VOC2007 is what He et al. 2015, sec. 4.3,
measure on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sppcls.data.voc_xml import voc_objects
from sppcls.errors import DataError

_BELOW = (".", "VOC2007", "VOCdevkit/VOC2007")


@dataclass(frozen=True)
class VOCImages:
    """The images of ``trainval.txt``, then those of ``test.txt``.

    Attributes:
        root: folder with ``JPEGImages``.
        names: paths of the images below it.
        is_test: bool (N,).
        classes: every class that an annotation names, sorted.
        presence: int8 (N, classes): 1: the image holds an object of the class; 0: only ones marked as difficult, so
            that the image counts neither for nor against the class; -1: none.
    """

    root: Path
    names: list[str]
    is_test: np.ndarray
    classes: list[str]
    presence: np.ndarray


def find_voc(folder: str | os.PathLike[str]) -> Path | None:
    """The folder with ``JPEGImages``: ``folder``, or VOC2007 in it or in its ``VOCdevkit``; None if there is none."""
    for below in _BELOW:
        if (Path(folder) / below / "JPEGImages").is_dir():
            return Path(folder) / below
    return None


def read_voc(folder: str | os.PathLike[str]) -> VOCImages:
    """Read image sets and annotations.

    Args:
        folder: with ``JPEGImages/*.jpg``, ``Annotations/*.xml`` and ``ImageSets/Main/trainval.txt`` and ``test.txt``;
            or a folder with VOC2007 or VOCdevkit/VOC2007 in it.

    Raises:
        DataError: a part is missing or broken, an image is listed twice, or a class is not both in trainval and in
            test. No image is opened.
    """
    root = find_voc(folder)
    if root is None:
        raise DataError(
            f"{folder}: no VOC folder; JPEGImages/, Annotations/ and ImageSets/Main/ are looked for in it, in VOC2007/ "
            "and in VOCdevkit/VOC2007/"
        )
    sets = [_image_set(root / "ImageSets" / "Main" / f"{name}.txt") for name in ("trainval", "test")]
    keys = sets[0] + sets[1]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DataError(f"{root / 'ImageSets' / 'Main'}: image {twice} is listed twice in trainval and test")
    names = [f"JPEGImages/{key}.jpg" for key in keys]
    absent = [name for name in names if not (root / name).is_file()]
    if absent:
        raise DataError(
            f"{root / absent[0]}: no such image ({len(absent)} of {len(names)} listed are missing)"
        )
    found = [_objects(root / "Annotations" / f"{key}.xml") for key in keys]
    classes = sorted({name for objects in found for name in objects})
    if not classes:
        raise DataError(f"{root / 'Annotations'}: no image of trainval and test holds an object")
    presence = np.array([[objects.get(name, -1) for name in classes] for objects in found], np.int8)
    images = VOCImages(root, names, np.arange(len(keys)) >= len(sets[0]), classes, presence)
    check_voc(images, np.arange(len(keys)))
    return images


def check_voc(images: VOCImages, kept: np.ndarray) -> None:
    """Raise DataError unless, of the images numbered ``kept``, trainval and test hold every class, and trainval images
    without it."""
    for number, name in enumerate(images.classes):
        for file, is_test in (("trainval.txt", False), ("test.txt", True)):
            present = images.presence[kept, number][images.is_test[kept] == is_test]
            for value, what in ((1, "with"), (-1, "without")):
                # A test set without other images has its average precision: 1.
                if not (present == value).any() and not (is_test and value == -1):
                    raise DataError(
                        f"{images.root}: class {name!r}: {file} has no image {what} an object of it "
                        "(difficult ones do not count)"
                    )


def average_precision(
    scores: np.ndarray, present: np.ndarray, total: int | None = None
) -> tuple[float, float]:
    """Average precision of a ranking, as VOC's development kits compute it.

    Equal scores are ranked in the order given.

    Args:
        scores: (N,), the higher the surer.
        present: bool (N,), with one true value at least, unless ``total`` is given.
        total: how many there are to find, if some of them may not be ranked at all, as objects that a detector misses.

    Returns:
        (11-point, all-point), 0 to 1. The first, of VOC2007, is the mean over the recalls 0, 0.1, ..., 1 of the highest
        precision at that recall or a higher one. The second, from VOC2010 on, is the area below that curve.

    Raises:
        ValueError: nothing is present.
    """
    ranked = np.asarray(present, bool)[np.argsort(-np.asarray(scores), kind="stable")]
    total = int(ranked.sum()) if total is None else total
    if not total:
        raise ValueError("average precision needs an image that holds the class")
    hits = np.cumsum(ranked)
    precision = hits / np.arange(1, len(ranked) + 1)
    # At each place the highest precision from there on, that is at this recall or a higher one.
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    # In whole numbers: 3 / 10 is below the 0.3 that 3 * 0.1 gives.
    reached = [10 * hits >= step * total for step in range(11)]
    eleven = [highest[np.argmax(there)] if there.any() else 0.0 for there in reached]
    return float(np.mean(eleven)), float(highest[ranked].sum() / total)


def _image_set(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    # Sets of one class have a second column.
    keys = [line.split()[0] for line in lines if line.strip()]
    if not keys:
        raise DataError(f"{path}: lists no image")
    return keys


def _objects(path: Path) -> dict[str, int]:
    """Classes in an annotation: 1, or 0 if all its objects are difficult."""
    found: dict[str, int] = {}
    for name, difficult, _ in voc_objects(path):
        found[name] = max(found.get(name, 0), int(not difficult))
    return found
