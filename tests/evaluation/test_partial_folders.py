"""Folders with fewer classes than the checkpoint, or one image of a class: tested, the missing classes named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import TINY

from sppcls import compose, evaluate, extract_features, load_classifier, train
from sppcls.cli.main import main
from sppcls.data.files import ArraySource, with_classes
from sppcls.errors import CheckpointError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    photos = put(root / "photos" / "train", {"ant": 8, "bee": 8, "cow": 8, "dog": 8}).parent
    put(photos / "val", {"ant": 1, "bee": 1, "cow": 1, "dog": 1})
    words = [word for word in TINY if not word.startswith(("data=", "data.num"))]
    config = compose(
        [*words, "data=folder", f"data.root={photos}", "trainer.max_epochs=1", f"runs_dir={root}"]
    )
    return Path(train(config)["last_checkpoint"])


def put(folder: Path, counts: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 255, (80, 90, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("below", ["", "val"])
def test_a_class_may_be_missing_and_another_have_one_image(
    below: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "photos" / below, {"dog": 1, "bee": 3})
    (tmp_path / "photos" / below / "ant").mkdir()  # empty is as good as missing
    (result,) = evaluate(load_classifier(checkpoint), tmp_path / "photos", "center")
    assert result.predictions.labels.tolist() == [1, 1, 1, 3]
    if below:
        return
    words = [
        "evaluate",
        str(checkpoint),
        "--split",
        "all",
        "--data",
        "data=folder",
        f"data.root={tmp_path / 'photos'}",
    ]
    assert main([*words, "--protocol", "center", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "sppcls: note: no image of 2 of the 4 classes: ant, cow\n" in shown.err
    with np.load(tmp_path / "out" / "center_96.npz") as kept:
        assert kept["label"].tolist() == [1, 1, 1, 3]
        same = kept["top_class"][:, 0] == result.predictions.top_class[:, 0]
        assert same.all()
    assert len(extract_features(load_classifier(checkpoint), tmp_path / "photos").paths) == 4


def test_held_out_images_that_there_are_none_of_name_the_way_to_test_all(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "photos", {"dog": 1, "bee": 3})
    assert (
        main(["evaluate", str(checkpoint), "--data", "data=folder", f"data.root={tmp_path / 'photos'}"]) == 1
    )
    assert capsys.readouterr().err.endswith("; --split all tests all images\n")


@pytest.mark.parametrize("place", ["photos", "held out"])
@pytest.mark.parametrize("held_out", [True, False])
def test_that_validation_images_were_held_out_is_told(
    held_out: bool, place: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = {"ant": 4, "bee": 4, "cow": 4, "dog": 4}
    for split in ("train",) if held_out else ("train", "val"):
        put(tmp_path / "data" / place / split, counts)
    words = ["evaluate", str(checkpoint), "--protocol", "center", "--out", str(tmp_path / "out"), "--data"]
    assert main([*words, "data=folder", f"data.root={tmp_path / 'data'}", "data.val_fraction=0.5"]) == 0
    shown = capsys.readouterr().out
    assert ("has no validation split" in shown) == held_out
    told = f"{tmp_path / 'data'} has no validation split: these are the 8 images that a training would hold out; "
    assert (told + "--split all tests all 16." in shown) == held_out


@pytest.mark.parametrize("split", ["all", "val"])
def test_an_unknown_class_is_refused_with_the_closest_known_one(
    split: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "photos", {"dogs": 5, "bee": 5})
    words = ["evaluate", str(checkpoint), "--split", split, "--data", "data=folder"]
    assert main([*words, f"data.root={tmp_path / 'photos'}"]) == 1
    error = capsys.readouterr().err
    assert "only in the data: dogs (closest to dogs: dog)" in error
    assert error.count("\n") == 1
    with pytest.raises(CheckpointError, match="only in the data: dogs"):
        evaluate(load_classifier(checkpoint), tmp_path / "photos", "center")


def test_classes_are_renumbered_by_their_names() -> None:
    images = np.zeros((3, 4, 4, 3), np.uint8)
    source = ArraySource(images, [0, 1, 1], ["dog", "ant"], "x")
    seen = with_classes(source, ["ant", "bee", "dog"])
    assert (seen.targets, seen.classes, len(seen)) == ([2, 0, 0], ["ant", "bee", "dog"], 3)
    assert (source.targets, source.classes) == ([0, 1, 1], ["dog", "ant"])
