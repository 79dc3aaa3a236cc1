"""Box regression: from a window's pooled vector to the box of its object (He et al. 2015, sec. 4.1; R-CNN's appendix C).

One ridge regression for each class predicts how far to move the centre, in sides of the window, and the logarithm of how
much to stretch the sides. Learned from windows that overlap an object by more than 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sppcls.detection.boxes import clip
from sppcls.detection.pooled import POOLED
from sppcls.detection.progress import Wrap, unseen
from sppcls.detection.window_set import WindowSet

_LEAST_IOU = 0.5
_MOST_WINDOWS = 8000  # of a class; VOC's persons have ten times as many, and no more memory
_STEEPEST = 4.0  # of a logarithm: no side becomes 55 times as long


@dataclass(frozen=True)
class BoxRegression:
    """Linear in pooled vectors.

    Attributes:
        weight: float32 (classes, 4, D).
        bias: float32 (classes, 4).
    """

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, label: int, rows: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Windows (N, 4) of an image of (height, width), with pooled vectors (N, D), moved for a class and clipped."""
        return clip(apply_offsets(boxes, rows @ self.weight[label].T + self.bias[label]), size)


def offsets(boxes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How windows (N, 4) must move to become ``targets`` (N, 4): dx, dy over the sides, log dw, log dh."""
    sides, wanted = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    move = (targets[:, :2] + wanted / 2 - boxes[:, :2] - sides / 2) / sides
    return np.hstack([move, np.log(wanted / sides)])


def apply_offsets(boxes: Any, moves: Any, library: Any = np) -> Any:
    """The reverse of :func:`offsets`, for arrays (..., 4), or with ``library=torch`` for tensors."""
    sides = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + sides / 2 + moves[..., :2] * sides
    half = sides * library.exp(library.clip(moves[..., 2:], -_STEEPEST, _STEEPEST)) / 2
    return library.concatenate([centre - half, centre + half], -1)


def ridge(rows: np.ndarray, targets: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression whose bias is the weight of one more feature, 1, and penalised like the others.

    Targets are centred first. R-CNN whitens them, too, and takes that back afterwards: as the solution is linear in the targets,
    it is the same. Of fewer rows than features, the dual problem is solved, which has the same answer.

    Args:
        rows: (n, D).
        targets: (n, T).
        strength: lambda.

    Returns:
        float32 weight (T, D) and bias (T,) for the targets as given.
    """
    x = np.hstack([rows, np.ones((len(rows), 1), rows.dtype)])
    mean = targets.mean(0)
    centred = targets - mean
    if x.shape[0] <= x.shape[1]:
        gram = (x @ x.T).astype(np.float64)
        gram[np.diag_indices_from(gram)] += strength
        solution = x.T.astype(np.float64) @ np.linalg.solve(gram, centred)
    else:
        gram = (x.T @ x).astype(np.float64)
        gram[np.diag_indices_from(gram)] += strength
        solution = np.linalg.solve(gram, x.T.astype(np.float64) @ centred)
    return solution[:-1].T.astype(np.float32), (solution[-1] + mean).astype(np.float32)


def train_regression(
    windows: WindowSet, factor: float, strength: float, progress: Wrap = unseen
) -> BoxRegression:
    """A regression for each class on pooled vectors times ``factor``.

    A class that no window overlaps enough, which is not even its own objects, moves nothing.
    """
    count = len(windows.images.classes)
    chosen = _choose(windows, count)
    rows: list[list[np.ndarray]] = [[] for _ in range(count)]
    targets: list[list[np.ndarray]] = [[] for _ in range(count)]
    for index in progress(range(len(windows)), len(windows)):
        places, labels = chosen[chosen[:, 0] == index, 1:].T
        if not len(places):
            continue
        features = windows.features(index, POOLED, windows.places[index][places])
        objects = windows.images.truths[index].boxes[windows.best_object(index)[1][places]]
        moves = offsets(windows.boxes[index][places], objects)
        for label in np.unique(labels):
            rows[label].append(features[labels == label] * np.float32(factor))
            targets[label].append(moves[labels == label])
    width = windows.regions.pooled_length
    weight, bias = np.zeros((count, 4, width), np.float32), np.zeros((count, 4), np.float32)
    for label in range(count):
        if rows[label]:
            x, y = np.concatenate(rows[label]), np.concatenate(targets[label])
            rows[label].clear()
            weight[label], bias[label] = ridge(x, y, strength)
    return BoxRegression(weight * np.float32(factor), bias)


def _choose(windows: WindowSet, count: int) -> np.ndarray:
    """Windows that are learned from: rows of (image, window, class); at most so many of a class, drawn at random."""
    found = []
    for index, truth in enumerate(windows.images.truths):
        best, number = windows.best_object(index)
        places = np.flatnonzero(best > _LEAST_IOU)
        found.append(np.stack([np.full(len(places), index), places, truth.labels[number[places]]], 1))
    every, rng, kept = np.concatenate(found), np.random.default_rng(0), []
    for label in range(count):
        mine = np.flatnonzero(every[:, 2] == label)
        if len(mine) > _MOST_WINDOWS:
            mine = mine[np.sort(rng.permutation(len(mine))[:_MOST_WINDOWS])]
        kept.append(mine)
    return every[np.sort(np.concatenate(kept))]
