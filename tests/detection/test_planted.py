"""Squares planted in noise, whose place is known: where maps see them, and how near box regression comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from region_nets import make_net

from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import POOLED, RegionRules, Regions
from sppcls.detection.regression import train_regression
from sppcls.detection.truth import DetectionSet, Truth
from sppcls.detection.window_set import WindowSet, norm_factor

SIZE, SCALE = (120, 150), 240  # the map's stride of 16 pixels is 8 pixels of the image


def planted(count: int, seed: int) -> tuple[DetectionSet, list[torch.Tensor]]:
    """Images with a bright square each, and the same without it."""
    rng = np.random.default_rng(seed)
    empty = [torch.from_numpy(rng.integers(60, 90, (3, *SIZE), np.uint8)) for _ in range(count)]
    images, truths = [], []
    for one in empty:
        side = int(rng.integers(32, 64))
        left, top = (int(rng.integers(8, limit - side - 8)) for limit in (SIZE[1], SIZE[0]))
        image = one.clone()
        image[:, top : top + side, left : left + side] = 230
        images.append(image)
        box = np.array([[left, top, left + side, top + side]], np.float64)
        truths.append(Truth(box, np.zeros(1, np.int64), np.zeros(1, bool)))
    names = tuple(map(str, range(count)))
    return DetectionSet("planted", "train", ("square",), names, (SIZE,) * count, tuple(truths),
                        images.__getitem__, lambda i: f"planted-{seed}-{i}"), empty  # fmt: skip


def shaken(truth: Truth, count: int, rng: np.random.Generator) -> np.ndarray:
    """Windows around the object of an image, each edge off by up to 15 % of the side."""
    side = truth.boxes[0, 2] - truth.boxes[0, 0]
    windows = truth.boxes[0] + rng.uniform(-0.15, 0.15, (count, 4)) * side
    return np.clip(windows, 0, [SIZE[1], SIZE[0]] * 2)


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Regions:
    return Regions(make_net(tmp_path_factory.mktemp("planted")), RegionRules((SCALE,), region=96))


def test_the_cells_of_a_window_are_those_where_the_map_sees_it(regions: Regions) -> None:
    images, empty = planted(10, 0)
    for index, truth in enumerate(images.truths):
        with_square, without = (
            regions.map_at(image, SCALE).float() for image in (images.image(index), empty[index])
        )
        seen = (with_square - without).abs().sum(0).numpy()
        rows, columns = (np.flatnonzero(seen.max(axis) > 0.5 * seen.max()) for axis in (1, 0))
        _, top, left, bottom, right = regions.cells(truth.boxes, SIZE)[0]
        found = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
        cells = np.array([top, left, bottom, right])
        # Cells see more than their centre, alike on all sides: the response is wider, and has the same middle.
        assert (found[:2] <= cells[:2] + 1).all()
        assert (found[2:] >= cells[2:] - 1).all()
        assert np.abs((found[:2] + found[2:]) / 2 - (cells[:2] + cells[2:]) / 2).max() <= 1


def test_regression_finds_edges_within_half_a_cell(regions: Regions, tmp_path: Path) -> None:
    images, _ = planted(40, 1)
    rng = np.random.default_rng(2)
    windows = [shaken(truth, 40, rng) for truth in images.truths]
    learning = WindowSet(images, windows, regions, KeptMaps(regions, images, tmp_path))
    regression = train_regression(learning, norm_factor(learning, POOLED), 1.0)
    judged, _ = planted(10, 3)
    before, after = [], []
    for index, truth in enumerate(judged.truths):
        boxes = shaken(truth, 20, rng)
        rows = regions.pool(regions.maps(judged.image(index)), regions.cells(boxes, SIZE)).numpy()
        moved = regression(0, rows, boxes, SIZE)
        before.append(np.abs(boxes - truth.boxes))
        after.append(np.abs(moved - truth.boxes))
    half_a_cell = regions.net.backbone.stride * SIZE[0] / SCALE / 2
    assert np.mean(after) < half_a_cell
    assert np.mean(after) < 0.7 * np.mean(before)
