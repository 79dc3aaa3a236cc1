"""Fine-tuning as a run does it: what is frozen stays as it is, bit for bit, and a run goes on through the unfreezing."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import assert_same_run

from sppcls import compose, train
from sppcls.errors import CheckpointError, ConfigError, Interrupted
from sppcls.runs.checkpoint import read_checkpoint

State = dict[str, torch.Tensor]


class Watch(Callback):
    """Keeps the network's state before training and after every epoch, and may stop the run at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.states: list[State] = []
        self.norms: list[float] = []
        self.stop_at = stop_at

    def _keep(self, net: torch.nn.Module) -> None:
        self.states.append({name: value.clone() for name, value in net.state_dict().items()})

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._keep(pl_module.net)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        squares = [float((p.grad.double() ** 2).sum()) for p in pl_module.parameters() if p.grad is not None]
        self.norms.append(sum(squares) ** 0.5)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._keep(pl_module.net)


def changed(before: State, after: State, part: str) -> set[str]:
    return {name for name in before if name.startswith(part) and not torch.equal(before[name], after[name])}


@pytest.fixture(scope="module")
def pretrained(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [*tiny_words, f"runs_dir={tmp_path_factory.mktemp('runs')}", "trainer.max_epochs=1", "seed=1"]
    return Path(train(compose(words))["folder"])


def test_frozen_convolutions_and_statistics_stay_bit_for_bit_and_then_move(
    tiny, pretrained: Path, capsys
) -> None:
    watch = Watch()
    words = tiny(f"init_from={pretrained}", "freeze=[backbone]", "freeze_epochs=1", "trainer.max_epochs=2")
    train(compose(words), callbacks=[watch])
    start, frozen, after = watch.states
    best = read_checkpoint(pretrained / "best.ckpt")["state_dict"]
    assert all(torch.equal(value, best[f"net.{name}"]) for name, value in start.items())
    assert changed(start, frozen, "backbone") == set()
    assert changed(start, frozen, "head") >= {"head.hidden.fc6.0.weight", "head.last.weight"}
    backbone = {name for name in start if name.startswith("backbone")}
    assert changed(frozen, after, "backbone") == backbone
    output = capsys.readouterr().out
    assert "best.ckpt: backbone, head.fc6, head.last; nothing is new" in output
    assert "frozen      backbone: 16,648 of 20,588 parameters, for 1 of 2 epochs" in output


def test_frozen_in_all_epochs_it_stays_to_the_end_and_dropout_goes_on(tiny, pretrained: Path, capsys) -> None:
    watch = Watch()
    words = tiny(
        f"init_from={pretrained}", "freeze=[backbone,head.fc6]", "head.dropout=0.5", "ema.enabled=true",
        "freeze_epochs=9",
    )  # fmt: skip
    train(compose(words), callbacks=[watch])
    assert " parameters, in all epochs\n" in capsys.readouterr().out
    start, *_, after = watch.states
    assert changed(start, after, "") == {"head.last.weight", "head.last.bias"}


STATEFUL = ["optimizer=adamw", "optimizer.lr_factors={backbone: 0.3, head.last: 2}", "optimizer.layer_decay=0.9",
            "head.dropout=0.5", "mix.mixup=0.2", "ema.enabled=true", "trainer.max_epochs=3"]  # fmt: skip


@pytest.mark.parametrize("stop_at", [1, 3, 4], ids=["while frozen", "at the unfreezing", "after it"])
def test_a_run_goes_on_through_the_unfreezing_and_needs_the_file_no_more(
    tiny, prepared, pretrained: Path, stop_at: int, tmp_path: Path
) -> None:
    file = tmp_path / "start.ckpt"
    file.write_bytes((pretrained / "best.ckpt").read_bytes())
    frozen = ["freeze=[backbone]", "freeze_epochs=1"]
    words = tiny(*STATEFUL, f"init_from={file}", *frozen)
    whole = Path(prepared(*STATEFUL, f"init_from={pretrained}", *frozen, "run_name=whole")["folder"])
    with pytest.raises(Interrupted):
        train(compose([*words, "run_name=part"]), callbacks=[Watch(stop_at)])
    file.unlink()
    part = Path(train(compose([*words, "run_name=part", "ckpt_path=auto"]))["folder"])
    assert_same_run(whole, part)


def test_rates_of_a_run_are_kept_and_cannot_change_in_it(tiny) -> None:
    words = tiny("optimizer.lr_factors={backbone: 0.3}", "trainer.max_epochs=1", "run_name=x")
    folder = Path(train(compose(words))["folder"])
    (optimizer,) = read_checkpoint(folder / "last.ckpt")["optimizer_states"]
    found = [(group["label"], group["lr_scale"]) for group in optimizer["param_groups"]]
    assert found == [("backbone", 0.3), ("others", 1.0), ("backbone biases", 0.3), ("others biases", 1.0)]
    with pytest.raises(
        CheckpointError, match=r"optimizer.lr_factors.backbone is 0.3 there, 0.5 in this config"
    ) as error:
        train(
            compose(
                [*words, "optimizer.lr_factors.backbone=0.5", f"ckpt_path={folder}", "trainer.max_epochs=2"]
            )
        )
    assert "\n" not in str(error.value)
    without = [word for word in words if "lr_factors" not in word]
    with pytest.raises(CheckpointError, match="optimizer.lr_factors.backbone is 0.3 there, null in this"):
        train(compose([*without, f"ckpt_path={folder}", "trainer.max_epochs=2"]))


def test_the_gradients_norm_and_the_rate_of_each_part_are_in_tensorboard(tiny) -> None:
    watch = Watch()
    words = tiny(
        "optimizer.lr_factors={backbone: 0.3}", "trainer.gradient_clip_norm=0.01", "log.every_n_steps=1"
    )
    folder = train(compose(words), callbacks=[watch])["folder"]
    events = EventAccumulator(folder)
    events.Reload()

    def figures(tag: str) -> list[float]:
        return [point.value for point in events.Scalars(tag)]

    assert figures("step/gradient_norm") == pytest.approx(watch.norms, rel=1e-5)
    assert min(watch.norms) > 0.01  # before clipping
    rates = figures("step/lr")
    assert figures("step_lr/others") == pytest.approx(rates)
    assert figures("step_lr/backbone") == pytest.approx([0.3 * rate for rate in rates])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("freeze=[bakbone]", "freeze=bakbone: no such part .*did you mean 'backbone'"),
        ("freeze=[backbone,head]", "nothing is left to train"),
        ("freeze=[backbone,head] freeze_epochs=1", "nothing is left to train"),
        ("optimizer.lr_factors={head.fc9: 2}", "optimizer.lr_factors=head.fc9: no such part"),
        ("init_from=nowhere.ckpt", "init_from=nowhere.ckpt: no such file"),
        ("init_from=.", "init_from=.: a folder without best.ckpt or last.ckpt"),
        ("init_from={run} backbone.width=0.125", "init_from=.*: no layer of its backbone fits"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_written(
    tiny, words: str, message: str, pretrained: Path, tmp_path: Path
) -> None:
    typed = words.replace("{run}", str(pretrained)) if "{run}" in words else words
    typed_words = [typed] if "{head" in typed else typed.split()
    with pytest.raises(ConfigError, match=message) as error:
        train(compose(tiny(*typed_words)))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("freeze_epochs=2", "freeze_epochs=2: nothing is frozen; add the parts: freeze=\\[backbone\\]"),
        ("init_from=a backbone.weights=b", "init_from=a: also backbone.weights=b"),
        ("optimizer.lr_factors={backbone: 0}", "optimizer.lr_factors.backbone=0.0: must be above 0"),
        ("optimizer.lr_factors={backbone: x}", "optimizer.lr_factors.backbone=x: must be a number$"),
        ("optimizer.lr_factors=3", "optimizer.lr_factors=3: must be a mapping from names to numbers"),
        ("optimizer.layer_decay=0", "optimizer.layer_decay=0.0: must be > 0 and <= 1"),
        ("freeze=backbone", "freeze=backbone: must be a list of names; type freeze=.backbone."),
    ],
)
def test_impossible_values_are_one_line(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose([words] if "{" in words else words.split())


def test_another_normalisation_of_the_images_is_a_warning(tiny, pretrained: Path, capsys) -> None:
    train(compose(tiny(f"init_from={pretrained}", "data.mean=[0.5,0.5,0.4]", "trainer.max_epochs=1")))
    assert "trained with other colours; type data.mean=[0.5,0.5,0.5]" in capsys.readouterr().out


def test_gradient_checkpointing_gives_the_same_run(tiny) -> None:
    words = tiny("trainer.max_epochs=2", "head.dropout=0.5")
    plain = train(compose([*words, "run_name=plain"]))["folder"]
    saving = train(compose([*words, "run_name=saving", "trainer.gradient_checkpointing=true"]))["folder"]
    assert_same_run(Path(plain), Path(saving))


EVERY_EPOCH = ["callbacks=model_checkpoint", "callbacks.model_checkpoint.monitor=null",
               "callbacks.model_checkpoint.save_top_k=-1"]  # fmt: skip


def test_checkpoints_of_every_second_epoch_and_of_the_two_best(tiny) -> None:
    words = tiny(*EVERY_EPOCH, "trainer.max_epochs=5", "callbacks.model_checkpoint.every_n_epochs=2")
    folder = Path(train(compose([*words, "run_name=every"]))["folder"])
    assert {path.name for path in folder.rglob("epoch*.ckpt")} == {"epoch=001.ckpt", "epoch=003.ckpt"}
    words = tiny(
        "callbacks=model_checkpoint", "callbacks.model_checkpoint.save_top_k=2", "trainer.max_epochs=4"
    )
    folder = Path(train(compose([*words, "run_name=best"]))["folder"])
    with open(folder / "metrics.csv", newline="") as file:
        losses = {int(row["epoch"]): float(row["val_96/loss"]) for row in csv.DictReader(file)}
    best = sorted(losses, key=lambda epoch: losses[epoch])[:2]
    assert {path.name for path in folder.rglob("epoch*.ckpt")} == {
        f"epoch={epoch:03d}.ckpt" for epoch in best
    }


@pytest.mark.parametrize("epochs", ["1", "null"])
def test_two_processes_freeze_and_unfreeze_as_one_does(tiny, program, tmp_path: Path, epochs: str) -> None:
    words = tiny(*EVERY_EPOCH, "freeze=[backbone]", f"freeze_epochs={epochs}", "backbone.norm=none", "optimizer.lr=0.1",
                 "head.dropout=0", "trainer.gradient_clip_norm=0.5")  # fmt: skip
    train(compose([*words, "run_name=alone"]))
    process = program(
        [*words, "data.batch_size=8", "trainer.strategy=ddp", "trainer.devices=2", "run_name=two"], children=1
    )
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    states = {}
    for name in ("alone", "two"):
        for epoch in (0, 1):
            (path,) = (tmp_path / "runs" / "shapes" / name).rglob(f"epoch=00{epoch}.ckpt")
            states[name, epoch] = read_checkpoint(path)["state_dict"]
    for epoch in (0, 1):
        for key, value in states["alone", epoch].items():
            torch.testing.assert_close(states["two", epoch][key], value, rtol=1e-4, atol=1e-5)
    assert torch.equal(states["two", 0][CONV], states["two", 1][CONV]) == (epochs == "null")
    assert torch.equal(states["two", 0][CONV], states["alone", 0][CONV])  # as it began


CONV = "net.backbone.layers.conv1.weight"
