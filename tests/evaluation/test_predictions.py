"""Figures, intervals, files and gathering of what a network answered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from sppcls.errors import DataError
from sppcls.evaluation import Predictions
from sppcls.evaluation.predictions import gather


def predictions(scores: np.ndarray, labels: np.ndarray) -> Predictions:
    """As of a protocol; labels of two dimensions are several for an image."""
    top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return Predictions(
        protocol="center",
        setting={"size": "224", "average": "softmax"},
        classes=[f"class {i}" for i in range(scores.shape[1])],
        indices=np.arange(len(labels)),
        names=[f"{i}.jpg" for i in range(len(labels))],
        labels=labels,
        top_class=top,
        top_score=np.take_along_axis(scores, top, 1),
        scores=scores if labels.ndim == 2 else None,
        views=1,
        seconds=2.0,
    )


def several_labels(images: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of four classes that say something of the labels, and the labels."""
    rng = np.random.default_rng(0)
    truth = rng.random((images, 4)) < 0.4
    return (0.2 * truth + 0.8 * rng.random(truth.shape)).astype(np.float32), truth


def by_sklearn(scores: np.ndarray, truth: np.ndarray) -> float:
    return 100 - 100 * float(average_precision_score(truth, scores, average="macro"))


def test_the_fifth_place_is_a_hit_and_the_sixth_is_none() -> None:
    scores = np.linspace(1, 0, 8, dtype=np.float32)[None].repeat(8, 0)
    found = predictions(scores, np.arange(8))
    assert found.hits(5).tolist() == [True] * 5 + [False] * 3
    assert (found.top1_error, found.top5_error) == (87.5, 37.5)


def test_the_file_holds_the_numbers_of_many_classes(tmp_path: Path) -> None:
    labels = np.array([0, 255, 256, 999, 40])
    found = predictions(np.random.default_rng(0).random((5, 1000)).astype(np.float32), labels)
    found.save(tmp_path / "many.npz")
    with np.load(tmp_path / "many.npz") as kept:
        assert kept["label"].tolist() == labels.tolist()
        assert kept["top_class"].tolist() == found.top_class.tolist()
        assert kept["label"].dtype == kept["top_class"].dtype == np.int32
        assert "log_odds" not in kept


def test_the_file_of_several_labels_holds_all_log_odds(tmp_path: Path) -> None:
    scores, truth = several_labels(30)
    predictions(scores, truth).save(tmp_path / "several.npz")
    with np.load(tmp_path / "several.npz") as kept:
        assert kept["label"].dtype == np.uint8
        np.testing.assert_array_equal(kept["label"], truth)
        np.testing.assert_array_equal(kept["log_odds"], scores)


def test_the_interval_of_several_labels_is_that_of_images_drawn_anew() -> None:
    scores, truth = several_labels(20)
    found = predictions(scores, truth)
    error = by_sklearn(scores, truth)
    assert found.main_error == pytest.approx(error, abs=1e-4)
    rng = np.random.default_rng(1)
    draws = [by_sklearn(scores[rows], truth[rows]) for rows in rng.integers(0, 20, (1000, 20))]
    assert found.draws.mean() == pytest.approx(np.mean(draws), abs=0.6)
    assert found.draws.std() == pytest.approx(np.std(draws), rel=0.1)
    assert found.draws.mean() < error - 1  # an image that is drawn twice raises the precision
    moved = found.draws + error - found.draws.mean()
    low, high = found.interval
    assert [(moved < low).mean(), (moved > high).mean()] == pytest.approx([0.025, 0.025], abs=0.002)


def test_without_an_error_the_interval_has_no_width() -> None:
    _, truth = several_labels(12)
    right = predictions(truth.astype(np.float32), truth)
    assert (right.main_error, right.interval) == (0, (0, 0))


def test_without_an_image_there_is_nothing_to_gather() -> None:
    nothing = predictions(np.empty((0, 2), np.float32), np.empty(0, np.int64))
    with pytest.raises(DataError, match="^no image could be tested; the first: there are none$"):
        gather(nothing)
