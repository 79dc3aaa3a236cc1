"""Objects in photos, one after the other, and in the images of a set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sppcls.data.pixel_range import PixelRange, trained_pixel_range
from sppcls.data.sizes import Size
from sppcls.data.stream import load_each
from sppcls.detection.ap import Detections
from sppcls.detection.detector import Detector, read_pixels
from sppcls.detection.maps import KeptMaps
from sppcls.detection.progress import Progress, no_progress
from sppcls.detection.proposals import Proposer, propose
from sppcls.detection.truth import DetectionSet
from sppcls.errors import ImageError
from sppcls.inference.images import Given, given_images


@dataclass(frozen=True)
class Found:
    """What was found in a photo, or why nothing could be.

    Attributes:
        path: the photo; ``image 1``, ... for images in memory.
        size: (height, width) of the photo as it is seen.
        detections: objects, the surest first.
        error: why the photo could not be searched; None if it was.
    """

    path: Path
    size: Size = (0, 0)
    detections: Detections | None = None
    error: str | None = None


def detect(detector: Detector, places: Any, *, workers: int = 0) -> Iterator[Found]:
    """Find objects in images, and in all images in and below folders, in that order.

    Args:
        detector: from :func:`sppcls.load_detector`.
        places: as of :func:`sppcls.predict`.
        workers: processes that read photos and propose windows; 0: this one.

    Returns:
        an iterator of one :class:`Found` per image; boxes are in the photo as it is seen, EXIF rotation applied.

    Raises:
        ConfigError: no such kind of image, or OpenCV is missing.
        DataError: a place that does not exist, or a folder without an image.
    """
    pixel_range = trained_pixel_range(detector.regions.net.model_info)
    images = given_images(places, pixel_range)
    detector.proposer.check()
    return _found(detector, images, pixel_range, min(workers, len(images) // 2))


def _found(
    detector: Detector, images: Sequence[Given], pixel_range: PixelRange, workers: int
) -> Iterator[Found]:
    read = partial(_read, images, pixel_range, detector.proposer)
    for item in load_each(read, len(images), workers):
        given = images[item.index]
        path = given if isinstance(given, Path) else Path(f"image {item.index + 1}")
        if item.value is None:
            yield Found(path, error=item.error.removeprefix(f"{path}: "))
            continue
        pixels, windows = torch.from_numpy(item.value[0]), item.value[1]
        size = (pixels.shape[1], pixels.shape[2])
        try:
            with detector.timed("maps"):
                maps = detector.regions.maps(pixels)
        except ImageError as error:
            yield Found(path, error=str(error))
            continue
        found = detector.detect_on(maps, windows, size)
        yield Found(path, size, found[np.argsort(-found.scores, kind="stable")])


def _read(
    images: Sequence[Given], pixel_range: PixelRange, proposer: Proposer, index: int
) -> tuple[np.ndarray, np.ndarray]:
    pixels = read_pixels(images[index], pixel_range)
    return pixels.contiguous().numpy(), proposer(pixels)


def detect_set(
    detector: Detector,
    images: DetectionSet,
    proposer: Proposer | Path,
    cache: str | os.PathLike[str],
    *,
    workers: int = 0,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = no_progress,
) -> list[Detections]:
    """Detections in every image of a set, from windows and maps that are kept.

    Raises:
        ConfigError, DataError: as :func:`~sppcls.detection.proposals.propose` and
            :meth:`~sppcls.detection.maps.KeptMaps.make`.
    """
    cache, images = Path(cache), images.seen_as(trained_pixel_range(detector.regions.net.model_info))
    with detector.timed("windows"):
        windows = propose(images, proposer, cache, workers=workers, progress=progress("windows"))
    maps = KeptMaps(detector.regions, images, cache)
    with detector.timed("maps"):
        maps.make(say, progress("maps"))
    return [
        detector.detect_on(maps[index], windows[index], images.sizes[index])
        for index in progress("detecting")(range(len(images)), len(images))
    ]
