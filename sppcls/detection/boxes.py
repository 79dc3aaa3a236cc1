"""Boxes, in one convention: float [left, top, right, bottom), pixels from 0, right and bottom one past the last.

VOC counts pixels from 1 and includes the last one; its boxes are converted where they are read and written. The plain
areas of converted boxes are then the ``+ 1`` areas of VOC's own code.
"""

from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import nms as torchvision_nms


def as_boxes(values: object) -> np.ndarray:
    """float64 (N, 4) of anything that numpy can make boxes of; an empty list gives (0, 4)."""
    boxes = np.asarray(values, np.float64)
    return boxes.reshape(0, 4) if boxes.size == 0 else boxes.reshape(-1, 4)


def from_voc(boxes: np.ndarray) -> np.ndarray:
    """VOC's [xmin, ymin, xmax, ymax], from 1 and inclusive, (N, 4), as boxes of this package."""
    return as_boxes(boxes) - np.array([1.0, 1.0, 0.0, 0.0])


def to_voc(boxes: np.ndarray) -> np.ndarray:
    """The reverse of :func:`from_voc`."""
    return as_boxes(boxes) + np.array([1.0, 1.0, 0.0, 0.0])


def areas(boxes: np.ndarray) -> np.ndarray:
    """Square pixels (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of every box (N, 4) with every other one (M, 4): (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(high - low, 0, None)
    common = sides[..., 0] * sides[..., 1]
    union = areas(first)[:, None] + areas(second)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes cut to an image of (height, width)."""
    height, width = size
    return np.clip(boxes, 0, [width, height, width, height])


def fault(boxes: np.ndarray, size: tuple[int, int]) -> str | None:
    """The first box (N, 4) that no image of (height, width) can have, and why; None if all are good.

    Rounding may leave a box overshooting its image by a pixel.
    """
    height, width = size
    inside = clip(boxes, size)
    leaves = (np.abs(boxes - inside) > 1).any(1) | (inside[:, :2] >= inside[:, 2:]).any(1)
    for why, bad in (
        ("is not finite", ~np.isfinite(boxes).all(1)),
        ("is empty", (boxes[:, :2] >= boxes[:, 2:]).any(1)),
        (f"leaves its {width}x{height} image", leaves),
    ):
        if bad.any():
            return f"[{', '.join(f'{v:g}' for v in boxes[bad][0])}] (left, top, right, bottom) {why}"
    return None


def flip(boxes: np.ndarray, width: float) -> np.ndarray:
    """Boxes of an image of that width after it is mirrored left to right."""
    left, top, right, bottom = boxes.T
    return np.stack([width - right, top, width - left, bottom], 1)


def nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Non-maximum suppression: numbers of the boxes kept, the highest score first.

    A box goes if it overlaps a kept one by *more* than ``threshold`` (IoU). Of equal scores the first box wins.
    """
    kept = torchvision_nms(
        torch.from_numpy(np.ascontiguousarray(boxes, np.float64)),
        torch.from_numpy(np.ascontiguousarray(scores, np.float64)),
        threshold,
    )
    return kept.numpy()
