"""Boxes against torchvision's operators and hand counts."""

from __future__ import annotations

import numpy as np
import torch
import torchvision

from sppcls.detection import boxes as B


def random_boxes(count: int, seed: int) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(0, 90, (count, 2))
    return np.hstack([corners, corners + np.random.default_rng(seed + 1).uniform(1, 60, (count, 2))])


def test_iou_and_nms_are_torchvisions() -> None:
    first, second = random_boxes(60, 0), random_boxes(40, 5)
    expected = torchvision.ops.box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    np.testing.assert_allclose(B.iou(first, second), expected, rtol=1e-12)
    scores = np.random.default_rng(2).normal(size=60)
    kept: list[int] = []  # greedily, from the definition
    for index in np.argsort(-scores):
        if all(B.iou(first[index : index + 1], first[k : k + 1])[0, 0] <= 0.3 for k in kept):
            kept.append(int(index))
    assert B.nms(first, scores, 0.3).tolist() == kept


def test_vocs_boxes_have_vocs_areas() -> None:
    # In VOC's code 10 x 10 pixels against 10 x 20: (10 * 10) / (10 * 20).
    voc = np.array([[1, 1, 10, 10], [1, 1, 10, 20]])
    ours = B.from_voc(voc)
    assert ours.tolist() == [[0, 0, 10, 10], [0, 0, 10, 20]]
    assert B.areas(ours).tolist() == [100, 200]
    assert B.iou(ours[:1], ours[1:]).tolist() == [[0.5]]
    assert (B.to_voc(ours) == voc).all()


def test_an_overlap_of_the_threshold_is_kept_and_the_first_of_equals_wins() -> None:
    pair = B.from_voc(np.array([[1, 1, 10, 10], [1, 1, 10, 20]]))
    assert B.nms(pair, np.array([1.0, 1.0]), 0.5).tolist() == [0, 1]
    assert B.nms(pair, np.array([1.0, 1.0]), 0.49).tolist() == [0]


def test_a_flipped_box_holds_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 9, (20, 31))
    left, top, right, bottom = B.flip(np.array([[3, 4, 11, 9]]), 31)[0]
    assert (image[:, ::-1][top:bottom, left:right] == image[4:9, 3:11][:, ::-1]).all()


def test_no_boxes() -> None:
    none = B.as_boxes([])
    assert B.iou(none, random_boxes(3, 0)).shape == (0, 3)
    assert B.nms(none, np.empty(0), 0.3).shape == (0,)
    assert B.clip(np.array([[-5.0, 2, 99, 50]]), (40, 60)).tolist() == [[0, 2, 60, 40]]
