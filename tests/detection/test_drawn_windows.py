"""Which windows box regression and fine-tuning learn from, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from region_nets import make_net

from sppcls.detection import regression
from sppcls.detection.boxes import as_boxes
from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.detection.regression import BoxRegression, apply_offsets
from sppcls.detection.truth import DetectionSet, Truth
from sppcls.detection.tuning import _block, candidates, with_background
from sppcls.detection.window_set import WindowSet
from sppcls.errors import DataError

SIDE = 200
OBJECT, HARD = [0, 0, 100, 100], [100, 100, 200, 200]


def windows_of(
    folder: Path, *images: tuple[list[list[int]], list[int], list[bool], list[list[int]]]
) -> WindowSet:
    """Of images with objects, their labels, whether they are difficult, and windows."""
    truths = tuple(
        Truth(as_boxes(boxes), np.array(labels, np.int64), np.array(difficult, bool))
        for boxes, labels, difficult, _ in images
    )
    names = tuple(map(str, range(len(images))))
    found = DetectionSet(
        "hand", "train", ("a", "b"), names, ((SIDE, SIDE),) * len(images), truths,
        lambda i: torch.zeros(3, SIDE, SIDE, dtype=torch.uint8), str,
    )  # fmt: skip
    regions = Regions(make_net(folder), RegionRules((160,), region=96))
    return WindowSet(
        found, [as_boxes(windows) for *_, windows in images], regions, KeptMaps(regions, found, folder)
    )


def test_objects_and_background_are_told_apart_by_their_overlap(tmp_path: Path) -> None:
    # A difficult object lies over the lower half of the first.
    difficult = [0, 50, 100, 150]
    # Overlaps with the first of 0.5, 0.49, 0.1 and 0.09, and of 0.105 twice; the last two with the difficult one 0.5 and 0.4965.
    windows = [
        [0, 0, 100, 50],
        [0, 0, 100, 49],
        [0, 0, 100, 10],
        [0, 0, 100, 9],
        [0, 80, 100, 190],
        [0, 80, 100, 191],
    ]
    learned = windows_of(
        tmp_path, ([OBJECT, difficult], [1, 0], [False, True], windows), ([], [], [], [OBJECT])
    )
    objects, background = candidates(learned)
    assert objects[0].tolist() == [[0, 1], [2, 1]]
    assert background[0].tolist() == [[3, 2], [4, 2], [7, 2]]
    assert len(objects[1]) == len(background[1]) == 0


@pytest.mark.parametrize(
    ("windows", "line"), [([[0, 0, 100, 9]], "hand.*by 0.1 to 0.5"), ([[0, 0, 100, 40]], None)]
)
def test_there_must_be_windows_of_both_kinds(
    windows: list[list[int]], line: str | None, tmp_path: Path
) -> None:
    learned = windows_of(tmp_path, ([OBJECT], [0], [False], windows))
    if line is None:
        candidates(learned)
    else:
        with pytest.raises(DataError, match=line):
            candidates(learned)
    with pytest.raises(DataError, match=r"no window overlaps an object by 0\.5 or more"):
        candidates(windows_of(tmp_path, ([HARD], [0], [True], [OBJECT])))


def test_a_block_has_windows_of_both_kinds_with_their_labels(tmp_path: Path) -> None:
    near = [[0, 0, 100, 50 + n % 50] for n in range(90)]
    far = [[0, 0, 100, 10 + n % 39] for n in range(250)]
    learned = windows_of(
        tmp_path, ([OBJECT], [1], [False], near + far), ([], [], [], [HARD]), ([HARD], [0], [False], [HARD])
    )
    objects, background = candidates(learned)
    pooled, labels, foreground = _block(learned, objects, background, 0, 0)
    assert foreground == 64 + 2  # of an image at most 64 and 192
    assert labels[:foreground].tolist() == [1] * 64 + [0] * 2
    assert labels[foreground:].tolist() == [2] * 192
    assert len(pooled) == len(labels)
    again, other = (_block(learned, objects, background, 0, block)[0] for block in (0, 1))
    assert torch.equal(pooled, again)
    assert not torch.equal(pooled, other)


def test_regression_learns_from_windows_over_a_half_and_from_so_many_of_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = [[0, 0, 100, 50], [0, 0, 100, 51], *([0, 0, 100, n] for n in range(60, 70)), HARD]
    images = (([OBJECT], [1], [False], windows), ([HARD], [0], [False], [OBJECT]))
    learned = windows_of(tmp_path, *images)
    rows = regression._choose(learned, 2).tolist()  # of (image, window, class)
    # The object itself, and not the window of just a half.
    assert rows == [[0, 0, 1], *([0, place, 1] for place in range(2, 13)), [1, 0, 0]]
    monkeypatch.setattr(regression, "_MOST_WINDOWS", 5)
    drawn = regression._choose(learned, 2).tolist()
    assert [row[2] for row in drawn] == [1] * 5 + [0]
    assert all(row in rows for row in drawn)
    assert drawn == sorted(drawn)
    monkeypatch.setattr(regression, "_MOST_WINDOWS", 12)
    assert regression._choose(learned, 2).tolist() == rows


def test_no_side_becomes_more_than_55_times_as_long_and_no_box_leaves_the_image() -> None:
    box = np.array([[10.0, 20, 30, 60]])
    far = apply_offsets(box, np.array([[0, 0, 100.0, -100.0]]))[0]
    assert (far[2] - far[0], far[3] - far[1]) == pytest.approx((20 * np.exp(4), 40 * np.exp(-4)))
    weight, bias = np.zeros((2, 4, 3), np.float32), np.zeros((2, 4), np.float32)
    weight[1, :, 1] = 1, 1, 0, 0  # by its sides
    moved = BoxRegression(weight, bias)(1, np.array([[0.0, 1, 0]]), box, (90, 45))
    assert moved.tolist() == [[30, 60, 45, 90]]  # of an image of 90 x 45
    assert BoxRegression(weight, bias)(0, np.array([[0.0, 1, 0]]), box, (90, 45)).tolist() == box.tolist()


def test_the_new_last_layer_is_small_and_follows_the_seed(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    first, again, other = (with_background(net, ("x", "y"), seed).head.last for seed in (0, 0, 1))
    assert first.weight.shape == (3, 12)
    assert first.weight.std().item() == pytest.approx(0.01, rel=0.4)
    assert not first.bias.any()
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert net.head.last.weight.shape == (4, 12)
