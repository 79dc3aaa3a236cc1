"""PASCAL VOC's folders."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from sppcls.data.voc_xml import voc_objects
from sppcls.detection.boxes import as_boxes, from_voc
from sppcls.detection.formats.annotated import Annotated, photo_of, text_of
from sppcls.errors import DataError


class VOCFormat:
    """``JPEGImages``, ``Annotations`` and ``ImageSets/Main`` in one folder."""

    kind = "VOC"

    def __init__(self, root: Path) -> None:
        self.root, self._sets = root, root / "ImageSets" / "Main"

    def splits(self) -> list[str]:
        found = sorted(path for path in self._sets.glob("*.txt"))
        # VOC's own sets of one class, such as dog_train.txt, have a second column.
        plain = [path.stem for path in found if len(text_of(path).partition("\n")[0].split()) == 1]
        if not plain:
            raise DataError(f"{self._sets}: no list of images such as train.txt in it")
        return plain

    def read(self, split: str) -> tuple[list[str], list[Annotated]]:
        keys = [line.split()[0] for line in text_of(self._sets / f"{split}.txt").splitlines() if line.strip()]
        read = [(key, self.root / "Annotations" / f"{key}.xml") for key in keys]
        objects = [voc_objects(path) for _, path in read]
        classes = sorted({name for found in objects for name, _, _ in found})
        number = {name: index for index, name in enumerate(classes)}
        return classes, [
            Annotated(
                key,
                photo_of(self.root / "JPEGImages", key),
                str(path),
                from_voc(as_boxes([_box(path, name, element) for name, _, element in found])),
                [number[name] for name, _, _ in found],
                [difficult for _, difficult, _ in found],
            )
            for (key, path), found in zip(read, objects, strict=True)
        ]


def _box(path: Path, name: str, element: ET.Element) -> list[float]:
    """[xmin, ymin, xmax, ymax] of an object, as written."""
    box = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{key}")
        try:
            box.append(float(text or ""))
        except ValueError:
            raise DataError(f"{path}: {name}: {key} is {text!r}, a number is needed") from None
    return box


def find_voc(root: Path) -> VOCFormat | None:
    """The layout of a folder, also within ``VOC2007`` or ``VOCdevkit/VOC2007``; None if it is another one."""
    if not root.is_dir():
        return None
    for below in (".", *sorted(p.name for p in root.glob("VOC20*")), "VOCdevkit"):
        folder = root / below
        for place in (folder, *sorted(folder.glob("VOC20*"))):
            if all((place / name).is_dir() for name in ("JPEGImages", "Annotations", "ImageSets/Main")):
                return VOCFormat(place)
    return None
