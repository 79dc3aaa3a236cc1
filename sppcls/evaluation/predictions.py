"""What a network answered, image by image, and what that amounts to."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from sppcls.console import printable
from sppcls.errors import DataError

KEPT = 10  # highest scores of an image that are kept in a file


@dataclass
class Predictions:
    """Scores of a network for the images of a source under one protocol.

    Attributes:
        protocol: its name.
        classes: class names by number.
        indices: int64 (N,), positions of the images in their source, ascending.
        names: names of the images.
        labels: int64 (N,), true classes.
        scores: float32 (N, classes), averaged over views; probabilities, or logits if the protocol says so.
        views: views of a photo.
        seconds: time taken, reading the images included.
        bad: one line for each image that could not be tested, and is counted nowhere.
    """

    protocol: str
    classes: list[str]
    indices: np.ndarray
    names: list[str]
    labels: np.ndarray
    scores: np.ndarray
    views: int
    seconds: float
    bad: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def hits(self, k: int = 1) -> np.ndarray:
        """bool (N,): whether the true class is among the ``k`` highest scores (ties as ``torch.topk`` breaks them)."""
        top = torch.from_numpy(self.scores).topk(min(k, self.scores.shape[1]), dim=1).indices
        return (top == torch.from_numpy(self.labels)[:, None]).any(1).numpy()

    @property
    def top1_error(self) -> float:
        """In per cent; NaN without images."""
        return error(self.hits(1))

    @property
    def top5_error(self) -> float:
        """In per cent; 0 by definition with at most five classes."""
        return error(self.hits(5))

    @property
    def top1_interval(self) -> tuple[float, float]:
        """95 % confidence interval of the top-1 error in per cent (Wilson): what the number of images allows to say."""
        return wilson_interval(len(self) - int(self.hits(1).sum()), len(self))

    @property
    def images_per_second(self) -> float:
        """Images tested per second, reading included."""
        return len(self) / self.seconds if self.seconds else math.nan

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz file that plain ``numpy.load`` reads, atomically.

        Arrays: ``path`` (names of the images), ``label``, ``top_class`` and ``top_score`` (N, k: the highest scores,
        best first), ``protocol``, ``classes``.
        """
        path = Path(path)
        top = torch.from_numpy(self.scores).topk(min(KEPT, self.scores.shape[1]), dim=1)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp.npz")
        try:
            np.savez_compressed(
                temporary,
                path=np.array([printable(name) for name in self.names], dtype=np.str_),
                label=self.labels.astype(np.int32),
                top_class=top.indices.numpy().astype(np.int32),
                top_score=top.values.numpy(),
                protocol=np.array(self.protocol),
                classes=np.array([printable(name) for name in self.classes], dtype=np.str_),
            )
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


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
        DataError: not a single image could be tested.
    """
    parts: Sequence[Predictions] = [mine]
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        received: list[Predictions] = [mine] * dist.get_world_size()
        dist.all_gather_object(received, mine)
        parts = received
    order = np.argsort(np.concatenate([part.indices for part in parts]), kind="stable")
    names = [name for part in parts for name in part.names]
    whole = Predictions(
        mine.protocol,
        mine.classes,
        np.concatenate([part.indices for part in parts])[order],
        [names[i] for i in order],
        np.concatenate([part.labels for part in parts])[order],
        np.concatenate([part.scores for part in parts])[order],
        mine.views,
        max(part.seconds for part in parts),
        [line for part in parts for line in part.bad],
    )
    if not len(whole):
        raise DataError(
            f"no image could be tested; the first: {whole.bad[0] if whole.bad else 'there are none'}"
        )
    return whole
