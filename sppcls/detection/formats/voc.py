"""PASCAL VOC's folders."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from sppcls.detection.boxes import as_boxes, from_voc
from sppcls.detection.formats.annotated import Annotated, photo_of, text_of
from sppcls.errors import DataError

_MOST_BYTES = 1 << 24  # of one annotation; VOC's have some kilobytes


class _NoDoctype(ET.TreeBuilder):
    """A document type is where entities are defined, which may be of any size or read any file."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type, and with it perhaps entities, which are not read")


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
                from_voc(as_boxes([box for _, box, _ in found])),
                [number[name] for name, _, _ in found],
                [difficult for _, _, difficult in found],
            )
            for (key, path), found in zip(read, objects, strict=True)
        ]


def voc_objects(path: Path) -> list[tuple[str, list[float], bool]]:
    """(class, [xmin, ymin, xmax, ymax] as written, difficult) of each object of an annotation."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes are too many for an annotation")
        tree = ET.fromstring(path.read_bytes(), ET.XMLParser(target=_NoDoctype()))
    except OSError as error:
        raise DataError(f"{path}: annotation cannot be read ({error.strerror})") from None
    except (ET.ParseError, ValueError, LookupError) as error:  # the latter two: encodings, a document type
        raise DataError(f"{path}: broken annotation ({error})") from None
    found = []
    for one in tree.findall("object"):
        name = (one.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{path}: broken annotation (an object without a name)")
        texts = {key: one.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")}
        try:
            box = [float(text or "") for text in texts.values()]
        except ValueError:
            wrong = next(key for key, text in texts.items() if not _is_number(text))
            raise DataError(f"{path}: {name}: {wrong} is {texts[wrong]!r}, a number is needed") from None
        found.append((name, box, (one.findtext("difficult") or "0").strip() not in ("", "0")))
    return found


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


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
