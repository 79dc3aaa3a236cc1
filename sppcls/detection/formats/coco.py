"""COCO's JSON."""

from __future__ import annotations

import json
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
