"""Generated images for a first run: no files, every image a function of (seed, split, index).

A class is one of 4 shapes filled with one of 5 textures. Scale, place, rotation, colours, background, clutter
and the size and aspect of the image vary, so that neither colour nor any single pixel tells the class.
"""

from __future__ import annotations

import functools
import math
import random

import numpy as np
import torch
from PIL import Image, ImageDraw

from sppcls.data.seeding import derive
from sppcls.errors import ConfigError

SHAPES = ("disc", "square", "triangle", "cross")
TEXTURES = ("plain", "rows", "columns", "checks", "dots")
CLASSES = [f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES]

_OUTLINES = {
    "disc": [(math.cos(math.tau * i / 40), math.sin(math.tau * i / 40)) for i in range(40)],
    "triangle": [(1.15 * math.sin(math.tau * i / 3), -1.15 * math.cos(math.tau * i / 3)) for i in range(3)],
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "cross": [
        (0.35, 0.35), (0.35, 1.05), (-0.35, 1.05), (-0.35, 0.35), (-1.05, 0.35), (-1.05, -0.35),
        (-0.35, -0.35), (-0.35, -1.05), (0.35, -1.05), (0.35, -0.35), (1.05, -0.35), (1.05, 0.35),
    ],
}  # fmt: skip


class ShapesSource:
    """``count`` generated images, balanced over the 20 classes.

    Args:
        split: ``train`` or ``val``; the two never share an image.
        count: number of images, at least one per class.
        seed: of the data set, any integer.
    """

    def __init__(self, split: str, count: int, seed: int = 0) -> None:
        if count < len(CLASSES):
            raise ConfigError(
                f"data.num_{split}={count}: at least {len(CLASSES)} is needed, one image per class"
            )
        self.classes = list(CLASSES)
        self.targets = [index % len(CLASSES) for index in range(count)]
        self.split, self.seed = split, seed

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        return f"{self.split}/{index:05d} {self.classes[self.targets[index]]}"

    def image(self, index: int) -> torch.Tensor:
        """uint8 (3, H, W), shorter side 200 to 300, aspect (W/H) 0.6 to 1.7."""
        drawn = _drawn(self.seed, self.split, index, self.targets[index])
        return torch.tensor(drawn).permute(2, 0, 1)


# 25 MB: a small set is drawn once for all epochs, sizes and runs of a process.
@functools.lru_cache(128, typed=True)
def _drawn(seed: int, split: str, index: int, target: int) -> np.ndarray:
    shape, texture = divmod(target, len(TEXTURES))
    return _draw(SHAPES[shape], TEXTURES[texture], random.Random(derive("shapes", seed, split, index)))


def _draw(shape: str, texture: str, rng: random.Random) -> np.ndarray:
    """uint8 (H, W, 3)."""
    short = rng.randint(200, 300)
    aspect = math.exp(rng.uniform(math.log(0.6), math.log(1.7)))
    width, height = (round(short * aspect), short) if aspect > 1 else (short, round(short / aspect))
    canvas = draw_background(height, width, rng)
    _object(canvas, shape, texture, rng)
    return add_noise(canvas, rng)


def draw_background(height: int, width: int, rng: random.Random) -> np.ndarray:
    """A gradient with some clutter: int16 (H, W, 3), to draw objects into."""
    image = Image.fromarray(_background(height, width, rng))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(2, 6)):
        _clutter(pen, height, width, rng)
    return np.asarray(image).astype(np.int16)


def add_noise(canvas: np.ndarray, rng: random.Random) -> np.ndarray:
    """A drawing, of at most 520 pixels a side, as uint8 (H, W, 3) with noise on it."""
    height, width = canvas.shape[:2]
    top, left = rng.randint(0, 200), rng.randint(0, 200)
    canvas += _noise()[top : top + height, left : left + width] * rng.randint(4, 12) >> 4
    return np.clip(canvas, 0, 255).astype(np.uint8)


@functools.cache
def _noise() -> np.ndarray:
    """int16 (720, 720, 3), about N(0, 16), from which every image takes a piece."""
    return np.random.default_rng(0).normal(0, 16, (720, 720, 3)).astype(np.int16)


