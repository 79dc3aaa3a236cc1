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
    "map_error": Figure("100 - mAP"),
    "exact_match_error": Figure("exact-match error"),
    "label_error": Figure("label error"),
    "micro_f1": Figure("micro F1", more_is_better=True),
}


class Kind(NamedTuple):
    """What is counted of photos with one label each, or with several.

    Attributes:
        main: the headline error, by which the best epoch is chosen where nothing else is said.
        beside: the error that is shown beside it.
        training: figures of a training epoch.
        validation: figures of a validation.
    """

    main: str
    beside: str
    training: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """The errors of a line: the headline error, and the one beside it if that is another."""
        return tuple(dict.fromkeys((self.main, self.beside)))

    def best_by(self, asked: str) -> str:
        """The figure that the best epoch is chosen by: ``best_by`` of a config, whose default stands for :attr:`main`."""
        return self.main if asked == ONE_LABEL.main else asked


ONE_LABEL = Kind(
    "top1_error",
    "top5_error",
    ("loss", "top1_error", "top5_error"),
    ("loss", "top1_error", "top5_error", "class_mean_error", "f1", "ece"),
)
MULTI_LABEL = Kind(
    "map_error",
    "exact_match_error",
    ("loss", "exact_match_error", "label_error"),
    ("loss", "map_error", "exact_match_error", "label_error", "f1", "micro_f1"),
)

KINDS = (ONE_LABEL, MULTI_LABEL)


def kind_of(multi_label: bool, classes: int) -> Kind:
    """What is counted; with at most five classes no top-5 error is shown, as it is 0 by definition."""
    if multi_label:
        return MULTI_LABEL
    return ONE_LABEL if classes > 5 else ONE_LABEL._replace(beside=ONE_LABEL.main)


THRESHOLD = 0.5
"""Probability from which on a class is an answer, where a photo may have several: from log-odds of 0 on."""


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


def of_label_sets(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Figures of :data:`MULTI_LABEL`, but for the loss, of log-odds and true labels.

    ``map_error`` is what the mean average precision lacks of 100. ``exact_match_error`` is the share of images with a wrong
    answer in any class, ``label_error`` the share of all answers that are wrong (the Hamming loss).

    Args:
        scores: log-odds of each class, (N, classes): probabilities next to 1 would be equal in float32.
        truth: whether an image has the label, bool (N, classes).
    """
    answers = scores >= 0
    wrong = answers != truth
    images, predicted, both = (table.sum(0) for table in (truth, answers, truth & answers))
    total = int(images.sum() + predicted.sum())
    there = wrong.size > 0
    return {
        "map_error": 100 - 100 * mean_average_precision(scores, truth),
        "exact_match_error": 100 * float(wrong.any(1).mean()) if there else float("nan"),
        "label_error": 100 * float(wrong.mean()) if there else float("nan"),
        "f1": macro_f1(images, predicted, both),
        "micro_f1": 200 * float(both.sum()) / total if total else float("nan"),
    }


def average_precision(scores: np.ndarray, truth: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Area under the steps of precision over recall, in 0..1; equal scores are one step, so no order decides.

    Args:
        scores: of each image, (N,).
        truth: whether it has the label, bool (N,).
        counts: how often each image is there, (draws, N); None: once.

    Returns:
        (draws,), or (1,); NaN where no image has the label.
    """
    order = np.argsort(-scores, kind="stable")
    weights = np.ones((1, len(scores))) if counts is None else counts[:, order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(weights * truth[order], axis=1)[:, ends]
    seen = np.cumsum(weights, axis=1)[:, ends]
    steps = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: np.ndarray = (steps * hits / np.maximum(seen, 1)).sum(1) / hits[:, -1]
    return area


def class_precisions(scores: np.ndarray, truth: np.ndarray) -> list[float]:
    """Average precision of each class, in 0..1; NaN of a class that no image has. Arguments (N, classes)."""
    if not len(scores):
        return [float("nan")] * scores.shape[1]
    return [float(average_precision(scores[:, c], truth[:, c])[0]) for c in range(scores.shape[1])]


def mean_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes that an image has, in 0..1; arguments as of :func:`class_precisions`."""
    known = [value for value in class_precisions(scores, truth) if value == value]
    return float(np.mean(known)) if known else float("nan")


def guessing_map_error(images: np.ndarray, total: int) -> float:
    """``map_error`` of giving every image the same scores: a class then has the precision of its share of the images.

    Args:
        images: of each class, its images, (classes,).
        total: number of all images.
    """
    there = images[images > 0]
    return 100 - 100 * float(there.mean()) / total if len(there) else 100.0


def map_error_draws(scores: np.ndarray, truth: np.ndarray, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """``map_error`` of the images drawn anew with replacement, (draws,): the same draws for as many images.

    Args:
        scores, truth: as of :func:`class_precisions`.
        draws: how many.
        seed: of the draws.
    """
    count = len(scores)
    generator = np.random.default_rng(seed)
    found = []
    for first in range(0, draws, 100):  # a hundred at once take little memory
        several = min(100, draws - first)
        counts = generator.multinomial(count, np.full(count, 1 / count), size=several)
        rows = [
            average_precision(scores[:, c], truth[:, c], counts)
            for c in range(truth.shape[1])
            if truth[:, c].any()
        ]
        found.append(100 - 100 * np.nanmean(rows, axis=0) if rows else np.full(several, np.nan))
    return np.concatenate(found)
