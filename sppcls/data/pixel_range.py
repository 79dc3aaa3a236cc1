"""How images of more than 8 bits become 8 bits: which values are black and white.

X-rays, microscopes and depth cameras write 10 or 12 bits into files of 16, or floating-point values. What the file
could hold says little about what it does hold, so ``data.pixel_range`` does; a checkpoint keeps it for later use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from sppcls.errors import ConfigError

PixelRange = Literal["full", "image"] | tuple[float, float]
"""``full``: black is 0 and white is the largest value of the file's bit depth; ``image``: the lowest and the highest
value of each image; or (black, white), the same for all images."""

_ROWS = 512  # at once, so that a large image needs little more memory than its values and its 8 bits


def as_pixel_range(value: object) -> PixelRange:
    """Check a value of a config or checkpoint.

    Raises:
        ConfigError: it is no range; says what it may be.
    """
    if value in ("full", "image"):
        return cast(PixelRange, value)
    if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value)):
        low, high = float(value[0]), float(value[1])
        if low < high:
            return low, high
    raise ConfigError(f"data.pixel_range={value}: must be full, image or [black, white], such as [0,4095]")


def trained_pixel_range(model_info: Mapping[str, Any]) -> PixelRange:
    """The range that a network was trained with; checkpoints from before there was a choice had ``full``."""
    return as_pixel_range(model_info.get("config", {}).get("data", {}).get("pixel_range", "full"))


def to_8_bits(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint8]:
    """Linear scaling: ``low`` becomes 0, ``high`` 255, and what is outside is clipped; NaN becomes 0.

    Args:
        values: (H, W), of any number type.
        low, high: finite, ``low < high``.

    Returns:
        uint8 (H, W), rounded to the nearest.
    """
    result = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _ROWS):
        rows = values[top : top + _ROWS].astype(np.float64)
        np.nan_to_num(rows, copy=False, nan=low, posinf=high, neginf=low)
        np.clip(rows, low, high, out=rows)
        result[top : top + _ROWS] = np.rint((rows - low) * (255 / (high - low)))
    return result


def own_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Lowest and highest finite value of an image; one above the other even where all are equal."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else math.nextafter(low, math.inf)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300
