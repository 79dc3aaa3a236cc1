"""The module takes parts, not a config; a run's state survives a checkpoint whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from sppcls import compose
from sppcls.data import EvalTransform, TrainTransform
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.shapes import ShapesSource
from sppcls.data.sizes import make_schedule
from sppcls.engine.learning_rate import LearningRate, Plateau
from sppcls.engine.module import ClassificationModule
from sppcls.engine.state import RunState
from sppcls.runs.model_info import PROGRESS

COLOURS = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": list(net.parameters()), "lr_scale": 1.0}], lr=0.1)


def twice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return 2 * F.cross_entropy(logits, target, reduction="none")


@pytest.mark.filterwarnings("ignore")  # Lightning's own
def test_parts_train_without_a_config(tmp_path: Path) -> None:
    schedule = make_schedule("alternate", [32, 24], seed=0, epochs=1)
    train, val = ShapesSource("train", 20), ShapesSource("val", 20)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, len(train.classes))
    )
    before = [p.clone() for p in net.parameters()]
    rate = LearningRate(0.1, compose(["scheduler=constant"]).scheduler)
    module = ClassificationModule(
        net, schedule, val_sizes=[(32, 32)], classes=train.classes, loss=twice,
        val_loss=lambda logits, target: F.cross_entropy(logits, target, reduction="none"),
        optimizer=sgd, rate=rate, model_info={"config": {}}, **COLOURS,
    )  # fmt: skip
    datamodule = ImageDataModule(
        train, val, schedule, batch_size=20,
        train_transform=TrainTransform((32, 32), crop="center", flip=False, lighting=0.0),
        eval_transform=EvalTransform((32, 32)),
    )  # fmt: skip
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=1, accelerator="cpu", logger=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, datamodule)
    # One step of plain gradient descent, by hand.
    other = nn.Sequential(*[type(layer)(*args) for layer, args in zip(
        net, [(3, 4, 3), (1,), (), (4, len(train.classes))], strict=True)])  # fmt: skip
    for parameter, value in zip(other.parameters(), before, strict=True):
        parameter.data.copy_(value)
    crop = TrainTransform((32, 32), crop="center", flip=False, lighting=0.0)
    images = [crop(train.image(i), 0)[0] for i in range(20)]
    x = (torch.stack(images).float() / 255 - 0.5) / 0.25
    twice(other(x), torch.tensor(train.targets)).mean().backward()
    for parameter, trained in zip(other.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(trained, parameter - 0.1 * parameter.grad, rtol=1e-4, atol=1e-6)
    figures = module.state.val_results["32"]
    assert figures["images"] == 20
    assert module.state.started


def test_a_state_is_the_same_after_a_checkpoint(tmp_path: Path) -> None:
    results = {"96": {"loss": 1.0, "top1_error": 50.0, "top5_error": 5.0, "images": 4}}
    plateau = Plateau(1, 2)
    for error in (5.0, 6.0, 6.0, 4.0):
        plateau.update(error)
    state = RunState(
        plateau, images_seen=7, pixels_seen=8, train_seconds=1.5, val_results=results,
        best={"epoch": 1, "top1_error": 50.0, "val_results": results},
        bad_images={"b.png: cut off": None, "a.png: empty": None}, train_counts=[1.0, 2.0, 3.0, 4.0, 5.0],
        epoch_length=[3, 1], processes=2, stopped=["EarlyStopping"], started=True,
    )  # fmt: skip
    changed = {spec.name for spec in dataclasses.fields(RunState) if spec.name != "plateau"}
    fresh = RunState(Plateau(1, 2))
    assert all(getattr(state, name) != getattr(fresh, name) for name in changed), "one is left at its default"
    torch.save(state.to_checkpoint(), tmp_path / "state.pt")
    fresh.from_checkpoint(torch.load(tmp_path / "state.pt", weights_only=True))
    assert list(fresh.bad_images) == ["b.png: cut off", "a.png: empty"]
    assert fresh.plateau.state_dict() == {"drops": 1, "best": 4.0, "waited": 0}
    # What a process has done itself is not that of the next one.
    for name in changed - {"started"}:
        assert getattr(fresh, name) == getattr(state, name), name
    assert not fresh.started


@pytest.mark.parametrize("missing", [(), ("processes", "stopped")])
def test_what_is_checked_before_a_run_goes_on_is_what_a_state_keeps(missing: tuple[str, ...]) -> None:
    kept = RunState(Plateau(1, 2), processes=3).to_checkpoint()
    assert kept.keys() == PROGRESS | {"processes", "stopped"}
    fresh = RunState(Plateau(1, 2))
    # Of an older version some are missing.
    fresh.from_checkpoint({name: value for name, value in kept.items() if name not in missing})
    assert fresh.processes == (1 if missing else 3)
