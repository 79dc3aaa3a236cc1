"""COCO's figures: the hand-over to pycocotools, and our own average precision against it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from sppcls.detection.ap import Detections, judge
from sppcls.detection.coco import coco_figures
from sppcls.detection.truth import DetectionSet, Truth

pytest.importorskip("pycocotools")
CLASSES = ("cat", "dog")


def images_of(truths: Sequence[Truth]) -> DetectionSet:
    count = len(truths)
    return DetectionSet("hand", "test", CLASSES, tuple(map(str, range(count))), ((100, 100),) * count, tuple(truths),
                        lambda i: torch.zeros(3, 100, 100, dtype=torch.uint8), str)  # fmt: skip


def truth(*objects: tuple[int, list[float], bool]) -> Truth:
    labels, boxes, hard = zip(*objects, strict=True) if objects else ((), (), ())
    return Truth(np.array(boxes, float).reshape(-1, 4), np.array(labels, np.int64), np.array(hard, bool))


def found(*rows: tuple[int, float, list[float]]) -> Detections:
    labels, scores, boxes = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(np.array(boxes, float).reshape(-1, 4), np.array(labels, np.int64), np.array(scores))


def test_figures_by_hand() -> None:
    # The cat overlaps by 0.8, so it is right up to IoU 0.8: at 7 of 10. The dog is right at all of them.
    images = images_of([truth((0, [0, 0, 10, 10], False), (1, [50, 50, 70, 90], False))])
    figures = coco_figures(images, [found((0, 0.9, [0, 0, 10, 8]), (1, 0.8, [50, 50, 70, 90]))])
    assert figures == pytest.approx({"AP": 100 * (0.7 + 1) / 2, "AP50": 100, "AP75": 100})


def test_difficult_objects_count_neither_for_nor_against() -> None:
    images = images_of(
        [truth((0, [0, 0, 10, 10], False), (0, [40, 40, 60, 60], True), (1, [0, 0, 9, 9], False))]
    )
    found_them = [found((0, 0.9, [40, 40, 60, 60]), (0, 0.8, [0, 0, 10, 10]))]
    assert coco_figures(images, found_them)["AP50"] == pytest.approx(50)  # cats all, no dog


def test_nothing_found_and_nothing_to_find() -> None:
    assert coco_figures(images_of([truth((0, [0, 0, 9, 9], False))]), [found()])["AP"] == 0
    assert np.isnan(coco_figures(images_of([truth()]), [found((0, 0.5, [0, 0, 9, 9]))])["AP"])


def test_our_ranking_gives_cocos_figure_where_the_rules_agree() -> None:
    # One object of a class in an image leaves no second-best object. None is difficult: COCO sets the overlap with a crowd
    # over the area of the detection alone.
    rng = np.random.default_rng(0)
    truths, detections = [], []
    for _ in range(60):
        boxes, rows = [], []
        for label in range(2):
            left, top = rng.uniform(0, 50, 2)
            box = [left, top, left + rng.uniform(15, 45), top + rng.uniform(15, 45)]
            boxes.append((label, box, False))
            for _ in range(int(rng.integers(0, 4))):
                moved = (np.array(box) + rng.normal(0, 4, 4)).tolist()
                rows.append((label, float(rng.random()), moved))
        truths.append(truth(*boxes))
        detections.append(found(*rows))
    images = images_of(truths)
    for least, measure in ((0.5, "AP50"), (0.75, "AP75")):
        result = judge(images, detections, least)
        expected = []
        for ranking in result.rankings:
            recall, precision = ranking.curve()
            points = np.linspace(0, 1, 101)
            best = [precision[recall >= point].max(initial=0) for point in points]
            expected.append(100 * np.mean(best))
        assert 5 < np.mean(expected) < 95
        assert coco_figures(images, detections)[measure] == pytest.approx(np.mean(expected), abs=0.05)
