"""At which size of the image a window is looked at (He et al. 2015, sec. 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sppcls.data.sizes import Size
from sppcls.detection.boxes import areas
from sppcls.errors import ConfigError

SCALES = {"one": (688,), "five": (480, 576, 688, 864, 1200), "five_released": (480, 576, 688, 874, 1200)}
"""Shorter sides in pixels: the paper's single one and five, and those of the authors' released code."""

SCALE_RULES = ("area", "released")
REGION = 224  # pixels, the side of the images that the paper's networks were trained on


def parse_scales(text: str) -> tuple[int, ...]:
    """Scales by name or as numbers with commas between; raises ConfigError."""
    if text in SCALES:
        return SCALES[text]
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(
            f"scales {text}: choose from {', '.join(SCALES)}, or give shorter sides in pixels such as 480,688"
        )
    return tuple(sorted({int(word) for word in words}))


def choose_scale(
    boxes: np.ndarray, size: Size, scales: Sequence[int], rule: str = "area", region: int = REGION
) -> np.ndarray:
    """Number of the scale that each window is taken from.

    Args:
        boxes: (N, 4) in the image.
        size: (height, width) of the image.
        scales: shorter sides in pixels, ascending.
        rule: ``area``: the window's area comes nearest to ``region`` squared (the paper); ``released``: the shorter
            side is nearest to the one that gives the window 208 x 208 pixels (the authors' code).
        region: side of the images that the network was trained on, in pixels.

    Returns:
        int64 (N,), places in ``scales``; the smaller of two equally near ones.
    """
    sides, shorter = np.array(scales, np.float64), min(size)
    if rule == "area":
        distance = np.abs(areas(boxes)[:, None] * (sides / shorter) ** 2 - region**2)
    else:
        wanted = np.round(region * 13 / 14 * shorter / np.sqrt(areas(boxes)))
        distance = np.abs(wanted[:, None] - sides)
    return distance.argmin(1)
