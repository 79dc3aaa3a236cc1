"""Average precision against VOC's own procedure, written out, and cases by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from sppcls.detection.ap import Detections, judge, rank
from sppcls.detection.boxes import as_boxes, from_voc, to_voc
from sppcls.detection.truth import DetectionSet, Truth


def truth(boxes: object, difficult: Sequence[int] = (), labels: Sequence[int] = ()) -> Truth:
    found = as_boxes(boxes)
    hard = np.zeros(len(found), bool)
    hard[list(difficult)] = True
    return Truth(found, np.array(labels or [0] * len(found), np.int64), hard)


def detections(boxes: object, scores: Sequence[float], labels: Sequence[int] = ()) -> Detections:
    found = as_boxes(boxes)
    return Detections(found, np.array(labels or [0] * len(found), np.int64), np.array(scores, float))


def a_set(truths: Sequence[Truth], classes: Sequence[str] = ("a",)) -> DetectionSet:
    names = tuple(map(str, range(len(truths))))
    return DetectionSet(
        "hand",
        "test",
        tuple(classes),
        names,
        ((99, 99),) * len(names),
        tuple(truths),
        lambda i: torch.empty(0),
        str,
    )


A, B = [0, 0, 10, 10], [30, 0, 40, 10]


def test_a_second_box_on_an_object_is_wrong() -> None:
    found = rank([truth([A, B])], [detections([A, A, B], [3, 2, 1])], 0)
    assert found.right.tolist() == [True, False, True]
    # Precision 1, 1/2, 2/3 at recalls .5, .5, 1.
    eleven, every = found.average_precision()
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert every == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_the_object_of_the_largest_overlap_counts_even_if_it_is_taken() -> None:
    # Both boxes overlap the first object most, and the second one enough for COCO to take it.
    objects = [[0, 0, 10, 10], [0, 0, 10, 14]]
    found = rank([truth(objects)], [detections([[0, 0, 10, 10], [0, 0, 10, 11]], [2, 1])], 0)
    assert found.right.tolist() == [True, False]


def test_difficult_objects_count_neither_for_nor_against() -> None:
    found = rank([truth([A, B], difficult=[0])], [detections([A, A, [60, 60, 70, 70], B], [4, 3, 2, 1])], 0)
    assert found.right.tolist() == [False, True]
    assert found.numbers.tolist() == [2, 3]
    assert found.objects.tolist() == [1]


def test_an_overlap_of_one_half_is_enough() -> None:
    half, less = [0, 0, 10, 5], [0, 0, 10, 4.99]
    assert rank([truth([A])], [detections([half], [1])], 0).right.tolist() == [True]
    assert rank([truth([A])], [detections([less], [1])], 0).right.tolist() == [False]
    # In whole pixels as VOC counts them: 10 x 10 against 10 x 20.
    voc = from_voc(np.array([[1, 1, 10, 20], [1, 1, 10, 10]]))
    assert rank([truth(voc[:1])], [detections(voc[1:], [1])], 0).right.tolist() == [True]


def test_a_recall_of_three_tenths_exactly() -> None:
    objects = [[20 * i, 0, 20 * i + 10, 10] for i in range(10)]
    found = rank([truth(objects)], [detections(objects[:3], [3, 2, 1])], 0)
    eleven, every = found.average_precision()
    assert eleven == pytest.approx(4 / 11)  # at 0, .1, .2 and .3
    assert every == pytest.approx(0.3)


def test_nothing_found_and_nothing_to_find() -> None:
    images = a_set([truth([A]), truth([])], ("a", "b"))
    result = judge(images, [Detections.none(), detections([A], [1], [1])])
    assert result.classes[0].ap == {"11-point": 0, "all-point": 0}
    assert math.isnan(result.classes[1].ap["11-point"])
    assert [one.objects for one in result.classes] == [1, 0]
    assert result.mean == {"11-point": 0, "all-point": 0}  # over the classes that have objects


def vocs_procedure(truths: list[Truth], found: list[Detections], label: int) -> tuple[float, float]:
    """VOCevaldet.m, line by line, in VOC's boxes."""
    ids, boxes, scores = [], [], []
    for index, one in enumerate(found):
        for box, kind, score in zip(to_voc(one.boxes), one.labels, one.scores, strict=True):
            if kind == label:
                ids.append(index)
                boxes.append(box)
                scores.append(score)
    objects = [to_voc(t.boxes[t.labels == label]) for t in truths]
    hard = [t.difficult[t.labels == label] for t in truths]
    taken = [np.zeros(len(boxes_), bool) for boxes_ in objects]
    npos = sum(int((~h).sum()) for h in hard)
    tp, fp = np.zeros(len(ids)), np.zeros(len(ids))
    for d, place in enumerate(np.argsort(-np.array(scores), kind="stable")):
        bb, i = boxes[place], ids[place]
        ovmax, jmax = -np.inf, -1
        for j, gt in enumerate(objects[i]):
            iw = min(bb[2], gt[2]) - max(bb[0], gt[0]) + 1
            ih = min(bb[3], gt[3]) - max(bb[1], gt[1]) + 1
            if iw > 0 and ih > 0:
                ua = (
                    (bb[2] - bb[0] + 1) * (bb[3] - bb[1] + 1)
                    + (gt[2] - gt[0] + 1) * (gt[3] - gt[1] + 1)
                    - iw * ih
                )
                if iw * ih / ua > ovmax:
                    ovmax, jmax = iw * ih / ua, j
        if ovmax >= 0.5:
            if not hard[i][jmax]:
                tp[d] = not taken[i][jmax]
                fp[d] = taken[i][jmax]
                taken[i][jmax] = True
        else:
            fp[d] = 1
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    rec, prec = tp / npos, tp / np.maximum(tp + fp, 1)
    ap07 = sum(max(prec[rec >= t / 10 - 1e-12], default=0) / 11 for t in range(11))
    mrec, mpre = np.r_[0, rec, 1], np.r_[0, prec, 0]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    return ap07, float(sum((mrec[i + 1] - mrec[i]) * mpre[i + 1] for i in range(len(mrec) - 1)))


