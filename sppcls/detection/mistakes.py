"""What a detector confuses, and its surest mistakes and misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sppcls.detection.ap import Detections, Result
from sppcls.detection.boxes import iou
from sppcls.detection.truth import DetectionSet


def confusion(images: DetectionSet, found: Sequence[Detections], least_iou: float = 0.5) -> np.ndarray:
    """int (classes + 1, classes + 1): objects by row, detections by column; the last row is no object, the last column no
    detection.

    The surest detections choose first, each the object of *any* class that it overlaps most among those left, by
    ``least_iou`` or more. Difficult objects, and what is found on them, do not count.
    """
    nothing = len(images.classes)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    for truth, detections in zip(images.truths, found, strict=True):
        sure = np.argsort(-detections.scores, kind="stable")
        overlaps = iou(detections.boxes[sure], truth.boxes)
        free = np.ones(len(truth.labels), bool)
        for place, row in zip(sure, overlaps, strict=True):
            candidates = np.where(free | truth.difficult, row, -1.0)
            best = int(candidates.argmax()) if len(candidates) else -1
            if best < 0 or candidates[best] < least_iou:
                counts[nothing, detections.labels[place]] += 1
            elif not truth.difficult[best]:
                counts[truth.labels[best], detections.labels[place]] += 1
                free[best] = False
        for label in truth.labels[free & ~truth.difficult]:
            counts[label, nothing] += 1
    return counts


@dataclass(frozen=True)
class Mistake:
    """A detection that is wrong.

    Attributes:
        image: its number.
        place: of the detection among those of the image.
        kind: ``duplicate``, ``place`` (an object of the class overlaps it by 0.1 or more, but not enough), the name of
            another class whose object it overlaps enough, or ``background``.
    """

    image: int
    place: int
    kind: str


def worst(images: DetectionSet, found: Sequence[Detections], result: Result, most: int = 12) -> list[Mistake]:
    """The wrong detections of the highest scores, over all classes (Hoiem et al. 2012 name these kinds)."""
    listed = []
    for label, ranking in enumerate(result.rankings):
        wrong = np.flatnonzero(~ranking.right)[:most]
        listed += [(ranking.scores[i], int(ranking.images[i]), int(ranking.numbers[i]), label) for i in wrong]
    listed.sort(key=lambda one: -one[0])
    mistakes = []
    for _, image, place, label in listed[:most]:
        truth, box = images.truths[image], found[image].boxes[place][None]
        overlaps = iou(box, truth.boxes)[0]
        own = overlaps[truth.labels == label].max(initial=0)
        other = np.where(truth.labels == label, 0, overlaps)
        if own >= 0.5:
            kind = "duplicate"
        elif other.max(initial=0) >= 0.5:
            kind = images.classes[int(truth.labels[other.argmax()])]
        else:
            kind = "place" if own >= 0.1 else "background"
        mistakes.append(Mistake(image, place, kind))
    return mistakes
