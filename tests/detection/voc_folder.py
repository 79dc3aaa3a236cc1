"""A small VOC folder for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Object = tuple[str, Sequence[float], int]  # class, xmin, ymin, xmax, ymax from 1 and inclusive, difficult


def annotation(objects: Sequence[Object]) -> str:
    rows = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box, difficult in objects
    )
    return f"<annotation>{rows}</annotation>"


def write_voc(
    root: Path, splits: Mapping[str, Mapping[str, Sequence[Object]]], size: tuple[int, int] = (40, 60)
) -> Path:
    """Photos of (height, width) random pixels, by split and key, with their objects."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{key}\n" for key in images))
        for number, (key, objects) in enumerate(images.items()):
            pixels = np.random.default_rng([number, len(split)]).integers(0, 256, (*size, 3), np.uint8)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{key}.jpg", quality=95)
            (root / "Annotations" / f"{key}.xml").write_text(annotation(objects))
    return root
