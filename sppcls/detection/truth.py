"""The images of a split and the objects in them, whatever they were read from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sppcls.data.sizes import Size
from sppcls.errors import DataError


@dataclass(frozen=True)
class Truth:
    """The objects of one image.

    Attributes:
        boxes: float64 (N, 4), see :mod:`sppcls.detection.boxes`.
        labels: int64 (N,), class numbers.
        difficult: bool (N,): neither an object to find nor background (VOC's difficult, COCO's crowds).
    """

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class DetectionSet:
    """The images of one split, and their objects.

    Attributes:
        name: what was read, in words.
        split: its name.
        classes: names of the classes.
        names: of the images, unique.
        sizes: (height, width) of each.
        truths: objects of each.
        image: uint8 (3, H, W) of image number i; raises ImageError.
        digest: what tells image number i from all others, by its content.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    truths: tuple[Truth, ...]
    image: Callable[[int], torch.Tensor]
    digest: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.names)

    def counts(self) -> np.ndarray:
        """Objects that are not difficult, by class: int (classes,)."""
        labels = [truth.labels[~truth.difficult] for truth in self.truths]
        return np.bincount(np.concatenate([*labels, np.empty(0, np.int64)]), minlength=len(self.classes))

    def as_classes(self, classes: Sequence[str]) -> DetectionSet:
        """The same images with the class numbers of a detector.

        Raises:
            DataError: the set has a class that the detector has not.
        """
        if unknown := [name for name in self.classes if name not in classes]:
            raise DataError(
                f"{self.name}: has class {unknown[0]!r}, which the detector does not know; it has {', '.join(classes)}"
            )
        number = np.array([list(classes).index(name) for name in self.classes], np.int64)
        truths = tuple(Truth(t.boxes, number[t.labels], t.difficult) for t in self.truths)
        return replace(self, classes=tuple(classes), truths=truths)
