"""What every layout of images with boxes is read as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sppcls.data.kinds import readable_extensions
from sppcls.errors import DataError


@dataclass(frozen=True)
class Annotated:
    """An image file and its objects as an annotation says, not checked yet.

    Attributes:
        name: unique in the split.
        path: the file.
        where: the annotation, for messages.
        boxes: float64 (N, 4), or of units ``relative`` to the image's width and height.
        labels: class numbers.
        difficult: (N,).
        relative: boxes are in 0..1.
    """

    name: str
    path: Path
    where: str
    boxes: np.ndarray
    labels: Sequence[int]
    difficult: Sequence[bool]
    relative: bool = False


class Format(Protocol):
    """A layout that was recognised."""

    kind: str

    def splits(self) -> list[str]:
        """Names of the splits."""

    def read(self, split: str) -> tuple[list[str], list[Annotated]]:
        """Classes and images of a split."""


def text_of(path: Path) -> str:
    """The text of a file; raises DataError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def photo_of(folder: Path, stem: str) -> Path:
    """The image file ``folder/stem.*``, or the path that VOC would give it."""
    for end in (".jpg", ".jpeg", ".png", *readable_extensions()):
        for name in (stem + end, stem + end.upper()):
            if (folder / name).is_file():
                return folder / name
    return folder / f"{stem}.jpg"
