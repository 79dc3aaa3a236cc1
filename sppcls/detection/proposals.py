"""Windows that may hold an object: selective search, a dense grid, or a file of the user's (He et al. 2015, sec. 4.1).

The windows of an image and their order depend on its pixels and the settings alone. OpenCV gives them in another order
every time, so they are sorted and then shuffled by a number made from the pixels: the first n are a fair sample.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sppcls.data.geometry import resize
from sppcls.data.seeding import derive
from sppcls.data.sizes import Size
from sppcls.data.stream import load_each
from sppcls.detection.boxes import clip, iou
from sppcls.detection.progress import Wrap, unseen
from sppcls.detection.store import Store
from sppcls.detection.truth import DetectionSet
from sppcls.detection.window_files import read_windows, windows_of
from sppcls.errors import ConfigError, ImageError

METHODS = ("selective_search", "grid")
_SEARCHED_SIDE = 500  # pixels; VOC's photos have that, and windows of 20 pixels are the smallest there
_LEAST_SIDE = 20


@dataclass(frozen=True)
class Proposer:
    """How windows are proposed.

    Attributes:
        method: one of :data:`METHODS`.
        limit: the most windows of an image.
        k: of selective search, the scale of its first segmentation and the step to the next. 50 gives the paper's
            50 and 100, about 2,000 windows of a photo of 500 pixels; OpenCV's own 150 gives 700.
    """

    method: str = "selective_search"
    limit: int = 2000
    k: int = 50

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"proposals {self.method!r}: choose from {', '.join(METHODS)}, or a file")
        for name, value in (("limit", self.limit), ("k", self.k)):
            if value < 1:
                raise ConfigError(f"{name} {value}: must be at least 1")

    def check(self) -> None:
        """Raise ConfigError, with what to install, if windows cannot be proposed here."""
        if self.method == "selective_search":
            _ximgproc()

    @property
    def name(self) -> str:
        """What the windows are kept under: another OpenCV may find others."""
        if self.method == "grid":
            return f"grid-{self.limit}"
        _ximgproc()
        from cv2 import __version__

        return f"search-{__version__}-k{self.k}-{self.limit}"

    def __call__(self, image: torch.Tensor) -> np.ndarray:
        """Windows of uint8 (3, H, W): float64 (N, 4), N from 1 to ``limit``."""
        size = (image.shape[1], image.shape[2])
        if self.method == "grid":
            return grid(size, self.limit)
        pixels = hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8).hexdigest()
        return _drawn(selective_search(image, self.k), self.limit, "windows", pixels)


def _drawn(found: np.ndarray, limit: int, *key: Any) -> np.ndarray:
    """At most so many windows, in an order that follows from the key."""
    order = list(range(len(found)))
    random.Random(derive(*key)).shuffle(order)
    return found[order[:limit]]


def selective_search(image: torch.Tensor, k: int = 50) -> np.ndarray:
    """Selective search (Uijlings et al. 2013), "fast", in a fixed order.

    A larger image is searched at a longer side of 500 pixels, and the windows are mapped back.

    Args:
        image: uint8 (3, H, W), RGB.
        k: see :class:`Proposer`.

    Returns:
        float64 (N, 4), sides of 20 pixels or more where it was searched; the whole image if there is none.

    Raises:
        ConfigError: OpenCV is not installed, or has no selective search.
    """
    segmentation = _ximgproc()
    import cv2

    height, width = image.shape[1:]
    longer = max(height, width)
    searched = image
    if longer > _SEARCHED_SIDE:
        sides = (max(1, round(side * _SEARCHED_SIDE / longer)) for side in (height, width))
        searched = resize(image, (next(sides), next(sides)))
    cv2.setNumThreads(1)
    search = segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(searched.flip(0).permute(1, 2, 0).numpy()))
    search.switchToSelectiveSearchFast(k, k, 0.8)
    found = np.asarray(search.process(), np.float64).reshape(-1, 4)
    size = np.array([searched.shape[2], searched.shape[1]], np.float64)
    found = found[(found[:, 2:] >= np.minimum(_LEAST_SIDE, size)).all(1)]
    found[:, 2:] += found[:, :2]
    found = np.unique(found, axis=0) * np.tile([width / size[0], height / size[1]], 2)
    return clip(found, (height, width)) if len(found) else np.array([[0.0, 0.0, width, height]])


def grid(size: Size, limit: int = 2000) -> np.ndarray:
    """Windows of many sizes and three aspects, evenly over an image of (height, width), as dense as ``limit`` allows.

    Needs no OpenCV; its recall is lower.
    """
    steps = np.geomspace(0.05, 1.5, 100)
    step = next(
        (step for step in steps if sum(ny * nx for *_, ny, nx in _layers(size, step)) < limit), steps[-1]
    )
    rows = [np.array([[0.0, 0.0, size[1], size[0]]])]
    for h, w, ny, nx in _layers(size, step):
        y, x = np.meshgrid(np.linspace(0, size[0] - h, ny), np.linspace(0, size[1] - w, nx))
        rows.append(np.stack([x, y, x + w, y + h], 2).reshape(-1, 4))
    return _drawn(clip(np.unique(np.concatenate(rows), axis=0), size), limit, "grid", *size)


def _layers(size: Size, step: float) -> list[tuple[float, float, int, int]]:
    """Sides of windows that move by ``step`` times these, and how often they fit: height, width, rows, columns."""
    height, width = size
    side = float(min(height, width))
    least = min(_LEAST_SIDE * max(1.0, max(height, width) / _SEARCHED_SIDE), side)
    layers = []
    while side >= least:
        for aspect in (0.5, 1.0, 2.0):
            h, w = min(side / aspect**0.5, height), min(side * aspect**0.5, width)
            layers.append((h, w, 1 + round((height - h) / (step * h)), 1 + round((width - w) / (step * w))))
        side /= 2**0.5
    return layers


def _ximgproc() -> Any:
    """OpenCV's selective search, asked for by what it can do: packages of several names bring ``cv2``."""
    try:
        import cv2
    except ImportError:
        raise ConfigError(
            'selective search needs OpenCV: pip install "sppcls[detect]"; --proposals grid needs nothing'
        ) from None
    part = getattr(getattr(cv2, "ximgproc", None), "segmentation", None)
    if part is None:
        raise ConfigError(
            "this OpenCV has no selective search (cv2.ximgproc): pip uninstall opencv-python opencv-python-headless, then "
            'pip install "sppcls[detect]"; --proposals grid needs nothing'
        )
    return part