def random_case(seed: int, images: int = 12) -> tuple[list[Truth], list[Detections]]:
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        corners = rng.integers(0, 60, (rng.integers(0, 5), 2))
        boxes = np.hstack([corners, corners + rng.integers(8, 40, corners.shape)]).astype(float)
        truths.append(Truth(boxes, rng.integers(0, 2, len(boxes)), rng.random(len(boxes)) < 0.2))
        near = np.repeat(boxes, 2, 0) + rng.integers(-6, 7, (2 * len(boxes), 4))
        near = near[(near[:, 2:] > near[:, :2]).all(1)]
        # Few different scores, so that there are ties.
        found.append(Detections(near, rng.integers(0, 2, len(near)), rng.integers(0, 9, len(near)) / 9))
    return truths, found


@pytest.mark.parametrize("seed", range(12))
def test_vocs_own_procedure(seed: int) -> None:
    truths, found = random_case(seed)
    for label in (0, 1):
        # The same order of ties: by image, then as given.
        ranked = rank(truths, found, label).average_precision()
        assert ranked == pytest.approx(vocs_procedure(truths, found, label), abs=1e-12)


def test_a_draw_of_images_is_the_set_with_these_images() -> None:
    truths, found = random_case(3)
    ranking = rank(truths, found, 0)
    assert ranking.resampled(np.ones(12, np.int64)) == pytest.approx(ranking.average_precision())
    weights = np.array([2, 0, 1, 1, 0, 3, 1, 1, 0, 1, 2, 0])
    places = np.repeat(np.arange(12), weights)
    # Scores without ties, so that the order of equal images does not matter.
    found = [
        Detections(d.boxes, d.labels, d.scores + np.arange(len(d.scores)) * 1e-6 + i * 1e-9)
        for i, d in enumerate(found)
    ]
    again = rank([truths[i] for i in places], [found[i] for i in places], 0)
    assert rank(truths, found, 0).resampled(weights)[1] == pytest.approx(
        again.average_precision()[1], abs=0.02
    )
    low, high = judge(a_set(truths, ("a", "b")), found).classes[0].interval["11-point"]
    assert low < 100 * rank(truths, found, 0).average_precision()[0] < high
