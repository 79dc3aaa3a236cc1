"""Scores worth showing, confusions, mistakes, pictures and combinations, counted by hand."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from region_nets import save_net
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sppcls
from sppcls.cli.main import main
from sppcls.detection.ap import Detections, judge, rank
from sppcls.detection.boxes import as_boxes
from sppcls.detection.combine import combine, renumbered
from sppcls.detection.mistakes import confusion, worst
from sppcls.detection.truth import DetectionSet, Truth

A, B, C, FAR = [0, 0, 10, 10], [30, 0, 40, 10], [0, 30, 10, 40], [70, 70, 80, 80]


def truth(boxes: object, labels: Sequence[int], difficult: Sequence[bool] = ()) -> Truth:
    return Truth(
        as_boxes(boxes), np.array(labels, np.int64), np.array(difficult or [False] * len(labels), bool)
    )


def found(boxes: object, labels: Sequence[int], scores: Sequence[float]) -> Detections:
    return Detections(as_boxes(boxes), np.array(labels, np.int64), np.array(scores, float))


def a_set(*truths: Truth) -> DetectionSet:
    names = tuple(map(str, range(len(truths))))
    return DetectionSet(
        "hand", "test", ("a", "b"), names, ((99, 99),) * len(names), truths,
        lambda i: torch.zeros(3, 99, 99, dtype=torch.uint8), str,
    )  # fmt: skip


def test_the_score_of_the_best_f1() -> None:
    # Right, wrong, right, wrong, wrong; of two objects: F1 2/3, 1/2, 4/5, 2/3, 4/7.
    detections = found([A, FAR, B, FAR, FAR], [0] * 5, [5, 4, 3, 2, 1])
    assert rank([truth([A, B], [0, 0])], [detections], 0).best_score() == 3
    # Those of one score stand or fall together.
    tied = found([A, B, FAR, FAR, FAR], [0] * 5, [5, 3, 3, 3, 3])  # 2/3, and 4/7 for all five
    assert rank([truth([A, B], [0, 0])], [tied], 0).best_score() == 5
    assert rank([truth([A, B], [0, 0])], [found([FAR], [0], [1])], 0).best_score() == np.inf


def test_what_is_confused_by_hand() -> None:
    images = a_set(truth([A, B, C], [0, 1, 1], [False, False, True]), truth([A], [0]))
    detections = [
        # On A as b (surer) and as a (A is taken then); on B right; on the difficult C twice; nothing far away.
        found([A, A, B, C, C, FAR], [1, 0, 1, 1, 0, 0], [9, 8, 7, 6, 5, 4]),
        Detections.none(),
    ]
    assert confusion(images, detections).tolist() == [[0, 1, 1], [0, 1, 0], [2, 0, 0]]


def test_kinds_of_mistakes_by_hand() -> None:
    images = a_set(truth([A, B], [0, 1]))
    near = [6, 0, 16, 10]  # overlaps A by a quarter
    detections = [found([A, A, B, near, FAR], [0, 0, 0, 0, 0], [9, 8, 7, 6, 5])]
    mistakes = worst(images, detections, judge(images, detections))
    assert [(one.place, one.kind) for one in mistakes] == [
        (1, "duplicate"),
        (2, "b"),
        (3, "place"),
        (4, "background"),
    ]
    assert [one.place for one in worst(images, detections, judge(images, detections), most=2)] == [1, 2]


def test_a_combination_by_hand() -> None:
    first = found([A, B], [0, 1], [3, 1])
    second = found([[1, 0, 10, 10], B, A, FAR], [0, 1, 1, 0], [5, 0, 0.5, -1])
    together = combine([first, second])
    rows = {
        (tuple(b), int(k), s)
        for b, k, s in zip(together.boxes, together.labels, together.scores, strict=True)
    }
    assert rows == {((1, 0, 10, 10), 0, 5), (tuple(B), 1, 1), (tuple(A), 1, 0.5), (tuple(FAR), 0, -1)}
    assert renumbered(first, ("x", "y"), ("y", "x")).labels.tolist() == [1, 0]
    assert len(combine([Detections.none(), Detections.none()]).boxes) == 0


def test_the_gain_of_a_result_over_another_is_paired() -> None:
    truths = [truth([A], [0]) for _ in range(20)]
    right = [found([A], [0], [1]) for _ in range(20)]
    half = [found([A] if i % 2 else [FAR], [0], [1]) for i in range(20)]
    images = a_set(*truths)
    assert judge(images, right).minus(judge(images, right))["all-point"] == (0, 0, 0)
    gain, low, high = judge(images, right).minus(judge(images, half))["all-point"]
    assert 0 < low < gain < high
    assert gain == pytest.approx(100 - judge(images, half).mean["all-point"])


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("two")
    save_net(place / "net.ckpt")
    words = [
        "detect",
        "train",
        str(place / "net.ckpt"),
        "--data",
        "shapes",
        "--scenes",
        "10",
        "--proposals",
        "grid",
    ]
    words += [
        "--limit",
        "200",
        "--workers",
        "0",
        "--threads",
        "1",
        "--cache",
        str(place / "cache"),
        "--scales",
        "160",
    ]
    for name, more in {
        "a": ["--tune", "50"],
        "b": ["--tune", "50", "--seed", "1"],
        "c": ["--tune", "50", "--scorer", "softmax"],
    }.items():
        assert main([*words, *more, "--out", str(place / name)]) == 0
    return [place / name / "detector.ckpt" for name in "abc"]


def test_the_command_combine(
    detectors: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    end = ["--data", "shapes", "--scenes", "6", "--cache", str(tmp_path), "--workers", "0"]
    assert main(["detect", "combine", *map(str, detectors[:2]), *end]) == 0
    printed = capsys.readouterr().out
    assert all(str(path) in printed for path in detectors[:2])
    # The same detector twice gains nothing.
    assert main(["detect", "combine", str(detectors[0]), str(detectors[0]), *end]) == 0
    assert capsys.readouterr().out.count("+0.0 (+0.0 to +0.0)") == 4
    assert main(["detect", "combine", str(detectors[0]), *end]) == 1
    assert "name two detectors at least" in capsys.readouterr().err
    assert main(["detect", "combine", str(detectors[0]), str(detectors[2]), *end]) == 1
    assert "scores of SVMs and of softmax" in capsys.readouterr().err


def test_pictures_and_tensorboard(detectors: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    words = ["detect", "evaluate", str(detectors[0]), "--data", "shapes", "--scenes", "6", "--workers", "0"]
    out = tmp_path / "ap.csv"
    assert (
        main([*words, "--cache", str(tmp_path / "cache"), "--pictures", str(folder), "--out", str(out)]) == 0
    )
    for name in ("pr.png", "confusion.png", "mistakes.jpg"):
        with Image.open(folder / name) as picture:
            assert len(picture.convert("L").getcolors(1 << 24) or []) > 20  # not an empty sheet
    with open(folder / "pr.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    discs = [row for row in rows if row["class"] == "disc"]
    assert np.all(np.diff([float(row["recall"]) for row in discs]) >= 0)
    with open(out, newline="") as file:
        figures = {(row["class"], row["measure"]): float(row["ap"]) for row in csv.DictReader(file)}
    events = EventAccumulator(str(folder)).Reload()
    assert events.Scalars("mAP/11-point")[0].value == pytest.approx(figures["", "11-point"], abs=1e-3)
    assert set(events.Tags()["images"]) == {"detection/pr", "detection/confusion", "detection/mistakes"}


def test_boxes_that_are_shown_are_those_from_the_score_of_their_class(detectors: list[Path]) -> None:
    detector = sppcls.load_detector(detectors[0])
    low, high = -0.3, 0.4
    detector.choice = dataclasses.replace(detector.choice, shown=(low, high, 0.0, 0.0))
    detections = found([A, A, B, B], [0, 0, 1, 1], [low, low - 1e-6, high, high - 1e-6])
    assert detector.worth_showing(detections).scores.tolist() == [low, high]
    assert len(detector.worth_showing(detections, -9).scores) == 4
