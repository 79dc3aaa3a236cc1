"""Errors class by class, against a count by hand of the kept answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import TINY

import sppcls
from sppcls.engine.callbacks.pictures import confusion_figure

TRAIN, VAL = {"glass": 30, "paper": 30, "trash": 3}, {"glass": 12, "paper": 10, "trash": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on photos of three classes, one of them so rare that it is never predicted."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, counts in (("train", TRAIN), ("val", VAL)):
        for shade, (name, count) in enumerate(counts.items()):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(60 * shade, 60 * shade + 130, (76, 76, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i:02}.png")
    words = [word for word in TINY if not word.startswith(("data.num", "log.images"))]
    config = sppcls.compose([*words, "data=folder", f"data.root={root}", f"runs_dir={root / 'runs'}"])
    return Path(sppcls.train(config)["folder"])


def test_the_result_the_table_and_the_closing_lines_count_each_class(run: Path) -> None:
    kept = np.load(run / "predictions" / "val_96.npz")
    names = list(VAL)
    answers = [(names[t], names[p]) for t, p in zip(kept["label"], kept["top_class"][:, 0], strict=True)]
    errors, said = {}, {}
    for name in names:
        own = [predicted for true, predicted in answers if true == name]
        assert len(own) == VAL[name]
        errors[name] = 100 * sum(predicted != name for predicted in own) / len(own)
        said[name] = sum(predicted == name for _, predicted in answers)
    assert said["trash"] == 0, "as this test wants it"
    result = json.loads((run / "result.json").read_text())
    assert result["class_top1_error"] == pytest.approx(errors, abs=1e-3)
    assert result["class_mean_top1_error"] == pytest.approx(sum(errors.values()) / 3)
    with open(run / "classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == names
    for row in rows:
        assert (int(row["images"]), int(row["predicted"])) == (VAL[row["class"]], said[row["class"]])
        assert float(row["top1_error"]) == pytest.approx(errors[row["class"]], abs=1e-3)
        others = [p for true, p in answers if true == row["class"] and p != true]
        assert row["confused_with"] == (max(others, key=others.count) if others else "")
    log = (run / "train.log").read_text()
    assert f"Class-mean top-1 error of the last epoch at 96: {sum(errors.values()) / 3:.2f} %" in log
    never = ", ".join(f"{name} ({VAL[name]} images)" for name in names if not said[name])
    assert f"warning: never predicted: {never}: all of their images are wrong" in log


def test_the_last_epoch_is_said_before_the_best(run: Path) -> None:
    log = (run / "train.log").read_text()
    result = json.loads((run / "result.json").read_text())
    ending = log[log.index("After the last epoch (2), on 27 validation images:") :]
    lines = ending.splitlines()
    assert lines[1].startswith(f"  val_96: top-1 error {result['last']['val_96/top1_error']:.2f} %")
    if result["best"]["epoch"] == 1:
        assert lines[3] == "No earlier epoch was better on these images."
    else:
        assert lines[3].startswith("Best epoch: 1, chosen on these same images")
        assert lines[4].startswith(f"  val_96: top-1 error {result['best']['val_96/top1_error']:.2f} %")


def test_the_pictures_lie_in_the_run_folder(run: Path) -> None:
    assert {
        "curves.png",
        "confusion.png",
        "worst_mistakes.png",
        "explain.png",
        "train_inputs_96.png",
        "train_inputs_72.png",
    } == {path.name for path in (run / "pictures").iterdir()}


def test_numbers_and_colours_of_the_confusion_matrix_are_per_cent_of_the_row() -> None:
    figure = confusion_figure(torch.tensor([[101, 303], [0, 7]]), ["paper", "trash"])
    axes = figure.axes[0]
    assert {text.get_text() for text in axes.texts} == {"25", "75", "100"}
    assert axes.images[0].get_array().tolist() == [[25, 75], [0, 100]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["paper (404)", "trash (7)"]
