"""The three layouts of images with boxes: PASCAL VOC's folders, COCO's JSON, YOLO's text files."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from sppcls.data.folder import image_files
from sppcls.data.kinds import readable_extensions
from sppcls.detection.boxes import as_boxes, from_voc
from sppcls.errors import DataError

_MOST_BYTES = 1 << 24  # of one annotation; VOC's have some kilobytes


@dataclass(frozen=True)
class Annotated:
    """An image file and its objects as an annotation says, not checked yet.

    Attributes:
        name: unique in the split.
        path: the file.
        where: the annotation, for messages.
        boxes: float64 (N, 4), or of units ``relative`` to the image's width and height.
        labels: class numbers.
        difficult: (N,).
        relative: boxes are in 0..1.
    """

    name: str
    path: Path
    where: str
    boxes: np.ndarray
    labels: Sequence[int]
    difficult: Sequence[bool]
    relative: bool = False


class Format(Protocol):
    """A layout that was recognised."""

    kind: str

    def splits(self) -> list[str]:
        """Names of the splits."""

    def read(self, split: str) -> tuple[list[str], list[Annotated]]:
        """Classes and images of a split."""


def find_format(root: Path) -> Format:
    """What lies in a folder or file; raises DataError if it is no set of images with boxes."""
    found = _voc(root) or _coco(root) or _yolo(root)
    if found is None:
        raise DataError(
            f"{root}: no images with boxes; looked for JPEGImages/ with Annotations/ and ImageSets/Main/ (VOC), "
            "*.json with images, annotations and categories (COCO), and labels/*.txt beside images/ (YOLO)"
        )
    return found


def has_boxes(root: Path) -> bool:
    """Whether :func:`find_format` would find a set."""
    return (_voc(root) or _coco(root) or _yolo(root)) is not None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _photo(folder: Path, stem: str) -> Path:
    """The image file ``folder/stem.*``, or the path that VOC would give it."""
    for end in (".jpg", ".jpeg", ".png", *readable_extensions()):
        for name in (stem + end, stem + end.upper()):
            if (folder / name).is_file():
                return folder / name
    return folder / f"{stem}.jpg"


# --- VOC


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
        plain = [path.stem for path in found if len(_text(path).partition("\n")[0].split()) == 1]
        if not plain:
            raise DataError(f"{self._sets}: no list of images such as train.txt in it")
        return plain

    def read(self, split: str) -> tuple[list[str], list[Annotated]]:
        keys = [line.split()[0] for line in _text(self._sets / f"{split}.txt").splitlines() if line.strip()]
        read = [(key, self.root / "Annotations" / f"{key}.xml") for key in keys]
        objects = [voc_objects(path) for _, path in read]
        classes = sorted({name for found in objects for name, _, _ in found})
        number = {name: index for index, name in enumerate(classes)}
        return classes, [
            Annotated(
                key,
                _photo(self.root / "JPEGImages", key),
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


def _voc(root: Path) -> VOCFormat | None:
    if not root.is_dir():
        return None
    for below in (".", *sorted(p.name for p in root.glob("VOC20*")), "VOCdevkit"):
        folder = root / below
        for place in (folder, *sorted(folder.glob("VOC20*"))):
            if all((place / name).is_dir() for name in ("JPEGImages", "Annotations", "ImageSets/Main")):
                return VOCFormat(place)
    return None


# --- COCO


class COCOFormat:
    """Files of JSON by split."""

    kind = "COCO"

    def __init__(self, root: Path, files: dict[str, Path]) -> None:
        self.root, self._files = root, files

    def splits(self) -> list[str]:
        return list(self._files)

    def read(self, split: str) -> tuple[list[str], list[Annotated]]:
        path = self._files[split]
        data = _coco_json(path)
        if data is None:
            raise DataError(f"{path}: no COCO file; it has no lists images, annotations and categories")
        try:
            return self._read(path, split, data)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{path}: broken annotation ({type(error).__name__}: {error})") from None

    def _read(self, path: Path, split: str, data: dict[str, Any]) -> tuple[list[str], list[Annotated]]:
        names = {int(one["id"]): str(one["name"]) for one in data["categories"]}
        used = {int(one["category_id"]) for one in data["annotations"]}
        if used - names.keys():
            raise DataError(f"{path}: category_id {min(used - names.keys())} is not among its categories")
        # Exports of some programs begin with a category above the others, which no object has.
        above = {str(one.get("supercategory")) for one in data["categories"]}
        kept = [number for number in sorted(names) if number in used or names[number] not in above]
        number = {category: index for index, category in enumerate(kept)}
        by_image: dict[int, list[dict[str, Any]]] = {int(one["id"]): [] for one in data["images"]}
        for one in data["annotations"]:
            if int(one["image_id"]) not in by_image:
                raise DataError(f"{path}: image_id {one['image_id']} is not among its images")
            if len(one["bbox"]) != 4:
                raise DataError(
                    f"{path}: bbox {one['bbox']} of image {one['image_id']}: 4 numbers are needed"
                )
            by_image[int(one["image_id"])].append(one)
        images = []
        for image in data["images"]:
            objects = by_image[int(image["id"])]
            boxes = as_boxes([one["bbox"] for one in objects])
            boxes[:, 2:] += boxes[:, :2]
            images.append(
                Annotated(
                    str(image["file_name"]),
                    self._photo(path, split, str(image["file_name"])),
                    f"{path}: image {image['file_name']}",
                    boxes,
                    [number[int(one["category_id"])] for one in objects],
                    [bool(one.get("iscrowd", 0)) for one in objects],
                )
            )
        return [names[category] for category in kept], images

    def _photo(self, path: Path, split: str, name: str) -> Path:
        base = self.root if self.root.is_dir() else path.parent
        folders = [path.parent, base / "images", base / split, base / "images" / split, base]
        return next((f / name for f in folders if (f / name).is_file()), path.parent / name)


def _coco_json(path: Path) -> dict[str, Any] | None:
    """The JSON of a COCO file; None if it is something else."""
    try:
        data = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken JSON ({error})") from None
    parts = ("images", "annotations", "categories")
    if isinstance(data, dict) and all(isinstance(data.get(part), list) for part in parts):
        return data
    return None


def _coco(root: Path) -> COCOFormat | None:
    if root.is_file():
        if root.suffix != ".json":
            return None
        split = root.stem.rpartition("instances_")[2]
        return COCOFormat(root, {root.parent.name if root.stem.startswith("_") else split: root})
    nested = {path.parent.name: path for path in sorted(root.glob("*/_annotations*.json"))}
    if nested:
        return COCOFormat(root, nested)
    files = [*sorted(root.glob("annotations/*.json")), *sorted(root.glob("*.json"))]
    found = {path.stem.removeprefix("instances_"): path for path in files if _coco_json(path) is not None}
    return COCOFormat(root, found) if found else None


# --- YOLO


class YOLOFormat:
    """``images/`` and ``labels/`` side by side, with or without folders of splits, in either order."""

    kind = "YOLO"

    def __init__(self, root: Path, folders: dict[str, tuple[Path, Path]], classes: list[str] | None) -> None:
        self.root, self._folders, self._classes = root, folders, classes

    def splits(self) -> list[str]:
        return list(self._folders)

    def read(self, split: str) -> tuple[list[str], list[Annotated]]:
        photos, labels = self._folders[split]
        images = []
        most = -1
        for path in image_files([photos]):
            name = path.relative_to(photos).as_posix()
            where = (labels / name).with_suffix(".txt")
            # A photo without a file is one without objects.
            rows = _yolo_rows(where) if where.is_file() else []
            numbers = [int(row[0]) for row in rows]
            most = max([most, *numbers])
            if self._classes is not None and most >= len(self._classes):
                raise DataError(f"{where}: class number {most}, but {len(self._classes)} classes are named")
            boxes = as_boxes([row[1:] for row in rows])
            images.append(
                Annotated(name, path, str(where), boxes, numbers, [False] * len(rows), relative=True)
            )
        return self._classes or [f"class {number}" for number in range(most + 1)], images


def _yolo_rows(path: Path) -> list[list[float]]:
    """[class, left, top, right, bottom], relative to the image, of every line; of a polygon the box around it."""
    rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            raise DataError(f"{path}, line {number}: {line.strip()[:60]!r} is not all numbers") from None
        if not all(map(math.isfinite, values)) or values[0] < 0 or values[0] != int(values[0]):
            raise DataError(f"{path}, line {number}: {values[0]:g} is no class number")
        if len(values) == 5:
            x, y, w, h = values[1:]
            rows.append([values[0], x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        elif len(values) >= 7 and len(values) % 2:
            xs, ys = values[1::2], values[2::2]
            rows.append([values[0], min(xs), min(ys), max(xs), max(ys)])
        else:
            raise DataError(
                f"{path}, line {number}: {len(values)} numbers; class, x, y, width and height (5) are needed, "
                "or the class and 3 corners or more"
            )
    return rows


def _yolo(root: Path) -> YOLOFormat | None:
    if not root.is_dir():
        return None
    folders: dict[str, tuple[Path, Path]] = {}
    if (root / "labels").is_dir() and (root / "images").is_dir():
        below = [p.name for p in sorted((root / "images").iterdir()) if p.is_dir()]
        folders = {name: (root / "images" / name, root / "labels" / name) for name in below}
        if not folders:
            folders = {"all": (root / "images", root / "labels")}
    else:
        for place in sorted(path for path in root.iterdir() if path.is_dir()):
            if (place / "labels").is_dir() and (place / "images").is_dir():
                folders[place.name] = (place / "images", place / "labels")
    if not folders:
        return None
    return YOLOFormat(root, folders, _yolo_classes(root))


def _yolo_classes(root: Path) -> list[str] | None:
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            data = yaml.safe_load(_text(path))
        except yaml.YAMLError as error:
            raise DataError(f"{path}: broken YAML ({' '.join(str(error).split())})") from None
        names = data.get("names") if isinstance(data, dict) else None
        if isinstance(names, dict) and sorted(names) == list(range(len(names))):
            names = [names[number] for number in range(len(names))]
        if isinstance(names, list):
            return [str(name) for name in names]
    for name in ("classes.txt", "labels/classes.txt", "obj.names"):
        if (root / name).is_file():
            return [line.strip() for line in _text(root / name).splitlines() if line.strip()]
    return None
