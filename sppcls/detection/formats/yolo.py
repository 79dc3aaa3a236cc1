"""YOLO's text files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import yaml

from sppcls.data.folder import image_files
from sppcls.detection.boxes import as_boxes
from sppcls.detection.formats.annotated import Annotated, text_of
from sppcls.errors import DataError


class YOLOFormat:
    """``images/`` and ``labels/`` side by side, with or without folders of splits, in either order."""

    kind = "YOLO"

    def __init__(self, root: Path, folders: dict[str, tuple[Path, Path]], classes: list[str] | None) -> None:
        self.root, self._folders, self._classes = root, folders, classes

    def splits(self) -> list[str]:
        return list(self._folders)

    def read(self, split: str) -> tuple[list[str], list[Annotated]]:
        photos, labels = self._folders[split]
        images, used = [], set()
        for path in image_files([photos]):
            name = path.relative_to(photos).as_posix()
            where = (labels / name).with_suffix(".txt")
            # A photo without a file is one without objects.
            rows = _yolo_rows(where) if where.is_file() else []
            numbers = [int(row[0]) for row in rows]
            used.update(numbers)
            if self._classes is not None and max(used, default=0) >= len(self._classes):
                raise DataError(
                    f"{where}: class number {max(used)}, but {len(self._classes)} classes are named"
                )
            boxes = as_boxes([row[1:] for row in rows])
            images.append(
                Annotated(name, path, str(where), boxes, numbers, [False] * len(rows), relative=True)
            )
        if self._classes is not None:
            return self._classes, images
        place = {number: index for index, number in enumerate(sorted(used))}
        images = [replace(one, labels=[place[number] for number in one.labels]) for one in images]
        return [f"class {number}" for number in place], images


def _yolo_rows(path: Path) -> list[list[float]]:
    """[class, left, top, right, bottom], relative to the image, of every line; of a polygon the box around it."""
    rows = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = [math.nan]
        if not all(map(math.isfinite, values)):
            raise DataError(f"{path}, line {number}: {line.strip()[:60]!r} is not all numbers")
        if values[0] < 0 or values[0] != int(values[0]):
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


def find_yolo(root: Path) -> YOLOFormat | None:
    """The layout of a folder; None if it is another one."""
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
            data = yaml.safe_load(text_of(path))
        except yaml.YAMLError as error:
            raise DataError(f"{path}: broken YAML ({' '.join(str(error).split())})") from None
        names = data.get("names") if isinstance(data, dict) else None
        if isinstance(names, dict):
            by_number = {str(number): name for number, name in names.items()}
            missing = [number for number in range(len(names)) if str(number) not in by_number]
            if missing:
                raise DataError(
                    f"{path}: names: has no class number {missing[0]}; they count from 0 without a gap"
                )
            names = [by_number[str(number)] for number in range(len(names))]
        if isinstance(names, list):
            return [str(name) for name in names]
    for name in ("classes.txt", "labels/classes.txt", "obj.names"):
        if (root / name).is_file():
            return [line.strip() for line in text_of(root / name).splitlines() if line.strip()]
    return None
