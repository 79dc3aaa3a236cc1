"""Stochastic weight averaging against the mean of the weights, written down."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from test_resume import assert_same_run

from sppcls import compose, evaluate, load_classifier, train
from sppcls.config.build import load_sources, make_datamodule
from sppcls.config.schedule import first_averaged, size_schedule
from sppcls.data import prepare_batch
from sppcls.errors import ConfigError, Interrupted

WORDS = [
    "swa.enabled=true",
    "swa.start=0.5",
    "trainer.max_epochs=4",
    "scheduler=constant",
    "optimizer.lr=0.05",
]


class AfterEachEpoch(Callback):
    """Keeps the weights of training after the last step of every epoch; may stop the run at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.states: list[dict[str, torch.Tensor]] = []
        self.stop_at = stop_at

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 == trainer.num_training_batches:
            self.states.append({name: value.clone() for name, value in pl_module.net.state_dict().items()})
        if trainer.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("images", [0, 1024])
def test_what_is_saved_is_the_mean_over_the_last_epochs(tiny, images: int) -> None:
    watch = AfterEachEpoch()
    words = tiny(*WORDS, f"swa.batch_norm_images={images}")
    folder = Path(train(compose(words), callbacks=[watch])["folder"])
    saved = load_classifier(folder / "last.ckpt").state_dict()
    assert len(watch.states) == 4
    for name, value in saved.items():
        if value.is_floating_point() and (images == 0 or "running_" not in name):
            mean = torch.stack([state[name].double() for state in watch.states[2:]]).mean(0)
            torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)
    assert not torch.equal(saved["head.last.weight"], watch.states[3]["head.last.weight"])
    assert "weights averaged over epochs 3 to 4" in (folder / "train.log").read_text()


@pytest.mark.parametrize(("images", "start"), [(1024, 0.5), (20, 0.75)], ids=["two epochs", "the last epoch"])
def test_batch_norm_has_the_statistics_of_training_images_as_torch_computes_them(
    tiny, images: int, start: float
) -> None:
    words = tiny(*WORDS, "head.dropout=0.5", f"swa.batch_norm_images={images}", f"swa.start={start}")
    config = compose(words)
    run = train(config)
    net = load_classifier(Path(run["folder"]) / "last.ckpt")
    splits, schedule = load_sources(config), size_schedule(config)
    batches = list(
        make_datamodule(config, schedule, splits.train, splits.val).statistics_dataloader(3, images)
    )
    seen = torch.cat([batch.index for batch in batches]).tolist()
    assert sorted(set(seen)) == sorted(seen)
    assert len(seen) == (48 if images > 48 else 32)
    inputs = [
        prepare_batch(batch.image, (size, size), config.data.mean, config.data.std, lighting=batch.lighting)
        for batch, size in zip(batches, (96, 72, 96), strict=False)
    ]
    other = copy.deepcopy(net)
    for layer in other.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0
    torch.optim.swa_utils.update_bn(inputs, other)
    names = [name for name in net.state_dict() if "running_" in name]
    assert names
    for name in names:
        torch.testing.assert_close(net.state_dict()[name], other.state_dict()[name], rtol=1e-5, atol=1e-6)
    (center, *_) = evaluate(net, splits.val, ["center"], sizes=[(96, 96)])
    assert center.predictions.top1_error == pytest.approx(run["last"]["val_96/top1_error"], abs=1e-4)


def test_frozen_statistics_stay(tiny) -> None:
    words = tiny("trainer.max_epochs=1", "run_name=first")
    first = train(compose(words))
    frozen = tiny(
        *WORDS, "freeze=[backbone]", f"init_from={first['folder']}/last.ckpt", "trainer.max_epochs=2"
    )
    second = train(compose(frozen))
    before, after = (load_classifier(Path(r["folder"]) / "last.ckpt").state_dict() for r in (first, second))
    names = [name for name in before if name.startswith("backbone.") and "running_" in name]
    assert names
    assert all(torch.equal(before[name], after[name]) for name in names)


def test_the_mean_of_one_epoch_is_its_weights(tiny) -> None:
    watch = AfterEachEpoch()
    folder = Path(
        train(compose(tiny("swa.enabled=true", "trainer.max_epochs=1")), callbacks=[watch])["folder"]
    )
    saved = load_classifier(folder / "last.ckpt").state_dict()
    learnt = {
        name: value for name, value in saved.items() if "running_" not in name and "num_batches" not in name
    }
    assert all(torch.equal(value, watch.states[0][name]) for name, value in learnt.items())


@pytest.mark.parametrize("stop_at", [2, 7, 10], ids=["before", "in the first epoch", "in the second epoch"])
def test_a_run_goes_on_with_the_same_mean(tiny, stop_at: int) -> None:
    whole = Path(train(compose(tiny(*WORDS, "run_name=whole")))["folder"])
    words = tiny(*WORDS, "run_name=part")
    with pytest.raises(Interrupted):
        train(compose(words), callbacks=[AfterEachEpoch(stop_at)])
    part = Path(train(compose([*words, "ckpt_path=auto"]))["folder"])
    assert_same_run(whole, part)


def test_a_run_goes_on_with_another_start_and_counts_what_is_there(tiny) -> None:
    first, second = AfterEachEpoch(), AfterEachEpoch()
    words = tiny("swa.enabled=true", "scheduler=constant", "optimizer.lr=0.05", "run_name=run")
    begun = train(compose([*words, "swa.start=0.75", "trainer.max_epochs=4"]), callbacks=[first])
    longer = [*words, "swa.start=0.34", "trainer.max_epochs=6", f"ckpt_path={begun['folder']}"]
    train(compose(longer), callbacks=[second])
    saved = load_classifier(Path(begun["folder"]) / "last.ckpt").state_dict()
    for name, value in saved.items():
        if value.is_floating_point() and "running_" not in name:
            states = [first.states[3], *second.states]  # of the fourth epoch on, not of the third
            mean = torch.stack([state[name].double() for state in states]).mean(0)
            torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)


def test_two_averages_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"swa\.enabled=true: also ema\.enabled=true"):
        compose(["swa.enabled=true", "ema.enabled=true"])


def test_within_an_epoch_before_it_begins_the_weights_are_those_of_the_moment(tiny) -> None:
    class Stop(Callback):
        state: dict[str, torch.Tensor]

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                self.state = {name: value.clone() for name, value in pl_module.net.state_dict().items()}
                os.kill(os.getpid(), signal.SIGTERM)

    stop, words = Stop(), tiny(*WORDS, "run_name=part")
    with pytest.raises(Interrupted):
        train(compose(words), callbacks=[stop])
    (last,) = Path(compose(words).runs_dir).rglob("last.ckpt")
    saved = load_classifier(last).state_dict()
    assert all(torch.equal(value, stop.state[name]) for name, value in saved.items())


def test_the_share_of_the_epochs_is_exact() -> None:
    assert all(
        first_averaged(percent / 100, epochs) == percent * epochs // 100
        for percent in range(100)
        for epochs in range(1, 101)
    )
