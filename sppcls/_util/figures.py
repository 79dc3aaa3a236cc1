"""Figures of merit from counts: what they are called, which way is better, and how they are computed.

From counts, so that they are exact over any number of batches and processes. In per cent; NaN where nothing was counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BINS = 15  # of confidence, as Guo et al. 2017


class Figure(NamedTuple):
    """A figure of a validation: what it is called in words, and whether more of it is better."""

    words: str
    more_is_better: bool = False
    unit: str = " %"


# In the order of their columns.
FIGURES = {
    "loss": Figure("loss", unit=""),
    "top1_error": Figure("top-1 error"),
    "top5_error": Figure("top-5 error"),
    "class_mean_error": Figure("class-mean error"),
    "f1": Figure("macro F1", more_is_better=True),
    "ece": Figure("calibration error"),
}


def is_better(figure: str, value: float, other: float) -> bool:
    """Whether ``value`` is better than ``other``; nothing is better than what it equals, and NaN than nothing."""
    return value > other if FIGURES[figure].more_is_better else value < other


def of_answers(
    labels: np.ndarray, answers: np.ndarray, confidence: np.ndarray | None, num_classes: int
) -> dict[str, float]:
    """``class_mean_error``, ``f1`` and, with confidences, ``ece`` of single answers.

    Args:
        labels, answers: class numbers, (N,).
        confidence: probability of each answer, (N,); None: not known.
        num_classes: number of classes.
    """
    right = labels == answers
    images, predicted, both = (
        np.bincount(numbers, minlength=num_classes) for numbers in (labels, answers, labels[right])
    )
    found = {"class_mean_error": class_mean_error(images, both), "f1": macro_f1(images, predicted, both)}
    if confidence is not None:
        bins = confidence_bin(confidence)
        sums = [np.bincount(bins, weights, BINS) for weights in (np.ones(len(bins)), right, confidence)]
        found["ece"] = calibration_error(*sums)
    return found


def class_mean_error(images: np.ndarray, right: np.ndarray) -> float:
    """Mean over the classes of their top-1 errors, of the classes that have images: each counts alike.

    Args:
        images, right: of each class, its images and those of them that were recognised, (classes,).
    """
    there = images > 0
    return 100 * float(1 - (right[there] / images[there]).mean()) if there.any() else float("nan")


def macro_f1(images: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> float:
    """Mean over the classes of 2 right / (images + predicted), of the classes that have an image or a prediction.

    Args:
        images, predicted, right: of each class, its images, the images taken for it, and those of both, (classes,).
    """
    total = images + predicted
    there = total > 0
    return 100 * float((2 * right[there] / total[there]).mean()) if there.any() else float("nan")


def calibration_error(images: np.ndarray, right: np.ndarray, confidence: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3): how far confidence is from the share that is right.

    Args:
        images, right, confidence: of each bin of confidence, its images, those that are right, and the sum of the
            probabilities of their answers, (bins,).
    """
    total = images.sum()
    return 100 * float(np.abs(right - confidence).sum() / total) if total else float("nan")


def confidence_bin(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Bin of each confidence, int64: bin m holds those above m / bins and up to (m + 1) / bins."""
    found: np.ndarray = np.ceil(np.asarray(confidence, dtype=np.float64) * bins).astype(np.int64) - 1
    return found.clip(0, bins - 1)
