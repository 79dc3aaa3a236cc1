"""What stands in the picture of the error against the size of the test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sppcls.evaluation import Predictions
from sppcls.evaluation.curve import curve_figure, write_curve
from sppcls.evaluation.evaluate import Result
from sppcls.evaluation.protocols import Protocol


def result(name: str, region: tuple[int, int], wrong: int, recalibrated: int = 0) -> Result:
    """Of 20 images, some of which are wrong; of the wrong ones, every other is among the best five."""
    top = np.tile(np.arange(1, 11), (20, 1))
    top[wrong:, 0] = 0
    top[:wrong:2, 4] = 0
    predictions = Predictions(
        name, {"average": "softmax"}, [str(i) for i in range(12)], np.arange(20), [""] * 20,
        np.zeros(20, np.int64), top, np.full((20, 10), 0.1, np.float32), None, 1, 1.0,
    )  # fmt: skip
    return Result(Protocol(name, (), region), predictions, recalibrated)


RESULTS = [
    result("center", (64, 96), 10),
    result("center", (128, 128), 4),
    result("full", (64, 64), 7),
    result("full", (64, 64), 3, recalibrated=16),
]
LABELS = ["center", "full", "full (recalibrated)"]


def test_a_line_for_each_protocol_its_interval_and_the_sizes_of_training() -> None:
    (axes,) = curve_figure(RESULTS, [96, 72], "a title").axes
    curves = {line.get_label(): line for line in axes.lines if line.get_label() in LABELS}
    assert list(curves) == LABELS
    np.testing.assert_allclose(curves["center"].get_xydata(), [[64, 50], [128, 20]])
    np.testing.assert_allclose(curves["full"].get_xydata(), [[64, 35]])
    np.testing.assert_allclose(curves["full (recalibrated)"].get_xydata(), [[64, 15]])
    assert len({line.get_color() for line in curves.values()}) == 3
    trained = [line.get_xdata()[0] for line in axes.lines if line not in curves.values()]
    assert trained == [96, 72]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == LABELS
    shaded = axes.collections[0].get_paths()[0].vertices
    for at, found in ((64, RESULTS[0]), (128, RESULTS[1])):
        ends = [y for x, y in shaded if x == at]
        assert (min(ends), max(ends)) == pytest.approx(found.predictions.top1_interval)
    assert (axes.get_title(), axes.get_ylabel()) == ("a title", "top-1 error, %")


def test_more_protocols_than_colours() -> None:
    many = [result(f"protocol {i}", (64, 64), 4) for i in range(8)]
    (axes,) = curve_figure(many, [], "").axes
    assert len(axes.lines) == len(axes.collections) == 8


def test_both_errors_stand_in_tensorboard_against_the_size(tmp_path: Path) -> None:
    assert write_curve(tmp_path, RESULTS, [96], "a title") == tmp_path / "resolution.png"
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {
        tag: [(point.step, round(point.value, 4)) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    } == {
        "resolution/center_top1_error": [(64, 50), (128, 20)],
        "resolution/center_top5_error": [(64, 25), (128, 10)],
        "resolution/full_top1_error": [(64, 35)],
        "resolution/full_top5_error": [(64, 15)],
        "resolution/full_recalibrated_top1_error": [(64, 15)],
        "resolution/full_recalibrated_top5_error": [(64, 5)],
    }
    assert events.Tags()["images"] == ["resolution/curve"]
