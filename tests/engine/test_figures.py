"""Class-mean error, macro F1 and calibration error against scikit-learn, torchmetrics and a loop; the best epoch by them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_f1_score

import sppcls
from sppcls._util.figures import confidence_bin, is_better, of_answers
from sppcls.engine.metrics import ValidationCounter
from sppcls.errors import ConfigError
from sppcls.runs.checkpoint import read_checkpoint


def answers(classes: int = 6, images: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are right rather often, of uneven classes; the last class has no image, the one before no prediction."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor([2.0**-label for label in range(classes - 1)])
    target = torch.multinomial(shares, images, replacement=True, generator=generator)
    logits = 2 * torch.randn(images, classes, generator=generator)
    logits[range(images), target] += 1.5
    logits[:, classes - 2] = -20
    return logits, target


def counted(logits: torch.Tensor, target: torch.Tensor, *, size: int = 37) -> ValidationCounter:
    counter = ValidationCounter(logits.shape[1])
    for batch, labels in zip(logits.split(size), target.split(size), strict=True):
        counter.update(batch, labels, torch.zeros(len(labels)))
    return counter


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_figures_are_those_of_sklearn_and_torchmetrics() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    logits, target = answers()
    found = counted(logits, target).compute()
    predicted = logits.argmax(1)
    assert not (target == 5).any()
    assert (target == 4).any()
    assert not (predicted == 4).any()
    accuracy = metrics.balanced_accuracy_score(target, predicted)
    assert found["class_mean_error"] == pytest.approx(100 * (1 - accuracy))
    assert found["f1"] == pytest.approx(100 * metrics.f1_score(target, predicted, average="macro"))
    oracle = multiclass_f1_score(logits, target, num_classes=6, average="macro")
    assert found["f1"] == pytest.approx(100 * float(oracle), rel=1e-5)
    oracle = multiclass_calibration_error(logits.softmax(1), target, num_classes=6, n_bins=15, norm="l1")
    assert found["ece"] == pytest.approx(100 * float(oracle), rel=1e-4)


def test_calibration_error_against_a_loop_also_where_the_network_is_certain() -> None:
    logits, target = answers(seed=1)
    logits[:9, 0] = 200  # a probability of exactly 1
    confidence, predicted = logits.softmax(1).double().max(1)
    assert (confidence == 1).sum() >= 9
    total = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            gap = (predicted == target)[inside].double().mean() - confidence[inside].mean()
            total += float(inside.sum()) * abs(float(gap))
    assert counted(logits, target).compute()["ece"] == pytest.approx(100 * total / 400, rel=1e-6)


def test_counts_do_not_depend_on_batches_or_processes() -> None:
    logits, target = answers(seed=2)
    whole = counted(logits, target, size=400)
    one, other = counted(logits[::2], target[::2]), counted(logits[1::2], target[1::2])
    for name in ("by_class", "by_confidence"):
        together = getattr(one, name) + getattr(other, name)  # as torchmetrics sums over processes
        assert torch.equal(together, getattr(whole, name))
        assert torch.equal(getattr(counted(logits, target, size=5), name), together)


def test_kept_answers_give_the_same_figures() -> None:
    logits, target = answers(seed=3)
    scores, predicted = logits.softmax(1).max(1)
    kept = of_answers(target.numpy(), predicted.numpy(), scores.numpy(), 6)
    found = counted(logits, target).compute()
    assert kept == pytest.approx({name: found[name] for name in kept}, rel=1e-6)
    assert "ece" not in of_answers(target.numpy(), predicted.numpy(), None, 6)


def test_bins_hold_their_upper_end() -> None:
    assert confidence_bin(np.array([0.0, 1e-9, 0.5, 0.51, 1.0]), 2).tolist() == [0, 0, 0, 1, 1]


def test_more_f1_is_better_and_less_of_the_rest() -> None:
    assert is_better("f1", 60, 50)
    assert not is_better("f1", 50, 50)
    assert is_better("class_mean_error", 50, 60)
    assert not is_better("ece", 6, 5)


@pytest.fixture(scope="module")
def runs(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same training four times, its best epoch chosen by another figure each time."""
    place = tmp_path_factory.mktemp("best")
    words = [*tiny_words, "trainer.max_epochs=4", "optimizer.lr=0.02", f"runs_dir={place}"]
    figures = ["top1_error", "class_mean_error", "f1", "ece"]
    return {
        figure: Path(
            sppcls.train(sppcls.compose([*words, f"best_by={figure}", f"run_name={figure}"]))["folder"]
        )
        for figure in figures
    }


@pytest.mark.parametrize("figure", ["top1_error", "class_mean_error", "f1", "ece"])
def test_the_best_epoch_is_that_of_the_figure_asked_for(runs: dict[str, Path], figure: str) -> None:
    with open(runs[figure] / "metrics.csv", newline="") as file:
        values = [float(row[f"val_96/{figure}"]) for row in csv.DictReader(file)]
    best = values.index(max(values) if figure == "f1" else min(values))
    assert read_checkpoint(runs[figure] / "best.ckpt")["epoch"] == best
    result = json.loads((runs[figure] / "result.json").read_text())
    assert result["best"]["epoch"] == best
    assert result["best"][f"val_96/{figure}"] == pytest.approx(values[best], rel=1e-5)
    log = (runs[figure] / "train.log").read_text()
    words = {"class_mean_error": "class-mean error", "f1": "macro F1", "ece": "calibration error"}.get(figure)
    assert words is None or (
        f"better on these images by its {words}" in log or f"chosen by its {words}" in log
    )


def test_last_answers_give_the_last_row(runs: dict[str, Path]) -> None:
    folder = runs["f1"]
    kept = np.load(folder / "predictions" / "val_96.npz")
    found = of_answers(kept["label"], kept["top_class"][:, 0], kept["top_score"][:, 0], len(kept["classes"]))
    with open(folder / "metrics.csv", newline="") as file:
        row = list(csv.DictReader(file))[-1]
    assert {name: float(row[f"val_96/{name}"]) for name in found} == pytest.approx(found, rel=1e-4)


def test_callbacks_may_watch_any_figure(tiny, tmp_path: Path) -> None:
    words = tiny("callbacks=[early_stopping,model_checkpoint]", "callbacks.early_stopping.monitor=val/f1",
                 "callbacks.early_stopping.mode=max", "callbacks.early_stopping.patience=0",
                 "callbacks.early_stopping.min_delta=200.0", "trainer.max_epochs=3",
                 "callbacks.model_checkpoint.monitor=val/class_mean_error",
                 "callbacks.model_checkpoint.filename=by_class_mean")  # fmt: skip
    outcome = sppcls.train(sppcls.compose(words))
    assert outcome["epochs"] == 2, "no F1 rises by 200 points, so patience ends after the second epoch"
    assert list(Path(outcome["folder"]).rglob("by_class_mean*.ckpt"))


def test_an_unknown_figure_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"best_by=accuracy: choose from loss, top1_error, .*, f1, ece"):
        sppcls.compose(["best_by=accuracy"])
