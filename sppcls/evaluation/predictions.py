"""What a network answered, image by image, and what that amounts to."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch.distributed as dist

from sppcls._util.console import printable
from sppcls._util.figures import MULTI_LABEL, ONE_LABEL, Kind, map_error_draws, of_answers, of_label_sets
from sppcls._util.files import replacing
from sppcls.errors import DataError

KEPT = 10  # highest scores of an image that are kept in a file


class NothingTestedError(DataError):
    """Not a single image could be tested; raised on all processes alike."""


@dataclass
class Predictions:
    """Answers of a network for the images of a source under one protocol.

    Attributes:
        protocol: its name.
        setting: what else decides: size, average, window rule.
        classes: class names by number.
        indices: int64 (N,), positions of the images in their source, ascending.
        names: names of the images.
        labels: int64 (N,), true classes; of images with several labels bool (N, classes).
        top_class: int64 (N, k), the k = 10 (or all) classes with the highest scores, best first; of equal
            scores the lower number.
        top_score: float32 (N, k), their scores, averaged over views: probabilities, or logits if the protocol says so.
        scores: float32 (N, classes), if they were asked for, or images have several labels: of these the log-odds, whose
            sigmoid is the probability.
        views: views of a photo.
        seconds: time taken, reading the images included.
        bad: one line for each image that could not be tested, and is counted nowhere.
    """

    protocol: str
    setting: dict[str, str]
    classes: list[str]
    indices: np.ndarray
    names: list[str]
    labels: np.ndarray
    top_class: np.ndarray
    top_score: np.ndarray
    scores: np.ndarray | None
    views: int
    seconds: float
    bad: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.labels.ndim == 2

    @property
    def kind(self) -> Kind:
        """Which figures there are."""
        return MULTI_LABEL if self.multi_label else ONE_LABEL

    @property
    def main_error(self) -> float:
        """The headline error, in per cent: ``top1_error`` or ``map_error``."""
        return self.figures[self.kind.main] if self.multi_label else self.top1_error

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval of :attr:`main_error` in per cent: what the number of images allows to say."""
        if not self.multi_label:
            return self.top1_interval
        # An image that is drawn twice raises the precision a little; so the draws are moved to the error itself.
        moved = self.draws - np.nanmean(self.draws) + self.main_error
        low, high = np.nanpercentile(moved, [2.5, 97.5]).clip(0, 100)
        return float(low), float(high)

    @cached_property
    def draws(self) -> np.ndarray:
        """``map_error`` of the images drawn anew, (draws,): of images with several labels."""
        return map_error_draws(self._known_scores, self.labels)

    @property
    def _known_scores(self) -> np.ndarray:
        assert self.scores is not None  # of several labels all are kept
        return self.scores

    def hits(self, k: int = 1) -> np.ndarray:
        """bool (N,): whether the true class is among the ``k`` (at most 10) highest scores."""
        hits: np.ndarray = (self.top_class[:, :k] == self.labels[:, None]).any(1)
        return hits

    @property
    def top1_error(self) -> float:
        """In per cent; NaN without images."""
        return error(self.hits(1))

    @property
    def top5_error(self) -> float:
        """In per cent; 0 by definition with at most five classes."""
        return error(self.hits(5))

    @property
    def figures(self) -> dict[str, float]:
        """All figures by name, in per cent: ``top1_error``, ``top5_error``, ``class_mean_error``, ``f1`` and, where the
        scores are probabilities, ``ece``; of images with several labels those of :func:`of_label_sets`."""
        if self.multi_label:
            return of_label_sets(self._known_scores, self.labels)
        confidence = self.top_score[:, 0] if self.setting.get("average") == "softmax" else None
        return {
            "top1_error": self.top1_error,
            "top5_error": self.top5_error,
            **of_answers(self.labels, self.top_class[:, 0], confidence, len(self.classes)),
        }

    @property
    def top1_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the top-1 error in per cent (Wilson): what the number of images allows to say."""
        return wilson_interval(len(self) - int(self.hits(1).sum()), len(self))

    @property
    def images_per_second(self) -> float:
        """Images tested per second, reading included."""
        return len(self) / self.seconds if self.seconds else math.nan

    def of_rows(self, rows: np.ndarray) -> Predictions:
        """Those of some images, int64 (M,) rows, in that order."""
        return replace(
            self,
            indices=self.indices[rows],
            names=[self.names[row] for row in rows],
            labels=self.labels[rows],
            top_class=self.top_class[rows],
            top_score=self.top_score[rows],
            scores=None if self.scores is None else self.scores[rows],
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz file that plain ``numpy.load`` reads, atomically.

        Arrays: ``path`` (names of the images), ``label``, ``top_class`` and ``top_score`` (N, k: the highest scores,
        best first), ``classes``, ``protocol`` and, as text too, the ``setting``: ``size``, ``average`` and so on. Of images
        with several labels ``label`` is 0 or 1 for each class, (N, classes), and ``log_odds`` has those of all classes.

        Raises:
            ConfigError: the file cannot be written.
        """
        with replacing(path) as temporary:
            np.savez_compressed(
                temporary,
                path=np.array([printable(name) for name in self.names], dtype=np.str_),
                label=self.labels.astype(np.uint8 if self.multi_label else np.int32),
                top_class=self.top_class.astype(np.int32),
                top_score=self.top_score,
                classes=np.array([printable(name) for name in self.classes], dtype=np.str_),
                protocol=np.array(self.protocol),
                **{name: np.array(value) for name, value in self.setting.items()},  # type: ignore[arg-type]
                **({"log_odds": self._known_scores} if self.multi_label else {}),  # type: ignore[arg-type]
            )


def error(hits: np.ndarray) -> float:
    """Share of misses, in per cent."""
    return 100 * float(1 - hits.mean()) if len(hits) else math.nan


def wilson_interval(wrong: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Confidence interval of a share ``wrong / total``, in per cent (Wilson 1927); ``z`` is for 95 %."""
    if not total:
        return (math.nan, math.nan)
    share, weight = wrong / total, z * z / total
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def gather(mine: Predictions) -> Predictions:
    """The predictions of all processes, each of which has tested its share, in the order of the source.

    Raises:
        NothingTestedError: not a single image could be tested.
    """
    parts: Sequence[Predictions] = [mine]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        received: list[Predictions] = [mine] * dist.get_world_size()
        dist.all_gather_object(received, mine)
        parts = received
    arrays = ("indices", "labels", "top_class", "top_score", *(() if mine.scores is None else ("scores",)))
    joined: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in parts]) for name in arrays}
    whole = replace(
        mine,
        **joined,
        names=[name for part in parts for name in part.names],
        seconds=max(part.seconds for part in parts),
        bad=sorted(line for part in parts for line in part.bad),
    )
    whole = whole.of_rows(np.argsort(whole.indices, kind="stable"))
    if not len(whole):
        raise NothingTestedError(
            f"no image could be tested; the first: {whole.bad[0] if whole.bad else 'there are none'}"
        )
    return whole
