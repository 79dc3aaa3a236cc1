"""``sppcls.train(config, net=..., sources=..., callbacks=..., logger=...)``: parts built by hand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import sppcls
from sppcls.errors import CheckpointError, ConfigError, DataError
from sppcls.nn import SpatialPyramidPooling2d, SPPClassifier


class Squares(Dataset[Any]):
    """Photos of two shades as PIL images; the class is told by the item alone."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (70, 60), (250, 10, 10) if index % 2 else (10, 10, 250)), index % 2


def made_by_hand() -> SPPClassifier:
    torch.manual_seed(3)
    trunk = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=4, padding=1)
    )
    return SPPClassifier(trunk, SpatialPyramidPooling2d([2, 1]), nn.Linear(40, 2))


Words = Callable[..., list[str]]


@pytest.fixture
def words(tiny: Words) -> Words:
    def overrides(*more: str) -> list[str]:
        return [w for w in tiny(*more) if not w.startswith("data.num_")]

    return overrides


def train(words: list[str], **given: Any) -> dict[str, Any]:
    parts = {"net": made_by_hand(), "sources": (Squares(16), Squares(6)), **given}
    return sppcls.train(sppcls.compose(words), **parts)


def weights(path: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def test_a_network_and_datasets_of_ones_own_train_load_predict_and_export(
    words: Words, tmp_path: Path
) -> None:
    outcome = train(words("trainer.max_epochs=2", "sizes=multi_224_180", "sizes.sizes=[64,48]"))
    assert {name.partition("/")[0] for name in outcome["last"]} == {"val_64", "val_48"}
    assert outcome["last"]["val_64/images"] == 6
    net = sppcls.load_classifier(outcome["last_checkpoint"], net=made_by_hand())
    kept = weights(outcome["last_checkpoint"])
    assert all(torch.equal(kept[f"net.{name}"], value) for name, value in net.state_dict().items())
    assert net.model_info["classes"] == ["0", "1"]
    photo = np.full((90, 120, 3), 200, np.uint8)
    (prediction,) = sppcls.predict(net, photo)
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)
    with pytest.raises(CheckpointError, match="given its network from Python.*load_classifier"):
        sppcls.load_classifier(outcome["last_checkpoint"])


