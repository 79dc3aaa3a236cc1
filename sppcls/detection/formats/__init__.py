"""The three layouts of images with boxes: PASCAL VOC's folders, COCO's JSON, YOLO's text files."""

from __future__ import annotations

from pathlib import Path

from sppcls.detection.formats.annotated import Format
from sppcls.detection.formats.coco import find_coco
from sppcls.detection.formats.voc import find_voc
from sppcls.detection.formats.yolo import find_yolo

__all__: list[str] = []  # public is what sppcls.detection has


def find_format(root: Path) -> Format | None:
    """What lies in a folder or file; None if it is no set of images with boxes."""
    return find_voc(root) or find_coco(root) or find_yolo(root)