def make_proposer(proposals: str, limit: int = 2000, k: int = 50) -> Proposer | Path:
    """A :class:`Proposer` of one of :data:`METHODS`, or the path of a file of windows.

    Raises:
        ConfigError: neither, or OpenCV is not installed for selective search.
    """
    if proposals not in METHODS and (Path(proposals).exists() or Path(proposals).suffix):
        return Path(proposals)
    proposer = Proposer(proposals, limit, k)
    proposer.check()
    return proposer


def propose(
    images: DetectionSet, proposer: Proposer | Path, cache: Path, *, workers: int = 0, progress: Wrap = unseen
) -> list[np.ndarray]:
    """The windows of every image of a set; those that were made before are read, the others made and kept.

    Args:
        images: the set.
        proposer: how; or a file of windows, see :mod:`sppcls.detection.window_files`.
        cache: folder to keep them in.
        workers: processes that search; 0: this one.
        progress: wraps what is being made.

    Raises:
        DataError: an image cannot be read, or the file has no windows of it.
    """
    if isinstance(proposer, Path):
        read = read_windows(proposer)
        pairs = zip(images.names, images.sizes, strict=True)
        return [windows_of(read, name, size, proposer) for name, size in pairs]
    store = Store(cache / "windows" / proposer.name)
    digests = [images.digest(index) for index in range(len(images))]
    kept = map(store.get, digests)
    found = {index: arrays["boxes"] for index, arrays in enumerate(kept) if arrays is not None}
    missing = [index for index in range(len(images)) if index not in found]
    making = load_each(partial(_windows, images, proposer), len(images), workers, missing)
    for one in progress(making, len(missing)) if missing else ():
        if one.value is None:
            raise ImageError(one.error)
        found[one.index] = one.value
        store.put(digests[one.index], boxes=one.value)
    return [found[index] for index in range(len(images))]


def _windows(images: DetectionSet, proposer: Proposer, index: int) -> np.ndarray:
    return proposer(images.image(index))


def recall(
    images: DetectionSet, windows: Sequence[np.ndarray], first: int, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Objects that one of an image's first windows overlaps by ``threshold`` (IoU) or more, and all: int (classes,).

    Difficult objects do not count.
    """
    hit = np.zeros(len(images.classes), np.int64)
    for truth, boxes in zip(images.truths, windows, strict=True):
        best = iou(truth.boxes, boxes[:first]).max(1, initial=0)
        found = truth.labels[(best >= threshold) & ~truth.difficult]
        hit += np.bincount(found, minlength=len(hit))
    return hit, images.counts()