def test_stopped_and_resumed_it_has_the_same_weights(words: Words) -> None:
    whole = train(words("trainer.max_epochs=3", "run_name=whole"))
    part = train(words("trainer.max_epochs=1", "run_name=part"))
    rest = train(words("trainer.max_epochs=3", "run_name=part", f"ckpt_path={part['last_checkpoint']}"))
    one, other = weights(whole["last_checkpoint"]), weights(rest["last_checkpoint"])
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_command_line_does_not_resume_it_with_other_images(
    words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    from sppcls.cli.main import main

    part = train(words("trainer.max_epochs=1"), net=None)
    assert main(["train", f"ckpt_path={part['last_checkpoint']}", "trainer.max_epochs=2"]) == 1
    assert "this run was given its sources from Python" in capsys.readouterr().err


def test_callbacks_see_the_figures_of_metrics_csv(words: Words, tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []

    class Watch(Callback):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                seen.append({k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val")})

    checkpoints = ModelCheckpoint(tmp_path / "kept", monitor="val/loss", save_top_k=-1)
    logger = CSVLogger(tmp_path, name="table", version="")
    outcome = train(words("trainer.max_epochs=2"), callbacks=[Watch(), checkpoints], logger=logger)
    with open(Path(outcome["folder"]) / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in (
        "val/top1_error",
        "val_96/top1_error",
    ):  # callbacks may watch the main size without naming it
        assert [one[name] for one in seen] == [float(row["val_96/top1_error"]) for row in rows]
    assert [one["val/loss"] for one in seen] == pytest.approx([float(row["val_96/loss"]) for row in rows])
    assert len(list((tmp_path / "kept").glob("*.ckpt"))) == 2
    with open(tmp_path / "table" / "metrics.csv", encoding="utf-8") as file:
        logged = [float(row["val_96/loss"]) for row in csv.DictReader(file) if row["val_96/loss"]]
    assert logged == pytest.approx([float(row["val_96/loss"]) for row in rows])


def test_a_run_of_given_parts_is_not_resumed_without_them(words: Words) -> None:
    part = train(words("trainer.max_epochs=1"))
    again = sppcls.compose(words("trainer.max_epochs=2", f"ckpt_path={part['last_checkpoint']}"))
    with pytest.raises(CheckpointError, match="was given its sources from Python; give sources= again"):
        sppcls.train(again, net=made_by_hand())
    with pytest.raises(CheckpointError, match="was given its net from Python; give net= again"):
        sppcls.train(again, sources=(Squares(16), Squares(6)))


def test_a_figure_that_nothing_logs_is_one_line(words: Words) -> None:
    with pytest.raises(ConfigError, match="callbacks: Early stopping conditioned on metric `val_loss`"):
        train(words("callbacks=early_stopping", "callbacks.early_stopping.monitor=val_loss"))


def test_early_stopping_ends_the_run_for_good(words: Words) -> None:
    def stop() -> list[Callback]:
        return [EarlyStopping("train/loss", mode="max", patience=1)]  # the loss falls, so nothing gets better

    first = train(words("trainer.max_epochs=9"), callbacks=stop())
    assert first["epochs"] < 9
    again = train(words("trainer.max_epochs=9", "ckpt_path=auto"), callbacks=stop())
    assert (again["epochs"], again["last"]) == (first["epochs"], first["last"])
    longer = train(words("trainer.max_epochs=10", f"ckpt_path={first['last_checkpoint']}"))
    assert longer["epochs"] == 10


def test_a_callback_by_config_is_built_with_its_words(words: Words) -> None:
    typed = ["callbacks=early_stopping", "callbacks.early_stopping.monitor=train/loss", "callbacks.early_stopping.mode=max",
             "callbacks.early_stopping.patience=1", "trainer.max_epochs=9"]  # fmt: skip
    assert train(words(*typed))["epochs"] < 9


@pytest.mark.parametrize(("loggers", "events"), [("[csv]", 0), ("[tensorboard,csv]", 1)])
def test_loggers_are_those_of_the_config(
    loggers: str, events: int, words: Words, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = train(words(f"logger={loggers}", "log.images=true"))
    folder = Path(outcome["folder"])
    assert len(list(folder.glob("events.out*"))) == events
    assert ("tensorboard --logdir" in capsys.readouterr().out) == bool(events)
    with open(folder / "csv_logger" / "metrics.csv", encoding="utf-8") as file:
        logged = [row["val_96/top1_error"] for row in csv.DictReader(file) if row["val_96/top1_error"]]
    assert float(logged[-1]) == outcome["last"]["val_96/top1_error"]


@pytest.mark.parametrize(
    ("given", "error", "line"),
    [
        ({"net": nn.Linear(1, 1)}, ConfigError, "net: a Linear; wrap it: sppcls.nn.SPPClassifier"),
        ({"sources": (Squares(16), Squares(0))}, DataError, "val: Squares has no images"),
        ({"sources": Squares(16)}, DataError, r"sources: must be \(train, val\)"),
        (
            {"sources": (TensorDataset(torch.zeros(16, 3, 8, 8), torch.zeros(16)),) * 2},
            ConfigError,
            "net: gives",
        ),
        ({"callbacks": [3]}, ConfigError, "callbacks: a int is no Lightning Callback"),
        ({"logger": "csv"}, ConfigError, "logger: a str is no Lightning Logger"),
    ],
)
def test_what_is_no_part_is_one_line(
    given: dict[str, Any], error: type[Exception], line: str, words: Words, tmp_path: Path
) -> None:
    with pytest.raises(error, match=line):
        train(words(), **given)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_images_that_are_no_bytes_are_one_line(words: Words) -> None:
    floats = TensorDataset(torch.rand(16, 3, 70, 70), torch.arange(16) % 2)
    with pytest.raises(
        DataError, match=r"item 0: torch.float32; uint8 in 0..255 is needed: leave out ToTensor"
    ):
        train(words(), sources=(floats, floats))
