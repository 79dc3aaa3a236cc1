"""Uneven classes: how often the images of each class are drawn, and what each class weighs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sppcls._util.near import suggest
from sppcls.data.label_sets import LabelSets
from sppcls.data.names import some
from sppcls.data.sampler import permutation
from sppcls.data.seeding import derive
from sppcls.errors import ConfigError

BALANCED, PLAIN = "balanced", "plain"

# Times as many training images in the largest class as in the smallest, from which classes are called uneven.
UNEVEN = 3


def class_counts(targets: Sequence[Any], num_classes: int) -> list[int]:
    """Number of images of each class."""
    if isinstance(targets, LabelSets):
        return [int(count) for count in targets.counts(num_classes)]
    counts: list[int] = np.bincount(np.asarray(targets, dtype=np.int64), minlength=num_classes).tolist()
    return counts


def without_image(classes: Sequence[str], targets: Sequence[Any]) -> list[str]:
    """The classes that have no image."""
    counts = class_counts(targets, len(classes))
    return [name for name, count in zip(classes, counts, strict=True) if not count]


def class_weights(
    key: str, value: Any, classes: Sequence[str], counts: Sequence[int], images: int | None = None
) -> list[float]:
    """The weight of each class that a config key gives.

    Args:
        key: its name, for messages.
        value: ``balanced``, n / (classes x images of the class), whose mean over the images is 1; or numbers > 0, as a
            list in the order of the classes or by name, where classes that are not named have 1.
        classes: their names.
        counts: training images of each.
        images: number of all training images, where they have several labels: ``balanced`` is then the images without the
            label over those with it.

    Raises:
        ConfigError: a class without an image, one that does not exist, or a weight that is no number > 0.
    """
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        raise ConfigError(
            f"{key}: class {some(empty)} has no training image; add some, or take the class out"
        )
    if value == BALANCED and images is not None:
        return [max(1, images - count) / count for count in counts]
    if value == BALANCED:
        return [sum(counts) / (len(counts) * count) for count in counts]
    given = {str(name): weight for name, weight in value.items()} if isinstance(value, Mapping) else None
    if given is None:
        if len(value) != len(classes):
            raise ConfigError(
                f"{key}: {len(value)} numbers for {len(classes)} classes ({', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''})"
            )
        given = dict(zip(classes, value, strict=True))
    for name, weight in given.items():
        if name not in classes:
            raise ConfigError(
                f"{key}: there is no class {name!r}{suggest(name, classes)}; the classes: {', '.join(classes[:8])}{', ...' if len(classes) > 8 else ''}"
            )
        check_weight(key, name, weight)
    return [float(given.get(name, 1.0)) for name in classes]


def check_weight(key: str, name: str, weight: Any) -> None:
    """Refuse what is no weight.

    Raises:
        ConfigError: names the key and the class.
    """
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 < weight < float("inf"):
        raise ConfigError(f"{key}: the weight of class {name} is {weight}; it must be a finite number > 0")


def image_weights(
    sampler: Any, balance: float, classes: Sequence[str], counts: Sequence[int]
) -> list[float] | None:
    """How often each image of a class is drawn, relative to the others; None where all are drawn equally often.

    Args:
        sampler: ``data.sampler``.
        balance: of ``balanced``: 1 draws all classes equally often, 0 all images.
        classes, counts: their names and training images.

    Raises:
        ConfigError: as of :func:`class_weights`.
    """
    if sampler == PLAIN:
        return None
    return [
        weight ** (balance if sampler == BALANCED else 1)
        for weight in class_weights("data.sampler", sampler, classes, counts)
    ]


class WeightedOrder:
    """An endless stream of images in blocks of as many as there are, some classes drawn more often than others.

    A block holds the expected number of images of each class, rounded up or down, in mixed order. The images of a class
    come in one permutation of them after the other, from block to block, so none is drawn twice before all are.
    Everything is a function of (seed, block).

    Args:
        targets: class of each image; no class is empty.
        weights: > 0, of each image of a class.
        seed: run seed.
    """

    def __init__(self, targets: Sequence[int], weights: Sequence[float], seed: int) -> None:
        numbers = np.asarray(targets, dtype=np.int64)
        counts = np.bincount(numbers, minlength=len(weights))
        by_class = torch.from_numpy(np.argsort(numbers, kind="stable"))
        self.n, self.seed = len(numbers), seed
        self._members = by_class.split(counts.tolist())
        shares = counts * np.asarray(weights, dtype=np.float64)
        expected = self.n * shares / shares.sum()
        self._whole = np.floor(expected).astype(np.int64)
        # Systematic sampling of what is left: each class gets one more with its probability, their sum always fits.
        rest = np.concatenate([[0.0], np.cumsum(expected - self._whole)])
        rest[-1] = self.n - self._whole.sum()
        self._rest = rest
        self._before = [np.zeros_like(self._whole)]

    def counts(self, number: int) -> np.ndarray:
        """Images of each class in a block, int64 (classes,)."""
        offset = derive(self.seed, "balance", number) / 2**63
        counts: np.ndarray = self._whole + np.diff(np.floor(self._rest + offset)).astype(np.int64)
        return counts

    def __call__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(passes, images) of a block, int64 (n,) each: how often all images of its class were drawn before, and which
        image it is."""
        while len(self._before) <= number:
            self._before.append(self._before[-1] + self.counts(len(self._before) - 1))
        passes, images = [], []
        for label, count in enumerate(self.counts(number).tolist()):
            members, first = self._members[label], int(self._before[number][label])
            drawn = torch.arange(first, first + count)
            passes.append(drawn // len(members))
            seed = derive(self.seed, "class", label)
            for turn in passes[-1].unique().tolist():
                order = permutation(len(members), seed, turn)
                images.append(members[order[drawn[passes[-1] == turn] % len(members)]])
        mixed = permutation(self.n, derive(self.seed, "mixed"), number)
        return torch.cat(passes)[mixed], torch.cat(images)[mixed]
