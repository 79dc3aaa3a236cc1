"""The images of a split and the objects in them, whatever they were read from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sppcls.data.decode import read_image
from sppcls.data.pixel_range import PixelRange
from sppcls.data.sizes import Size
from sppcls.errors import DataError


class Files:
    """Images in files; a class, so that worker processes can be handed it.

    Args:
        paths: of the images.
        pixel_range: which values of grey images of more than 8 bits are black and white.
    """

    def __init__(self, paths: Sequence[str | Path], pixel_range: PixelRange = "full") -> None:
        self.paths, self.pixel_range = list(map(str, paths)), pixel_range

    def __call__(self, index: int) -> torch.Tensor:
        """uint8 (3, H, W) of image number ``index``; raises ImageError."""
        return read_image(self.paths[index], pixel_range=self.pixel_range)

    def digest(self, index: int) -> str:
        """What tells an image from all others; raises DataError."""
        try:
            data = Path(self.paths[index]).read_bytes()
        except OSError as error:
            raise DataError(f"{self.paths[index]}: cannot be read ({error.strerror})") from None
        seen_as = b"" if self.pixel_range == "full" else repr(self.pixel_range).encode()
        return hashlib.blake2b(data + seen_as, digest_size=16).hexdigest()


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

    def seen_as(self, pixel_range: PixelRange) -> DetectionSet:
        """The same images as a network takes them that was trained with a range of pixels."""
        if not isinstance(self.image, Files) or self.image.pixel_range == pixel_range:
            return self
        files = Files(self.image.paths, pixel_range)
        return replace(self, image=files, digest=files.digest)

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
