"""The kept answers of a network, image by image, as ``Predictions.save`` wrote them."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sppcls._util.figures import guessing_map_error, map_error_draws, mean_average_precision
from sppcls.errors import DataError

TEST, TEST_BEST = "test", "test_best"
DETECTION = "detection"  # in place of a protocol: of a detector, with a measure in place of a size


class Measure(NamedTuple):
    """Where an error is measured: a test protocol (``center``) at an image size (``224``, ``180x240``), on which images.

    ``images`` is empty for those of the validation; ``test`` is for the test images, tested with the weights after the
    last epoch, ``test_best`` for the same with those of the epoch that was best on the validation images. ``multi_label``:
    whether these may have several labels.
    """

    protocol: str
    size: str
    images: str = ""
    multi_label: bool = False

    def __str__(self) -> str:
        """``val_224``, or with another protocol than the centre view ``test_ten_view_224``."""
        return self.named("center")

    def named(self, usual: str) -> str:
        """The first part of its figures' names, such as ``val_224``; protocol ``usual`` is not named."""
        protocol = "" if self.protocol == usual else f"{self.protocol}_"
        return f"{self.images or 'val'}_{protocol}{self.size}"

    @property
    def view(self) -> str:
        """The protocol, after the name of the images where these are not those of the validation."""
        return f"{'test' if self.images == TEST_BEST else self.images} {self.protocol}".strip()

    @property
    def of_precision(self) -> bool:
        """Whether the error is what a mean average precision lacks: of a detector, or where images have several labels."""
        return self.multi_label or self.protocol == DETECTION

    def error(self, top: int = 1) -> str:
        """What is counted: ``top-1 error``, or what the mean average precision lacks."""
        return "100 - mAP" if self.of_precision else f"top-{top} error"

    def figure(self, top: int = 1) -> str:
        """The second part of its figures' names: ``top1_error``, or ``map_error``."""
        return "map_error" if self.of_precision else f"top{top}_error"

    def in_words(self, top: int = 1) -> str:
        """What the error is, such as ``top-1 error at 224, centre view``."""
        if self.protocol == DETECTION:
            return f"{self.error()}, {self.size}"
        view = "centre view" if self.protocol == "center" else f"protocol {self.protocol}"
        best = ", best epoch" if self.images == TEST_BEST else ""
        return f"{self.error(top)}{' on the test images' if self.images else ''} at {self.size}, {view}{best}"

    @property
    def side(self) -> int:
        """Shorter side in pixels; 0 where the size is not known."""
        return min((int(side) for side in self.size.split("x") if side.isdecimal()), default=0)


