"""Errors class by class, from kept predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from sppcls._util.figures import class_precisions
from sppcls._util.files import write_csv


@dataclass(frozen=True)
class ClassError:
    """How often one class was recognised.

    Attributes:
        name: of the class.
        images: tested images of it, at least 1.
        error: top-1 error in per cent; where images have several labels, what the average precision lacks of 100.
        predicted: images of any class that were taken for it.
        confused_with: the wrong class that its images were most often taken for; empty if all are right.
    """

    name: str
    images: int
    error: float
    predicted: int
    confused_with: str


def read_class_errors(path: Path) -> list[ClassError]:
    """One for each class that has images, in the order of the classes, from a file of ``Predictions.save``.

    Empty if the file is not there or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["label"].ndim == 2:
                return _of_label_sets(file["classes"].tolist(), file["label"].astype(bool), file["log_odds"])
            classes, labels, predicted = file["classes"].tolist(), file["label"], file["top_class"][:, 0]
    except Exception:  # numpy raises nearly any type on damaged files
        return []
    count = len(classes)
    table = np.bincount(labels.astype(np.int64) * count + predicted, minlength=count**2).reshape(count, count)
    found = []
    for number, row in enumerate(table):
        images, right = int(row.sum()), int(row[number])
        if not images:
            continue
        wrong = row.copy()
        wrong[number] = 0
        other = classes[int(wrong.argmax())] if images > right else ""
        predictions = int(table[:, number].sum())
        found.append(ClassError(classes[number], images, 100 * (images - right) / images, predictions, other))
    return found


def _of_label_sets(classes: list[str], truth: np.ndarray, scores: np.ndarray) -> list[ClassError]:
    images, predicted = truth.sum(0), (scores >= 0).sum(0)
    return [
        ClassError(name, int(images[label]), 100 - 100 * precision, int(predicted[label]), "")
        for label, (name, precision) in enumerate(zip(classes, class_precisions(scores, truth), strict=True))
        if images[label]
    ]


def class_mean(errors: list[ClassError]) -> float:
    """Mean of the errors of the classes, in per cent, each class counting alike however many images it has."""
    return fmean(found.error for found in errors)


def write_class_errors(path: Path, errors: list[ClassError], multi_label: bool = False) -> None:
    """A row for each class; columns as in :class:`ClassError`, the error as ``top1_error``; where images have several labels
    as ``ap_error``."""
    error = "ap_error" if multi_label else "top1_error"
    rows = [
        {
            "class": e.name,
            "images": e.images,
            error: f"{e.error:.4f}",
            "predicted": e.predicted,
            "confused_with": e.confused_with,
        }
        for e in errors
    ]
    write_csv(path, rows, ["class", "images", error, "predicted", "confused_with"])
