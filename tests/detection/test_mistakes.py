"""Confusions and mistakes at the edges of their rules, by hand."""

from __future__ import annotations

import numpy as np
import torch

from sppcls.detection.ap import Detections, judge
from sppcls.detection.boxes import as_boxes
from sppcls.detection.mistakes import confusion, worst
from sppcls.detection.truth import DetectionSet, Truth

OBJECT = [0, 0, 10, 10]
HALF, TENTH, LESS = [0, 0, 10, 5], [0, 0, 10, 1], [0, 0, 9, 1]  # overlaps of 0.5, 0.1 and 0.09 with it


def one_object(label: int) -> DetectionSet:
    truth = Truth(as_boxes([OBJECT]), np.array([label], np.int64), np.array([False]))
    return DetectionSet(
        "hand", "test", ("a", "b"), ("0",), ((99, 99),), (truth,),
        lambda i: torch.zeros(3, 99, 99, dtype=torch.uint8), str,
    )  # fmt: skip


def found(boxes: list[list[int]], labels: list[int], scores: list[float]) -> list[Detections]:
    return [Detections(as_boxes(boxes), np.array(labels, np.int64), np.array(scores, float))]


def test_an_overlap_of_just_a_half_is_on_the_object() -> None:
    assert confusion(one_object(0), found([HALF], [1], [1])).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert confusion(one_object(0), found([HALF], [1], [1]), 0.6)[2].tolist() == [0, 1, 0]


def test_the_surest_mistakes_of_all_classes_come_first() -> None:
    detections = found([LESS, HALF, TENTH, LESS, TENTH], [0, 1, 0, 1, 1], [5, 9, 7, 6, 8])
    images = one_object(0)
    mistakes = worst(images, detections, judge(images, detections))
    assert [(one.place, one.kind) for one in mistakes] == [
        (1, "a"), (4, "background"), (2, "place"), (3, "background"), (0, "background"),
    ]  # fmt: skip
    many = found([LESS] * 20, [n % 2 for n in range(20)], [20.0 - n for n in range(20)])
    assert [one.place for one in worst(images, many, judge(images, many))] == list(range(12))