@dataclass(frozen=True)
class _Kept:
    """Answers to some images.

    Attributes:
        path: the file.
        measure: protocol and size, as far as the file or its name tells.
        names, labels: (N, ...), the images in the order of their names, and what they show.
    """

    path: Path
    measure: Measure
    names: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def images(self) -> str:
        """A fingerprint of the images and labels: equal for answers about the same ones, in any order."""
        digest = hashlib.sha256()
        several = self.labels.ndim > 1
        labels = [np.flatnonzero(row).tolist() for row in self.labels] if several else self.labels.tolist()
        for name, label in zip(self.names.tolist(), labels, strict=True):
            # Half a character is a name, too.
            digest.update(f"{name}\0{label}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


@dataclass(frozen=True)
class Answers(_Kept):
    """Which images a network got right.

    Attributes:
        hit1, hit5: bool (N,), whether the true class is the first, or among the first five, answers.
    """

    hit1: np.ndarray
    hit5: np.ndarray

    @property
    def errors(self) -> tuple[float, float]:
        """Top-1 and top-5 error in per cent."""
        total = len(self.labels)
        return 100 * int((~self.hit1).sum()) / total, 100 * int((~self.hit5).sum()) / total

    @property
    def guessing(self) -> float:
        """Top-1 error in per cent of always saying the most frequent class."""
        return 100 * (1 - int(np.unique(self.labels, return_counts=True)[1].max()) / len(self.labels))


@dataclass(frozen=True)
class LabelAnswers(_Kept):
    """What a network answered about images that may have several labels: ``labels`` is bool (N, classes).

    Attributes:
        scores: (N, classes), their log-odds.
    """

    scores: np.ndarray

    @property
    def errors(self) -> tuple[float, float]:
        """What the mean average precision lacks of 100 per cent; the second is not a number."""
        return 100 - 100 * mean_average_precision(self.scores, self.labels), math.nan

    @property
    def guessing(self) -> float:
        """The same of equal scores for every image."""
        return guessing_map_error(self.labels.sum(0), len(self.labels))

    @cached_property
    def draws(self) -> np.ndarray:
        """The error of the images drawn anew, (draws,), in percent: the same images for networks of the same ones."""
        return map_error_draws(self.scores, self.labels)


@dataclass(frozen=True)
class Judged:
    """Mean average precision of a detector on a set, and on the same set with its images drawn anew.

    Attributes:
        images: a fingerprint of the images and their objects; equal where the draws were of the same images.
        count: number of images.
        draws: (draws,), what the mean lacks of 100 in each; detectors of the same images have the draws in common.
    """

    images: str
    count: int
    draws: np.ndarray

    def __len__(self) -> int:
        return self.count


def read_answers(path: Path) -> Answers | LabelAnswers:
    """Read one file of predictions.

    Raises:
        DataError: the file cannot be read, or is something else.
    """
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            wanted = ("path", "label", "top_class")
            if missing := [key for key in wanted if key not in file]:
                raise DataError(f"{path}: has no {missing[0]}, so it holds no predictions")
            found = {key: file[key] for key in wanted}
            known = ("protocol", "size", "window_rule", "split", "weights")
            texts = {key: str(file[key]) for key in known if key in file}
            several = getattr(found["label"], "ndim", None) == 2  # a member that is no array comes as bytes
            answer = "log_odds" if several else "top_class"
            found[answer] = file[answer]
    except DataError:
        raise
    except Exception as error:  # numpy raises nearly any type on damaged files
        reason = getattr(error, "strerror", None) or "it is damaged or no npz file"
        raise DataError(f"{path}: cannot be read ({reason})") from None
    names, labels, said = found["path"], found["label"], found[answer]
    kinds = [getattr(values, "dtype", np.dtype(object)).kind for values in (names, labels, said)]
    allowed = ("US", "biu", "f") if several else ("US", "iu", "iu")
    if any(kind not in known for kind, known in zip(kinds, allowed, strict=True)):
        raise DataError(f"{path}: path, label and {answer} are not arrays of names and of numbers")
    rows = labels.shape == said.shape if several else labels.ndim == 1 and said.ndim == 2
    if names.ndim != 1 or not rows or not 0 < len(labels) == len(names) == len(said):
        raise DataError(f"{path}: path, label and {answer} do not have one row for each image")
    measure = _measure(path, texts, several)
    order = np.argsort(names, kind="stable")
    names, labels, said = names[order], labels[order], said[order]
    if several:
        return LabelAnswers(path, measure, names, labels > 0, said)
    right = said == labels[:, None]
    return Answers(path, measure, names, labels, right[:, :1].any(1), right[:, :5].any(1))


def _measure(path: Path, texts: Mapping[str, str], multi_label: bool) -> Measure:
    """Protocol, size and images of a file, as far as its texts or its name tell."""
    protocol = texts.get("protocol", path.stem)
    rule = texts.get("window_rule", "appendix")
    ending = re.fullmatch(r".+_(\d+(x\d+)?)", path.stem)
    size = texts.get("size") or (ending.group(1) if ending else "")
    images = TEST_BEST if texts.get("weights") == "best" else texts.get("split", "")
    return Measure(protocol if rule == "appendix" else f"{protocol}_{rule}", size, images, multi_label)
