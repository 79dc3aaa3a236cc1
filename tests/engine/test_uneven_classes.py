"""Trainings on uneven classes: what is drawn, what is said, what is refused, and that a resumed run is the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from tiny_runs import TINY

import sppcls
from sppcls.cli.common import RunWords
from sppcls.cli.doctor.config import check_run
from sppcls.config.build import load_sources
from sppcls.engine.preflight import RunChecks
from sppcls.engine.uneven import uneven_line
from sppcls.errors import ConfigError
from sppcls.runs.checkpoint import read_checkpoint

TRAIN = {"glass": 24, "paper": 9, "trash": 3}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, counts in (("train", TRAIN), ("val", dict.fromkeys(TRAIN, 3))):
        for shade, (name, count) in enumerate(counts.items()):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(60 * shade, 60 * shade + 130, (76, 76, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i:02}.png")
    return root


def words_for(photos: Path, place: Path, *more: str) -> list[str]:
    kept = [word for word in TINY if not word.startswith("data.num")]
    return [*kept, "data=folder", f"data.root={photos}", f"runs_dir={place}", "scheduler=constant", *more]


class Drawn(Callback):
    """Counts the classes and the images of every epoch."""

    def __init__(self) -> None:
        self.classes: list[Counter[int]] = []
        self.images: list[Counter[int]] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        self.classes.append(Counter())
        self.images.append(Counter())

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.classes[-1].update(batch.target.tolist())
        self.images[-1].update(batch.index.tolist())


def test_a_balanced_run_sees_the_classes_alike_and_says_so(photos: Path, tmp_path: Path) -> None:
    drawn = Drawn()
    words = words_for(photos, tmp_path, "data.sampler=balanced")
    outcome = sppcls.train(sppcls.compose(words), callbacks=[drawn])
    assert drawn.classes == [Counter({0: 12, 1: 12, 2: 12})] * 2
    assert all(count == 4 for index, count in drawn.images[0].items() if index >= 33), "the three of trash"
    log = (Path(outcome["folder"]) / "train.log").read_text()
    assert "uneven      24 training images of glass, 3 of trash; sampler balanced" in log


def test_two_corrections_are_said_to_be_one_too_many(photos: Path, tmp_path: Path) -> None:
    words = words_for(photos, tmp_path, "data.sampler=balanced", "loss=logit_adjusted")
    config = sppcls.compose(words)
    line = uneven_line(config, load_sources(config).train)
    assert line is not None
    assert line.endswith(
        "sampler balanced, logits adjusted: each alone is enough, together they favour rare classes"
    )


def test_a_plain_run_is_told_what_could_be_done(photos: Path, tmp_path: Path) -> None:
    drawn = Drawn()
    config = sppcls.compose(words_for(photos, tmp_path, "trainer.max_epochs=1"))
    outcome = sppcls.train(config, callbacks=[drawn])
    assert drawn.classes == [Counter({0: 24, 1: 9, 2: 3})]
    log = (Path(outcome["folder"]) / "train.log").read_text()
    assert "3 of trash; nothing is done about it: data.sampler=balanced, loss=logit_adjusted" in log


@pytest.mark.parametrize("loss", ["loss.class_weights=balanced", "loss=logit_adjusted"])
def test_a_resumed_run_ends_with_the_same_weights(photos: Path, tmp_path: Path, loss: str) -> None:
    words = [*words_for(photos, tmp_path, "data.sampler=balanced", "data.balance=0.7"), loss]
    whole = sppcls.train(sppcls.compose([*words, "run_name=whole", "trainer.max_epochs=3"]))
    part = sppcls.train(sppcls.compose([*words, "run_name=part", "trainer.max_epochs=2"]))
    sppcls.train(sppcls.compose([*words, f"ckpt_path={part['folder']}", "trainer.max_epochs=3"]))
    weights = [read_checkpoint(Path(run["folder"]) / "last.ckpt")["state_dict"] for run in (whole, part)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    plain = sppcls.train(
        sppcls.compose(
            [
                *words_for(photos, tmp_path, "data.sampler=balanced", "data.balance=0.7"),
                "trainer.max_epochs=3",
            ]
        )
    )
    other = read_checkpoint(Path(plain["folder"]) / "last.ckpt")["state_dict"]
    assert not all(torch.equal(weights[0][name], other[name]) for name in other), "the loss has an effect"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.sampler={glas: 2}"], "data.sampler: there is no class 'glas' .did you mean 'glass'"),
        (["data.sampler={glass: 0}"], "data.sampler: the weight of class glass is 0; it must be a finite"),
        (["loss.class_weights=[1,2]"], "loss.class_weights: 2 numbers for 3 classes .glass, paper, trash."),
        (["loss=logit_adjusted", "loss.tau=-1"], "loss.tau=-1: must be >= 0"),
        (["best_by=top5_error"], "best_by=top5_error: is always 0 with 3 classes"),
        (["data.balance=0.5"], "data.balance=0.5: only the balanced sampler has it; add data.sampler=balanced"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_before_work_begins(
    photos: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sppcls.train(sppcls.compose(words_for(photos, tmp_path, *words)))
    assert not list(tmp_path.iterdir()), "no run folder"
    with pytest.raises(ConfigError, match=message):
        RunChecks().check(sppcls.compose(words_for(photos, tmp_path, *words)))


def test_a_class_without_an_image_is_named(photos: Path, tmp_path: Path) -> None:
    images = torch.zeros(12, 3, 76, 76, dtype=torch.uint8)

    class Photos(torch.utils.data.TensorDataset):
        classes = ("glass", "paper", "trash")

    source = Photos(images, torch.arange(12) % 2)
    words = [word for word in TINY if not word.startswith(("data.num", "data.batch"))]
    config = sppcls.compose([*words, "data.sampler=balanced", "data.batch_size=4", f"runs_dir={tmp_path}"])
    with pytest.raises(ConfigError, match=r"data.sampler: class 'trash' has no training image"):
        sppcls.train(config, sources=(source, source))


def test_doctor_says_the_unevenness(photos: Path, tmp_path: Path) -> None:
    # Without doctor's look at the packages, which takes most of its time: tests/cli/doctor/test_doctor.py has both.
    found = check_run(RunWords(tuple(words_for(photos, tmp_path))))
    said = " ".join(f"{finding.text} {finding.do}" for finding in found)
    assert "uneven: 24 training images of glass, 3 of trash" in said
    assert "data.sampler=balanced or loss=logit_adjusted" in said
