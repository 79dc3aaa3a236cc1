"""Average precision of detections by the rules of PASCAL VOC (Everingham et al. 2010, ``VOCevaldet.m``).

A detection belongs to the object of its class that it overlaps most. It is right if that IoU is 0.5 or more and no better
detection has taken that object; COCO would try the next best object instead. Of a difficult object it counts neither
for nor against, and difficult objects need not be found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sppcls.data.voc import average_precision
from sppcls.detection.boxes import iou
from sppcls.detection.truth import DetectionSet, Truth

MEASURES = ("11-point", "all-point")
_DRAWS = 1000


@dataclass(frozen=True)
class Detections:
    """What was found in one image.

    Attributes:
        boxes: float64 (N, 4), see :mod:`sppcls.detection.boxes`.
        labels: int64 (N,), class numbers.
        scores: float64 (N,), the higher the surer.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __getitem__(self, chosen: Any) -> Detections:
        """Some of them: a slice, numbers or a mask, as of an array."""
        return Detections(self.boxes[chosen], self.labels[chosen], self.scores[chosen])

    @staticmethod
    def none() -> Detections:
        return Detections(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0))

    @staticmethod
    def joined(parts: Iterable[Detections]) -> Detections:
        """All of several, in their order."""
        rows = [(one.boxes, one.labels, one.scores) for one in parts]
        return Detections(*map(np.concatenate, zip(*rows, strict=True)))