def _colour(low: int, high: int, rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _two_colours(rng: random.Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    while True:
        first, second = _colour(110, 250, rng), _colour(20, 200, rng)
        if sum(abs(a - b) for a, b in zip(first, second, strict=True)) >= 180:
            return first, second


def _background(height: int, width: int, rng: random.Random) -> np.ndarray:
    """A linear gradient between two colours: uint8 (H, W, 3)."""
    start, end = (np.array(_colour(10, 120, rng), np.float32) for _ in range(2))
    angle = rng.uniform(0, math.tau)
    ramp = (
        np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * math.sin(angle)
        + np.linspace(-0.5, 0.5, width, dtype=np.float32) * math.cos(angle)
    ) * 0.7 + 0.5
    # A channel at a time: an innermost loop of three is slow.
    gradient = np.empty((height, width, 3), np.uint8)
    for channel, (first, change) in enumerate(zip(start, end - start, strict=True)):
        gradient[..., channel] = first + ramp * change
    return gradient


def _clutter(pen: ImageDraw.ImageDraw, height: int, width: int, rng: random.Random) -> None:
    """A line, or a disc smaller than any object."""
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    if rng.random() < 0.5:
        end = (x + rng.uniform(-0.6, 0.6) * width, y + rng.uniform(-0.6, 0.6) * height)
        pen.line([(x, y), end], fill=_colour(10, 245, rng), width=rng.randint(2, 7))
        return
    radius = rng.uniform(0.01, 0.05) * min(height, width)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(10, 245, rng))


def _outline(shape: str, x: float, y: float, radius: float, angle: float) -> list[tuple[float, float]]:
    cos, sin = radius * math.cos(angle), radius * math.sin(angle)
    return [(x + cos * u - sin * v, y + sin * u + cos * v) for u, v in _OUTLINES[shape]]


def _object(canvas: np.ndarray, shape: str, texture: str, rng: random.Random) -> None:
    """Draw the image's one object into int16 (H, W, 3)."""
    height, width = canvas.shape[:2]
    short = min(height, width)
    radius = rng.uniform(0.25, 0.45) * short
    # Near enough to the middle that a corner region of the paper's geometry still shows half of the object.
    x = width / 2 + rng.uniform(-0.2, 0.2) * short
    y = height / 2 + rng.uniform(-0.2, 0.2) * short
    draw_object(canvas, shape, texture, x, y, radius, rng)


def draw_object(
    canvas: np.ndarray, shape: str, texture: str, x: float, y: float, radius: float, rng: random.Random
) -> tuple[int, int, int, int]:
    """Draw a shape around (x, y) into int16 (H, W, 3); the box of its pixels: left, top, right, bottom, the latter two
    one past the last."""
    height, width = canvas.shape[:2]
    reach = 1.25 * radius
    x0, x1 = max(0, int(x - reach)), min(width, int(x + reach) + 1)
    y0, y1 = max(0, int(y - reach)), min(height, int(y + reach) + 1)
    mask_image = Image.new("L", (x1 - x0, y1 - y0))
    outline = _outline(shape, x - x0, y - y0, radius, rng.uniform(-0.3, 0.3))
    ImageDraw.Draw(mask_image).polygon(outline, fill=1)
    mask = np.asarray(mask_image, dtype=bool)

    bright, dark = _two_colours(rng)
    part = canvas[y0:y1, x0:x1]
    box = _box_of(mask, x0, y0)
    if texture == "plain":
        _fill(part, mask, bright)
        return box
    pattern = _pattern(texture, y1 - y0, x1 - x0, rng)
    _fill(part, mask & pattern, bright)
    _fill(part, mask & ~pattern, dark)
    return box


def _box_of(mask: np.ndarray, left: int, top: int) -> tuple[int, int, int, int]:
    """Where a mask, whose corner is at (left, top), is true."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def _fill(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    for channel, value in enumerate(colour):
        np.copyto(canvas[..., channel], value, where=mask)


def _pattern(texture: str, height: int, width: int, rng: random.Random) -> np.ndarray:
    """Boolean (height, width)."""
    angle, pitch = rng.uniform(-0.3, 0.3), math.tau / rng.uniform(16, 28)
    rows = np.arange(height, dtype=np.float32)[:, None] * pitch
    columns = np.arange(width, dtype=np.float32) * pitch
    cos, sin = math.cos(angle), math.sin(angle)
    u = np.sin(cos * columns + sin * rows + rng.uniform(0, math.tau))
    if texture == "columns":
        return u > 0
    v = np.sin(cos * rows - sin * columns + rng.uniform(0, math.tau))
    if texture == "rows":
        return v > 0
    return u * v > 0 if texture == "checks" else u + v > 0.6
