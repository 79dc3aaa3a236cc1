"""COCO's JSON."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from sppcls.detection.boxes import as_boxes
from sppcls.detection.formats.annotated import Annotated, text_of
from sppcls.errors import DataError


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
        except KeyError as error:
            raise DataError(f"{path}: broken annotation (an entry lacks {error})") from None
        except (TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{path}: broken annotation ({type(error).__name__}: {error})") from None

    def _read(self, path: Path, split: str, data: dict[str, Any]) -> tuple[list[str], list[Annotated]]:
        for part in ("images", "categories"):
            if twice := [
                number for number, n in Counter(_id(one["id"]) for one in data[part]).items() if n > 1
            ]:
                raise DataError(f"{path}: id {twice[0]} is that of two {part}")
        names = {_id(one["id"]): str(one["name"]) for one in data["categories"]}
        used = {_id(one["category_id"]) for one in data["annotations"]}
        if unknown := used - names.keys():
            raise DataError(f"{path}: category_id {min(unknown, key=str)} is not among its categories")
        # Exports of some programs begin with a category above the others, which no object has.
        above = {str(one.get("supercategory")) for one in data["categories"]}
        in_order = sorted(names, key=lambda number: (isinstance(number, str), number))
        kept = [number for number in in_order if number in used or names[number] not in above]
        number = {category: index for index, category in enumerate(kept)}
        by_image: dict[int | str, list[dict[str, Any]]] = {_id(one["id"]): [] for one in data["images"]}
        for one in data["annotations"]:
            if _id(one["image_id"]) not in by_image:
                raise DataError(f"{path}: image_id {one['image_id']} is not among its images")
            box = one["bbox"]
            if not isinstance(box, list) or [type(value) in (int, float) for value in box] != [True] * 4:
                raise DataError(f"{path}: bbox {box} of image {one['image_id']}: 4 numbers are needed")
            by_image[_id(one["image_id"])].append(one)
        images = []
        for image in data["images"]:
            objects = by_image[_id(image["id"])]
            boxes = as_boxes([one["bbox"] for one in objects])
            boxes[:, 2:] += boxes[:, :2]
            name = str(image["file_name"]).replace("\\", "/")  # as programs on Windows write it
            labels = [number[_id(one["category_id"])] for one in objects]
            crowds = [bool(one.get("iscrowd", 0)) for one in objects]
            photo = self._photo(path, split, name)
            images.append(Annotated(name, photo, f"{path}: image {name}", boxes, labels, crowds))
        return [names[category] for category in kept], images

    def _photo(self, path: Path, split: str, name: str) -> Path:
        bases = [self.root] if self.root.is_dir() else [path.parent, path.parent.parent]  # of annotations/
        below = ("images", split, f"images/{split}", ".")
        places = [path.parent / name, *(base / folder / name for base in bases for folder in below)]
        return next((place for place in places if place.is_file()), places[0])


def _id(value: Any) -> int | str:
    """An id, which some programs write as text, or as 7.0."""
    try:
        return int(value) if int(value) == float(value) else str(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)


def _coco_json(path: Path) -> dict[str, Any] | None:
    """The JSON of a COCO file; None if it is something else."""
    try:
        data = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: broken JSON ({error})") from None
    parts = ("images", "annotations", "categories")
    if isinstance(data, dict) and all(isinstance(data.get(part), list) for part in parts):
        return data
    return None


def find_coco(root: Path) -> COCOFormat | None:
    """The layout of a file or folder; None if it is another one."""
    if root.is_file():
        if root.suffix.lower() != ".json":
            return None
        split = root.stem.rpartition("instances_")[2]
        return COCOFormat(root, {root.parent.name if root.stem.startswith("_") else split: root})
    nested = {path.parent.name: path for path in sorted(root.glob("*/_annotations*.json"))}
    if nested:
        return COCOFormat(root, nested)
    files = [*sorted(root.glob("annotations/*.json")), *sorted(root.glob("*.json"))]
    # COCO's captions and keypoints of the same images lie beside these, and take as long to read.
    files = [path for path in files if path.stem.startswith("instances_")] or files
    found = {path.stem.removeprefix("instances_"): path for path in files if _coco_json(path) is not None}
    return COCOFormat(root, found) if found else None
