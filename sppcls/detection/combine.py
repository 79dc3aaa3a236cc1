"""Several detectors as one: boxes of all, and non-maximum suppression on their union (He et al. 2015, sec. 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sppcls.detection.ap import Detections
from sppcls.detection.boxes import nms
from sppcls.detection.detector import Detector
from sppcls.errors import ConfigError


def check_alike(detectors: Sequence[Detector]) -> None:
    """Raise ConfigError for detectors whose boxes cannot be ranked together."""
    first = detectors[0]
    for other in detectors[1:]:
        if set(other.classes) != set(first.classes):
            raise ConfigError(
                f"detectors of different classes cannot be combined: {', '.join(first.classes)} and "
                f"{', '.join(other.classes)}"
            )
        if (other.scorer is None) != (first.scorer is None):
            raise ConfigError("scores of SVMs and of softmax cannot be ranked together; train both alike")


def combine(found: Sequence[Detections], threshold: float = 0.3) -> Detections:
    """One image's boxes of several detectors, with the same class numbers, as those of one.

    Args:
        found: of each detector.
        threshold: a box that overlaps a better one of its class by more (IoU) goes.
    """
    every = Detections.joined(found)
    parts = [every[every.labels == label] for label in np.unique(every.labels)]
    kept = [one[nms(one.boxes, one.scores, threshold)] for one in parts]
    return Detections.joined([Detections.none(), *kept])


def renumbered(found: Detections, own: Sequence[str], wanted: Sequence[str]) -> Detections:
    """Detections with the class numbers of another order of the same classes."""
    number = np.array([list(wanted).index(name) for name in own], np.int64)
    return Detections(found.boxes, number[found.labels], found.scores)
