"""The windows of a set's images with their features: what SVMs, regression and fine-tuning learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from sppcls.detection.boxes import iou
from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import POOLED, Regions, unique_cells
from sppcls.detection.truth import DetectionSet

_KEPT_BYTES = 1 << 29  # of features that stay in memory; the others are made anew each time


class WindowSet:
    """Objects and proposals of every image, the objects first.

    Args:
        images: the set.
        windows: proposals of each image.
        regions: the network; ``maps`` may have been made with another head.
        maps: of the same images.

    Attributes:
        boxes: float64 (N, 4) of each image.
        overlaps: float32 (N, objects): IoU of each window with each object.
        cells: int64 (U, 5) of each image: different cells, in order of their first window.
        places: int64 (N,) of each image: the row of ``cells`` of each window.
    """

    def __init__(
        self, images: DetectionSet, windows: Sequence[np.ndarray], regions: Regions, maps: KeptMaps
    ) -> None:
        self.images, self.regions, self.maps = images, regions, maps
        self.boxes = [np.vstack([t.boxes, w]) for t, w in zip(images.truths, windows, strict=True)]
        self.overlaps = [
            iou(boxes, truth.boxes).astype(np.float32)
            for boxes, truth in zip(self.boxes, images.truths, strict=True)
        ]
        found = [
            unique_cells(regions.cells(boxes, size))
            for boxes, size in zip(self.boxes, images.sizes, strict=True)
        ]
        self.cells, self.places = [cells for cells, _ in found], [places for _, places in found]
        self._kept: dict[tuple[int, str], np.ndarray] = {}
        self._room = _KEPT_BYTES

    def __len__(self) -> int:
        return len(self.images)

    def pooled(self, index: int, rows: np.ndarray | None = None) -> Tensor:
        """Pooled vectors of an image's cells, or of some rows of them."""
        cells = self.cells[index]
        return self.regions.pool(self.maps[index], cells if rows is None else cells[rows])

    def features(self, index: int, layer: str, rows: np.ndarray | None = None) -> np.ndarray:
        """A layer's output for an image's cells (U, D), or for some rows of them, float32."""
        if rows is not None:
            return self.regions.layer(self.pooled(index, rows), layer).cpu().numpy()
        key = (index, layer)
        if key not in self._kept:
            found = self.regions.layer(self.pooled(index), layer).cpu().numpy()
            # Pooled vectors are quicker made than kept.
            if layer == POOLED or found.nbytes > self._room:
                return found
            self._room -= found.nbytes
            self._kept[key] = found
        return self._kept[key]

    def sample(self, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
        """At most 200 images and rows of 200 cells of each, drawn at random."""
        for index in rng.permutation(len(self))[:200]:
            yield int(index), np.sort(rng.permutation(len(self.cells[index]))[:200])

    def overlap_with(self, index: int, label: int) -> np.ndarray:
        """The largest IoU of each *cell's* windows with an object of a class, difficult ones too: float32 (U,)."""
        of_class = self.images.truths[index].labels == label
        by_window = self.overlaps[index][:, of_class].max(1, initial=0)
        result = np.zeros(len(self.cells[index]), np.float32)
        np.maximum.at(result, self.places[index], by_window)
        return result

    def best_object(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """For each window the largest IoU with an object that is not difficult, and its number (-1: there is none)."""
        overlaps = np.where(self.images.truths[index].difficult, -1, self.overlaps[index])
        if overlaps.shape[1] == 0:
            return np.zeros(len(overlaps)), np.full(len(overlaps), -1)
        number = overlaps.argmax(1)
        best = overlaps[np.arange(len(overlaps)), number]
        return np.maximum(best, 0), np.where(best >= 0, number, -1)


def norm_factor(windows: WindowSet, layer: str, seed: int = 0) -> float:
    """What a layer's vectors are multiplied by to have a norm of 20 on average (the authors' code).

    So one C fits every layer. Measured on a sample of windows.
    """
    total, count = 0.0, 0
    for index, rows in windows.sample(np.random.default_rng([seed, 20])):
        norms = np.linalg.norm(windows.features(index, layer, rows), axis=1)
        total, count = total + float(norms.sum(dtype=np.float64)), count + len(norms)
    return 20 * count / total if total > 0 else 1.0
