"""Where a region lies in an image, and cutting it out.

The paper resizes an image so that its shorter side is 256 and takes a 224x224 region of the *whole* resized
image (He et al. 2015, sec. 3.1), not of its central square. Here only the part of the image that shows in the
region is resized, so a strip of 1x20000 pixels never becomes one of 256x5120000.
"""

from __future__ import annotations

import math
import random

import torch
from torchvision.transforms.v2 import functional as F

from sppcls.data.sizes import Size

POSITIONS = ("center", "top_left", "top_right", "bottom_left", "bottom_right")


def default_shorter_side(region: Size) -> int:
    """The paper's proportion, 256 to 224: an eighth of the region is cut off the shorter side."""
    return round(min(region) * 256 / 224)


def resized_size(height: int, width: int, shorter_side: int, region: Size) -> Size:
    """Size of the whole image with a shorter side of ``shorter_side``, or of more if the region needs it."""
    scale = max(shorter_side / min(height, width), region[0] / height, region[1] / width)
    return max(region[0], round(height * scale)), max(region[1], round(width * scale))


def reduced_size(height: int, width: int, shorter_side: int, region: Size) -> Size:
    """:func:`resized_size` where that is smaller than the image, else the image's own size."""
    whole = resized_size(height, width, shorter_side, region)
    return whole if whole[0] <= height and whole[1] <= width else (height, width)


def offset_at(position: str, whole: Size, region: Size) -> tuple[int, int]:
    """(top, left) of a region at one of ``POSITIONS`` of the whole image."""
    down, right = whole[0] - region[0], whole[1] - region[1]
    if position == "center":
        return down // 2, right // 2
    return (down if position.startswith("bottom") else 0), (right if position.endswith("right") else 0)


def resize(image: torch.Tensor, size: Size) -> torch.Tensor:
    """Resize uint8 (3, H, W), antialiased, to uint8 (3, *size).

    Decoded images have their channels innermost. torchvision keeps that layout, in which resizing takes two thirds of
    the time and collating a tenth, for images without gaps between their rows only: a part of an image is copied first.
    """
    if image.stride(0) == 1:
        image = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return F.resize(image, list(size), antialias=True)


def cut(image: torch.Tensor, whole: Size, top: int, left: int, region: Size) -> torch.Tensor:
    """``resize(image, whole)[:, top:top + h, left:left + w]`` without resizing what lies outside.

    The part that is resized begins and ends at source pixels that fall as nearly as possible on whole pixels
    of the resized image. So the result differs from the expression above by a shift of half a pixel at most,
    mostly far less, and by none where the region reaches the image's border or nothing is resized.

    Args:
        image: uint8 (3, H, W).
        whole: size that the whole image would be resized to.
        top, left: corner of the region in the resized image, in pixels.
        region: (h, w), inside ``whole``.

    Returns:
        uint8 (3, h, w).
    """
    y0, y1, rows, skip_y = _source_span(image.shape[-2], whole[0], top, region[0])
    x0, x1, columns, skip_x = _source_span(image.shape[-1], whole[1], left, region[1])
    part = resize(image[:, y0:y1, x0:x1], (rows, columns))
    return part[:, skip_y : skip_y + region[0], skip_x : skip_x + region[1]]


def _source_span(source: int, whole: int, begin: int, length: int) -> tuple[int, int, int, int]:
    """One axis of :func:`cut`: source pixels [first, last), their length resized, where to begin in that."""
    scale = source / whole
    margin = math.ceil(max(1.0, scale))  # reach of the interpolation filter, so that its neighbours are there

    def misfit(pixel: int) -> int:
        return round(16 * abs(pixel / scale - round(pixel / scale)))

    # The nearest source pixel, of 16, that falls best on an integer of the resized image.
    first_max = max(0, math.floor(begin * scale) - margin)
    first = min(range(first_max, max(0, first_max - 16) - 1, -1), key=misfit)
    last_min = min(source, math.ceil((begin + length) * scale) + margin)
    last = min(range(last_min, min(source, last_min + 16) + 1), key=misfit)
    origin = round(first / scale)
    return first, last, round(last / scale) - origin, begin - origin


def box_in_reduced(box: tuple[int, int, int, int], size: Size, reduced: Size) -> tuple[int, int, int, int]:
    """A box (top, left, height, width) of an image of ``size`` in the same image reduced, to the nearest pixel."""
    top, bottom = (round(y * reduced[0] / size[0]) for y in (box[0], box[0] + box[2]))
    left, right = (round(x * reduced[1] / size[1]) for x in (box[1], box[1] + box[3]))
    top, left = min(top, reduced[0] - 1), min(left, reduced[1] - 1)
    return top, left, max(1, bottom - top), max(1, right - left)


def random_resized_box(
    height: int,
    width: int,
    region: Size,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: random.Random,
) -> tuple[int, int, int, int]:
    """Box (top, left, height, width) of a random share ``scale`` of the image's area (Szegedy et al. 2015).

    ``ratio`` bounds the box's aspect relative to the region's, evenly in its logarithm. Falls back to the
    largest central box within ``ratio`` when ten draws do not fit.
    """
    aspect = region[1] / region[0]
    for _ in range(10):
        pixels = height * width * rng.uniform(*scale)
        shape = aspect * math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        box_h, box_w = round(math.sqrt(pixels / shape)), round(math.sqrt(pixels * shape))
        if 0 < box_h <= height and 0 < box_w <= width:
            return rng.randint(0, height - box_h), rng.randint(0, width - box_w), box_h, box_w
    shape = min(max(width / height, aspect * ratio[0]), aspect * ratio[1])
    box_h = max(1, min(height, round(width / shape)))
    box_w = max(1, min(width, round(height * shape)))
    return (height - box_h) // 2, (width - box_w) // 2, box_h, box_w