@dataclass(frozen=True)
class Ranking:
    """The detections of a class in all images, the highest score first, without those of difficult objects.

    Attributes:
        scores: (n,).
        right: bool (n,).
        images: int (n,), the image of each.
        numbers: int (n,), place of each among the detections of its image.
        objects: int (images,): objects to find in each.
    """

    scores: np.ndarray
    right: np.ndarray
    images: np.ndarray
    numbers: np.ndarray
    objects: np.ndarray

    def average_precision(self) -> tuple[float, float]:
        """(11-point, all-point), 0 to 1; NaN where there is no object to find."""
        total = int(self.objects.sum())
        return average_precision(self.scores, self.right, total) if total else (float("nan"),) * 2

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """(recall, precision) after each detection."""
        hits = np.cumsum(self.right)
        return hits / max(1, int(self.objects.sum())), hits / np.arange(1, len(hits) + 1)

    def best_score(self) -> float:
        """The score from which on detections have the largest F1, the harmonic mean of recall and precision.

        Infinity where no detection is right.
        """
        if not self.right.any():
            return float("inf")
        hits = np.cumsum(self.right)
        f1 = 2 * hits / (np.arange(1, len(hits) + 1) + self.objects.sum())
        # Of equal scores all are above a threshold, or none.
        last = np.append(np.diff(self.scores) != 0, True)
        return float(self.scores[np.where(last, f1, -1).argmax()])

    def resampled(self, weights: np.ndarray) -> tuple[float, float]:
        """:meth:`average_precision` where each image counts ``weights`` (images,) times."""
        total = int(self.objects @ weights)
        if not total:
            return (float("nan"),) * 2
        each = weights[self.images]
        hits = np.cumsum(self.right * each)
        precision = hits / np.maximum(np.cumsum(each), 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        places = [np.searchsorted(10 * hits, step * total) for step in range(11)]
        eleven = [highest[place] if place < len(highest) else 0.0 for place in places]
        return float(np.mean(eleven)), float((highest * self.right * each).sum() / total)


def rank(truths: Sequence[Truth], found: Sequence[Detections], label: int, least_iou: float = 0.5) -> Ranking:
    """Which detections of a class are right; equal scores keep the order of the images."""
    parts = []
    objects = np.zeros(len(truths), np.int64)
    for index, (truth, detections) in enumerate(zip(truths, found, strict=True)):
        of_class = truth.labels == label
        objects[index] = (of_class & ~truth.difficult).sum()
        mine = np.flatnonzero(detections.labels == label)
        mine = mine[np.argsort(-detections.scores[mine], kind="stable")]
        objects_of_class = truth.boxes[of_class], truth.difficult[of_class]
        verdicts = _verdicts(*objects_of_class, detections.boxes[mine], least_iou)
        mine, verdicts = mine[verdicts >= 0], verdicts[verdicts >= 0]
        parts.append((detections.scores[mine], verdicts > 0, np.full(len(mine), index), mine))
    scores, right, images, numbers = (
        np.concatenate([part[column] for part in parts]) if parts else np.empty(0) for column in range(4)
    )
    order = np.argsort(-scores, kind="stable")
    return Ranking(scores[order], right[order], images[order], numbers[order], objects)


def _verdicts(objects: np.ndarray, difficult: np.ndarray, boxes: np.ndarray, least_iou: float) -> np.ndarray:
    """1: right, 0: wrong, -1: not counted; for detections in the order of their scores."""
    verdicts = np.zeros(len(boxes), np.int64)
    if not len(objects):
        return verdicts
    overlaps = iou(boxes, objects)
    taken = np.zeros(len(objects), bool)
    for place, row in enumerate(overlaps):
        best = int(row.argmax())
        if row[best] >= least_iou:
            verdicts[place] = -1 if difficult[best] else int(not taken[best])
            taken[best] = True
    return verdicts


@dataclass(frozen=True)
class ClassResult:
    """Average precision of one class, in per cent.

    Attributes:
        name: of the class.
        objects: number of objects to find, without difficult ones.
        ap: by measure (:data:`MEASURES`); NaN without objects.
        interval: 95 % interval of each over images.
    """

    name: str
    objects: int
    ap: dict[str, float]
    interval: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Result:
    """Average precision of a detector on a set.

    Attributes:
        classes: of each class.
        mean: mAP over the classes that have objects, in per cent, by measure.
        interval: 95 % interval of the mean over images, by measure.
        rankings: of each class.
        draws: float (draws, measures): the mean in each drawing of the images, which two results of a set have in common.
    """

    classes: list[ClassResult]
    mean: dict[str, float]
    interval: dict[str, tuple[float, float]]
    rankings: list[Ranking]
    draws: np.ndarray

    def minus(self, other: Result) -> dict[str, tuple[float, float, float]]:
        """Difference of the means and its 95 % interval over images, of two results of one set, by measure."""
        intervals = _intervals(self.draws - other.draws)
        return {
            measure: (self.mean[measure] - other.mean[measure], *interval)
            for measure, interval in zip(MEASURES, intervals, strict=True)
        }


def judge(images: DetectionSet, found: Sequence[Detections], least_iou: float = 0.5, seed: int = 0) -> Result:
    """Average precision of every class, with intervals from drawing the images anew 1,000 times.

    Args:
        images: the set.
        found: detections of each image.
        least_iou: that makes a detection right.
        seed: of the drawing.
    """
    rankings = [rank(images.truths, found, label, least_iou) for label in range(len(images.classes))]
    exact = 100 * np.array([ranking.average_precision() for ranking in rankings])  # (classes, measures)
    rng = np.random.default_rng(seed)
    draws = np.empty((_DRAWS, *exact.shape))
    for draw in draws:
        weights = np.bincount(rng.integers(0, len(images), len(images)), minlength=len(images))
        draw[:] = 100 * np.array([ranking.resampled(weights) for ranking in rankings])
    classes = [
        ClassResult(
            name,
            int(ranking.objects.sum()),
            _named(map(float, exact[number])),
            _named(_intervals(draws[:, number])),
        )
        for number, (name, ranking) in enumerate(zip(images.classes, rankings, strict=True))
    ]
    with_objects = ~np.isnan(exact[:, 0])
    # A draw may lack all objects of a class: its mean is over the others.
    with np.errstate(invalid="ignore"):
        means = np.nansum(draws, 1) / np.maximum((~np.isnan(draws)).sum(1), 1)
    mean = exact[with_objects].mean(0) if with_objects.any() else np.full(len(MEASURES), np.nan)
    return Result(classes, _named(map(float, mean)), _named(_intervals(means)), rankings, means)


def _named(values: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(MEASURES, values, strict=True))


def _intervals(draws: np.ndarray) -> list[tuple[float, float]]:
    """95 % interval of each column (draws, measures), without draws that have no object."""
    result = []
    for column in draws.T:
        values = column[~np.isnan(column)]
        low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
        result.append((float(low), float(high)))
    return result
