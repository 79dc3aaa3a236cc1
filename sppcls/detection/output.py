"""Detections as text: JSON, CSV, VOC's ``comp4`` files, COCO's results; and as boxes on photos."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from sppcls._util.console import one_line, printable
from sppcls._util.files import replacing
from sppcls.detection.ap import Detections
from sppcls.detection.boxes import to_voc
from sppcls.detection.predict import Found

FORMATS = ("table", "json", "csv", "coco", "voc")
_COLOURS = [
    "#e6194b",
    "#3cb44b",
    "#4363d8",
    "#f58231",
    "#911eb4",
    "#008080",
    "#9a6324",
    "#800000",
    "#808000",
    "#000075",
]


def rows(photo: Found) -> Iterator[tuple[int, float, list[float]]]:
    """(class number, score, [left, top, right, bottom]) of each detection, in seven digits and hundredths of a pixel."""
    found = photo.detections or Detections.none()
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        yield int(label), float(f"{score:.7g}"), [round(float(value), 2) for value in box]


def as_json(photos: Iterable[Found], classes: Sequence[str]) -> Iterator[str]:
    """An array of ``{"path", "width", "height", "detections": [{"class", "score", "box"}], "error"}``."""
    separator = "[\n"
    for photo in photos:
        height, width = photo.size if photo.error is None else (None, None)
        listed = [{"class": classes[label], "score": score, "box": box} for label, score, box in rows(photo)]
        one = {"path": printable(photo.path), "width": width, "height": height, "detections": listed}
        yield separator + json.dumps({**one, "error": photo.error})
        separator = ",\n"
    yield "\n]\n" if separator == ",\n" else "[]\n"


def as_csv(photos: Iterable[Found], classes: Sequence[str]) -> Iterator[str]:
    """Rows of ``path, class, score, left, top, right, bottom, error``; a photo without a detection has none."""

    def line(cells: Sequence[object]) -> str:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(cells)
        return text.getvalue()

    yield line(["path", "class", "score", "left", "top", "right", "bottom", "error"])
    for photo in photos:
        path = printable(photo.path)
        if photo.error is not None:
            yield line([path, "", "", "", "", "", "", photo.error])
        for label, score, box in rows(photo):
            yield line([path, classes[label], score, *box, ""])


def as_table(photos: Iterable[Found], classes: Sequence[str]) -> Iterator[str]:
    """A line for each detection."""
    width = max(map(len, classes))
    for photo in photos:
        path = one_line(photo.path)
        if photo.error is not None:
            yield f"{path}  not searched\n"
            continue
        listed = list(rows(photo))
        if not listed:
            yield f"{path}  nothing\n"
        for label, score, box in listed:
            corners = " ".join(f"{value:7.1f}" for value in box)
            yield f"{path}  {one_line(classes[label]):<{width}}  {score:7.3f}  {corners}\n"


def as_coco(photos: Iterable[Found], classes: Sequence[str]) -> Iterator[str]:
    """COCO's results: a list of ``image_id`` (the number in the file's name, or the name), ``category_id`` (from 1, in the
    order of the detector's classes), ``bbox`` (left, top, width, height) and ``score``."""
    listed = []
    for photo in photos:
        stem = photo.path.stem
        image = int(stem) if stem.isascii() and stem.isdecimal() else printable(photo.path.name)
        for label, score, (left, top, right, bottom) in rows(photo):
            box = [left, top, round(right - left, 2), round(bottom - top, 2)]
            listed.append({"image_id": image, "category_id": label + 1, "bbox": box, "score": score})
    yield json.dumps(listed) + "\n"


def voc_name(class_name: str) -> str:
    """The name of VOC's file of a class."""
    return f"comp4_det_{class_name.replace('/', '_')}.txt"


def write_voc(folder: Path, photos: Iterable[tuple[str, Detections]], classes: Sequence[str]) -> list[Path]:
    """VOC's files ``comp4_det_CLASS.txt`` in a folder: name, score, and the box from 1 with its last pixels inside."""
    lines: dict[str, list[str]] = {name: [] for name in classes}
    for stem, found in photos:
        boxes = to_voc(found.boxes)
        for box, label, score in zip(boxes, found.labels, found.scores, strict=True):
            corners = " ".join(f"{value:.6f}" for value in box)
            lines[classes[label]].append(f"{stem} {score:.6f} {corners}\n")
    paths = []
    for name, text in lines.items():
        path = folder / voc_name(name)
        with replacing(path, "--out") as temporary:
            temporary.write_text("".join(text), encoding="utf-8")
        paths.append(path)
    return paths


def draw(image: torch.Tensor, found: Detections, classes: Sequence[str]) -> Image.Image:
    """Boxes with class and score on uint8 (3, H, W), the surest on top."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    pen = ImageDraw.Draw(picture)
    side = max(picture.size)
    width, font = max(1, side // 250), ImageFont.load_default(max(10, side // 40))
    for place in np.argsort(found.scores, kind="stable"):
        left, top, right, bottom = map(float, found.boxes[place])
        colour = _COLOURS[int(found.labels[place]) % len(_COLOURS)]
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)
        text = f"{one_line(classes[int(found.labels[place])])} {found.scores[place]:.2f}"
        corner = pen.textbbox((left, top), text, font=font)
        y = max(0.0, top - (corner[3] - top) - 2)
        pen.rectangle((left, y, corner[2] + 2, y + corner[3] - top + 2), fill=colour)
        pen.text((left + 1, y), text, fill="white", font=font)
    return picture
