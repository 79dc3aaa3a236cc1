"""Generated scenes with boxes, for a first try without photos: every scene a function of (seed, split, index).

One to four of the shapes of :mod:`sppcls.data.shapes`, of any texture, stand apart on a background with clutter. The four
shapes are the classes, and a box is that of the very pixels drawn.
"""

from __future__ import annotations

import math
import random

import numpy as np
import torch

from sppcls.data.seeding import derive
from sppcls.data.shapes import SHAPES, TEXTURES, add_noise, draw_background, draw_object
from sppcls.detection.boxes import as_boxes
from sppcls.detection.truth import DetectionSet, Truth
from sppcls.errors import DataError

_COUNTS = {"train": 300, "val": 100}


def scenes(split: str, count: int = 0, seed: int = 0) -> DetectionSet:
    """``count`` scenes of ``train`` or ``val`` (0: 300 and 100), which never share one."""
    if split not in _COUNTS:
        raise DataError(f"shapes: no split {split!r}; choose from {', '.join(_COUNTS)}")
    source = _Scenes(split, seed)
    drawn = [source.scene(index) for index in range(count or _COUNTS[split])]
    return DetectionSet(
        name="shapes (generated scenes)",
        split=split,
        classes=SHAPES,
        names=tuple(f"{split}_{index:05d}" for index in range(len(drawn))),
        sizes=tuple((pixels.shape[0], pixels.shape[1]) for pixels, _ in drawn),
        truths=tuple(truth for _, truth in drawn),
        image=source,
        digest=source.digest,
    )


class _Scenes:
    def __init__(self, split: str, seed: int) -> None:
        self.split, self.seed = split, seed

    def __call__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.scene(index)[0]).permute(2, 0, 1)

    def digest(self, index: int) -> str:
        return f"scene1-{self.seed}-{self.split}-{index}"

    def scene(self, index: int) -> tuple[np.ndarray, Truth]:
        """uint8 (H, W, 3), shorter side 240 to 300, and its objects."""
        rng = random.Random(derive("scenes", self.seed, self.split, index))
        short = rng.randint(240, 300)
        aspect = math.exp(rng.uniform(math.log(0.6), math.log(1.7)))
        width, height = (round(short * aspect), short) if aspect > 1 else (short, round(short / aspect))
        canvas = draw_background(height, width, rng)
        placed: list[tuple[float, float, float]] = []
        boxes, labels = [], []
        for _ in range(rng.randint(1, 4)):
            radius = rng.uniform(0.11, 0.24) * short
            x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
            if any(math.hypot(x - u, y - v) < 1.1 * (radius + r) for u, v, r in placed):
                continue
            placed.append((x, y, radius))
            label = rng.randrange(len(SHAPES))
            boxes.append(draw_object(canvas, SHAPES[label], rng.choice(TEXTURES), x, y, radius, rng))
            labels.append(label)
        truth = Truth(as_boxes(boxes), np.array(labels, np.int64), np.zeros(len(labels), bool))
        return add_noise(canvas, rng), truth
