"""Images with boxes: VOC folders, COCO JSON and YOLO text, recognised by looking, and generated scenes.

A set has splits. What is learned comes from one and is judged on another; :func:`read_set` chooses by the usual names.
Boxes that overshoot their image by a pixel or less, as rounding leaves them, are cut to it; others are refused.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sppcls._util.files import check_local
from sppcls._util.reason import reason_of
from sppcls.data.decode import check_header
from sppcls.data.folder import image_files
from sppcls.data.kinds import readable_formats
from sppcls.data.names import role_of
from sppcls.data.sizes import Size
from sppcls.detection.boxes import clip, fault
from sppcls.detection.formats import find_format
from sppcls.detection.formats.annotated import Annotated
from sppcls.detection.scenes import scenes
from sppcls.detection.truth import DetectionSet, Files, Truth
from sppcls.errors import DataError

_ORIENTATION = 0x0112  # the EXIF tag


def read_set(place: str, split: str | None = None, *, purpose: str = "train", count: int = 0) -> DetectionSet:
    """A split of a set of images with boxes.

    Args:
        place: a VOC folder (``JPEGImages``, ``Annotations``, ``ImageSets/Main``), a folder or file of COCO JSON, a
            YOLO folder (``images``, ``labels``); or ``shapes``: generated scenes.
        split: its name; None: for ``train`` the one to train on (``trainval`` if there is a ``test``), for ``test``
            ``test`` or else ``val``.
        purpose: ``train`` or ``test``.
        count: generated scenes of the split; 0: 300 to train, 100 to test.

    Raises:
        DataError: nothing of the kind, no such split, a missing photo, a broken annotation, a box that is empty or
            leaves its image. One line; no pixel is decoded.
    """
    if place == "shapes":
        return scenes(split or ("train" if purpose == "train" else "val"), count)
    check_local(place, "sppcls reads folders of images with boxes")
    root = Path(place)
    if not root.exists():
        raise DataError(f"{place}: no such file or folder")
    found = find_format(root)
    if found is None:
        raise DataError(
            f"{root}: no images with boxes; looked for JPEGImages/ with Annotations/ and ImageSets/Main/ (VOC), "
            "*.json with images, annotations and categories (COCO), and labels/*.txt beside images/ (YOLO)"
        )
    splits = found.splits()
    chosen = _choose(splits, split, purpose, place)
    classes, images = found.read(chosen)
    return _checked(f"{place} ({found.kind})", chosen, classes, images)


def _choose(splits: Sequence[str], split: str | None, purpose: str, place: str) -> str:
    if split is not None:
        if split not in splits:
            raise DataError(f"{place}: no split {split!r}; choose from {', '.join(splits)}")
        return split
    roles = {name: role_of(name) for name in splits}
    if purpose == "train":
        has_test = "test" in roles.values()
        wanted = [n for n in (["trainval", "train"] if has_test else ["train", "trainval"]) if n in splits]
        wanted += [name for name in splits if roles[name] == "train"]
    else:
        wanted = [name for role in ("test", "val") for name in splits if roles[name] == role]
    # A single split is meant for anything, unless its name says what it is for; a file that was named is meant.
    wanted += [name for name in splits if len(splits) == 1 and (roles[name] is None or Path(place).is_file())]
    if not wanted:
        what = "train" if purpose == "train" else "judge"
        raise DataError(f"{place}: no split to {what} on; choose one by its name: {', '.join(splits)}")
    return wanted[0]


def _checked(name: str, split: str, classes: Sequence[str], images: Sequence[Annotated]) -> DetectionSet:
    if not images:
        raise DataError(f"{name}: split {split} lists no image")
    if not classes:
        raise DataError(f"{name}: split {split} has no object, and no class is named")
    if twice := [one for one, count in Counter(classes).items() if count > 1]:
        raise DataError(f"{name}: class {twice[0]!r} is named twice")
    sizes, truths = [], []
    seen: set[str] = set()
    for one in images:
        if one.name in seen:
            raise DataError(f"{name}: image {one.name} is listed twice in {split}")
        seen.add(one.name)
        if not one.path.is_file():
            raise DataError(f"{one.path}: no such photo; {one.where} names it")
        size, turned = _header(one.path)
        if turned not in (0, 1):
            raise DataError(
                f"{one.path}: is turned by its EXIF orientation {turned}, and its boxes may be of either frame: save it upright"
            )
        boxes = one.boxes * ([size[1], size[0], size[1], size[0]] if one.relative else 1.0)
        if wrong := fault(boxes, size):
            raise DataError(f"{one.where}: box {wrong}")
        sizes.append(size)
        truths.append(Truth(clip(boxes, size), np.array(one.labels, np.int64), np.array(one.difficult, bool)))
    files = Files([one.path for one in images])
    names = tuple(one.name for one in images)
    return DetectionSet(name, split, tuple(classes), names, tuple(sizes), tuple(truths), files, files.digest)


def _header(path: Path) -> tuple[Size, int]:
    """(height, width) of a photo as it is stored, and its EXIF orientation; raises DataError if it cannot be decoded."""
    if reason := check_header(path):
        raise DataError(f"{path}: {reason}")
    try:
        with warnings.catch_warnings(), Image.open(path, formats=readable_formats()) as image:
            warnings.simplefilter("ignore")  # of odd metadata
            return (image.height, image.width), int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # Pillow raises nearly any type on damaged files
        raise DataError(f"{path}: cannot be read as an image ({reason_of(error)})") from None


def read_photos_or_set(place: str, split: str | None = None, *, count: int = 0) -> DetectionSet:
    """As :func:`read_set`; a folder of photos without boxes gives a set without classes.

    Photos that are turned by EXIF are taken as they are seen.
    """
    root = Path(place)
    if place == "shapes" or split is not None or (root.exists() and find_format(root)):
        return read_set(place, split, count=count)
    paths = image_files([root])
    headers = map(_header, paths)
    sizes = tuple((size[1], size[0]) if turned >= 5 else size for size, turned in headers)
    files = Files(paths)
    none = Truth(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, bool))
    names = tuple(path.relative_to(root).as_posix() if root.is_dir() else path.name for path in paths)
    return DetectionSet(place, "photos", (), names, sizes, (none,) * len(paths), files, files.digest)
