"""The three layouts of images with boxes: PASCAL VOC's folders, COCO's JSON, YOLO's text files."""

from __future__ import annotations

from pathlib import Path

from sppcls.detection.formats.annotated import Format
from sppcls.detection.formats.coco import find_coco
from sppcls.detection.formats.voc import find_voc
from sppcls.detection.formats.yolo import find_yolo
from sppcls.errors import DataError

__all__: list[str] = []  # public is what sppcls.detection has


def find_format(root: Path) -> Format:
    """What lies in a folder or file; raises DataError if it is no set of images with boxes."""
    found = find_voc(root) or find_coco(root) or find_yolo(root)
    if found is None:
        raise DataError(
            f"{root}: no images with boxes; looked for JPEGImages/ with Annotations/ and ImageSets/Main/ (VOC), "
            "*.json with images, annotations and categories (COCO), and labels/*.txt beside images/ (YOLO)"
        )
    return found


def has_boxes(root: Path) -> bool:
    """Whether :func:`find_format` would find a set."""
    return (find_voc(root) or find_coco(root) or find_yolo(root)) is not None
