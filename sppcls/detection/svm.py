"""A linear SVM for each class, trained with hard negatives (He et al. 2015, sec. 4.1, and the authors' code).

Positives are the objects of the class. Negatives are windows that overlap each of them by less than 0.3, objects of other
classes among them. Training begins with the negatives of the first image; of the others, and in the passes that follow, only
those count that the SVM does not keep outside of its margin, until a pass brings none.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from sppcls.detection.boxes import iou
from sppcls.detection.progress import Wrap, unseen
from sppcls.detection.window_set import WindowSet
from sppcls.errors import ConfigError, DataError
from sppcls.inference.transfer.tasks import fit_svm

DUPLICATES = ("iou", "cells")
# Scores above which a negative is taken in, and below which it is left out again.
_HARD, _EASY = -1.0001, -1.2
_RETRAIN = 2000  # negatives
_BLOCK = 1024  # rows that are scored at once
# Tolerances of the solver: LIBLINEAR's own while negatives come in, and at the end.
_COARSE, _FINE = 0.1, 1e-3


@dataclass(frozen=True)
class SVMRules:
    """How the SVMs are trained; the defaults are the authors'.

    Attributes:
        c: C of LIBLINEAR's hinge loss.
        positive_weight: of errors on objects.
        bias: value of the feature whose weight is the bias.
        negative_iou: negatives overlap all objects of the class by less.
        duplicates: ``iou``: a negative that overlaps another one of its image by more than 0.7 is left out (the
            paper); ``cells``: only one of the same cells is (the authors' code).
        passes: the most passes over all images.
    """

    c: float = 1e-3
    positive_weight: float = 2.0
    bias: float = 10.0
    negative_iou: float = 0.3
    duplicates: str = "iou"
    passes: int = 10

    def __post_init__(self) -> None:
        if self.duplicates not in DUPLICATES:
            raise ConfigError(f"duplicates {self.duplicates!r}: choose from {', '.join(DUPLICATES)}")
        for name in ("c", "positive_weight", "bias", "negative_iou", "passes"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: must be greater than 0")


@dataclass(frozen=True)
class Scorer:
    """Scores of classes that are linear in a layer's output: ``rows @ weight.T + bias``.

    Attributes:
        weight: float32 (classes, D); the norm's factor is in it.
        bias: float32 (classes,).
    """

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self.weight.T + self.bias


@dataclass(frozen=True)
class Mined:
    """What mining came to: negatives of each class at the end, and passes over the images."""

    negatives: tuple[int, ...]
    passes: int
    unfinished: int


class _Rows:
    """Vectors that some class has for a negative, in a binary ``file``: each once for all classes.

    Maximums of maps that are kept as float16 are float16 numbers themselves, and take half the room. All vectors are
    multiplied by ``factor`` where they are used.
    """

    def __init__(self, file: BinaryIO, factor: float) -> None:
        self.factor = np.float32(factor)
        self._file = file.fileno()
        self._places: dict[tuple[int, int], tuple[int, str]] = {}  # offset, dtype
        self._end = 0

    def add(self, index: int, cells: np.ndarray, features: np.ndarray) -> None:
        """Keep some rows of an image's vectors, which are not multiplied yet."""
        for cell in cells.tolist():
            if (index, cell) not in self._places:
                row = features[cell]
                with np.errstate(over="ignore"):
                    half = row.astype(np.float16)
                kept = half if (half == row).all() else row
                self._places[index, cell] = self._end, kept.dtype.str
                self._end += os.pwrite(self._file, kept.tobytes(), self._end)

    def matrix(self, first: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Rows ``first``, as they are, then those of (image, cell): float32."""
        matrix = np.empty((len(first) + len(ids), first.shape[1]), np.float32)
        matrix[: len(first)] = first
        for row, (image, cell) in zip(matrix[len(first) :], ids.tolist(), strict=True):
            offset, dtype = self._places[image, cell]
            kept = os.pread(self._file, first.shape[1] * np.dtype(dtype).itemsize, offset)
            np.multiply(np.frombuffer(kept, dtype), self.factor, out=row, dtype=np.float32)
        return matrix


class _OneClass:
    """The SVM of one class, and the negatives that it is trained on."""

    def __init__(self, positives: np.ndarray, rules: SVMRules, rows: _Rows) -> None:
        self.positives, self.rules, self.rows = positives, rules, rows
        self.weight, self.bias = np.zeros(positives.shape[1], np.float32), 0.0
        self.ids = np.empty((0, 2), np.int64)  # image, cell
        self.boxes = np.empty((0, 4))
        self.new, self.trained, self.converged, self.tolerance = 0, False, True, _COARSE

    def add(
        self, index: int, features: np.ndarray, scores: np.ndarray, candidates: np.ndarray, boxes: np.ndarray
    ) -> int:
        """Take in an image's hard negatives among ``candidates``, rows of ``features``; their number."""
        known = self.ids[self.ids[:, 0] == index, 1]
        hard = candidates[scores[candidates] > _HARD] if self.trained else candidates
        hard = hard[~np.isin(hard, known)]
        if self.rules.duplicates == "iou":
            hard = self._apart(index, hard, scores, boxes)
        if len(hard):
            self.rows.add(index, hard, features)
            self.ids = np.concatenate([self.ids, np.stack([np.full(len(hard), index), hard], 1)])
            self.boxes = np.concatenate([self.boxes, boxes[hard]])
            self.new += len(hard)
        if self.new > _RETRAIN or (not self.trained and len(self.ids)):
            self.fit()
        return len(hard)

    def _apart(self, index: int, hard: np.ndarray, scores: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Those that overlap none of a higher score, and none that is there already, by more than 0.7."""
        hard = hard[np.argsort(-scores[hard], kind="stable")]
        there = self.boxes[self.ids[:, 0] == index]
        free = ~(iou(boxes[hard], there) > 0.7).any(1) if len(there) else np.ones(len(hard), bool)
        hard = hard[free]
        near = iou(boxes[hard], boxes[hard]) > 0.7
        kept = np.ones(len(hard), bool)
        for place in range(len(hard)):
            if kept[place]:
                kept[place + 1 :] &= ~near[place, place + 1 :]
        return np.sort(hard[kept])

    def fit(self) -> None:
        rules, count = self.rules, len(self.positives)
        rows = self.rows.matrix(self.positives, self.ids)
        targets = np.r_[np.ones(count, np.int64), np.full(len(self.ids), -1)]
        settings = {"positive_weight": rules.positive_weight, "bias": rules.bias, "tolerance": self.tolerance}
        svm, self.converged = fit_svm(rows, targets, rules.c, **settings)
        self.weight, self.bias = svm.coef_[0].astype(np.float32), float(svm.intercept_[0])
        self.trained, self.new = True, 0
        scores = [
            svm.decision_function(rows[begin : begin + _BLOCK]) for begin in range(count, len(rows), _BLOCK)
        ]
        kept = np.concatenate([*scores, np.empty(0)]) >= _EASY
        self.ids, self.boxes = self.ids[kept], self.boxes[kept]


def train_svms(
    windows: WindowSet, layer: str, factor: float, rules: SVMRules, progress: Wrap = unseen
) -> tuple[Scorer, Mined]:
    """An SVM for each class on a layer's output times ``factor``.

    Raises:
        DataError: a class without an object, or without a window that is a negative.
    """
    with tempfile.TemporaryFile() as file:
        rows, done = _Rows(file, factor), 0
        machines = [_OneClass(own * rows.factor, rules, rows) for own in positives(windows, layer)]
        for done in range(1, rules.passes + 1):  # noqa: B007
            added = 0
            for index in progress(range(len(windows)), len(windows)):
                features = windows.features(index, layer)
                boxes = _first_boxes(windows, index)
                scaled = features * rows.factor
                scores = [scaled @ machine.weight + machine.bias for machine in machines]
                del scaled  # before SVMs are trained, which takes the most memory
                for label, machine in enumerate(machines):
                    candidates = np.flatnonzero(windows.overlap_with(index, label) < rules.negative_iou)
                    added += machine.add(index, features, scores[label], candidates, boxes)
            for machine, name in zip(machines, windows.images.classes, strict=True):
                if not machine.trained:
                    raise DataError(f"{windows.images.name}: no window is background to class {name!r}")
                if machine.new:
                    machine.fit()
            if not added:
                if machines[0].tolerance == _FINE:
                    break
                _refine(machines)
        if machines[0].tolerance != _FINE:  # there were no more passes
            _refine(machines)
    weight = np.stack([machine.weight for machine in machines]) * rows.factor
    scorer = Scorer(weight, np.array([machine.bias for machine in machines], np.float32))
    unfinished = sum(not machine.converged for machine in machines)
    return scorer, Mined(tuple(len(machine.ids) for machine in machines), done, unfinished)


def _refine(machines: Sequence[_OneClass]) -> None:
    for machine in machines:
        machine.tolerance = _FINE
        machine.fit()


def positives(windows: WindowSet, layer: str) -> list[np.ndarray]:
    """The objects of each class that are not difficult: a layer's output (n, D)."""
    found: list[list[np.ndarray]] = [[] for _ in windows.images.classes]
    for index, truth in enumerate(windows.images.truths):
        for_sure = np.flatnonzero(~truth.difficult)
        if len(for_sure):
            features = windows.features(index, layer, windows.places[index][: len(truth.labels)])
            for place in for_sure:
                found[truth.labels[place]].append(features[place])
    for rows, name in zip(found, windows.images.classes, strict=True):
        if not rows:
            raise DataError(f"{windows.images.name}: class {name!r} has no object in {windows.images.split}")
    return [np.stack(rows) for rows in found]


def _first_boxes(windows: WindowSet, index: int) -> np.ndarray:
    """The first window of each cell: (U, 4)."""
    _, first = np.unique(windows.places[index], return_index=True)
    return windows.boxes[index][first]
