"""Losses of steps that share an update are those of their images, not the shares that Lightning adds up."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sppcls import compose, train
from sppcls.engine.lr_finder import _Curve, find_rate

EVEN = ("data.batch_size=8", "trainer.max_epochs=1", "augment.lighting=0", "head.dropout=0")


def test_the_curve_of_steps_is_at_the_height_of_the_epochs_loss(tiny) -> None:
    words = tiny(*EVEN, "trainer.accumulate_grad_batches=3", "log.every_n_steps=1")
    folder = Path(train(compose(words))["folder"])
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    losses = [event.value for event in events.Scalars("step/loss")]
    with open(folder / "metrics.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert len(losses) == 6
    assert sum(losses) / 6 == pytest.approx(float(row["train/loss"]), rel=1e-5)


def test_the_test_of_rates_begins_at_the_same_loss_however_many_batches_an_update_has(tiny) -> None:
    losses = []
    for accumulate in (1, 3):
        words = tiny(*EVEN, f"trainer.accumulate_grad_batches={accumulate}", "trainer.max_epochs=6")
        losses.append(find_rate(compose(words), steps=12, low=1e-7, high=1e-6).losses)
    # At rates this low the weights stay as they are, so an update has the mean loss of its three batches.
    once = torch.tensor(losses[0][:12]).view(4, 3).mean(1)
    torch.testing.assert_close(torch.tensor(losses[1][:4]), once, rtol=1e-3, atol=0)


def test_a_loss_that_is_no_number_ends_the_test_of_rates_and_is_no_point_of_it() -> None:
    trainer, curve = SimpleNamespace(accumulate_grad_batches=1, should_stop=False), _Curve()
    for step, loss in enumerate([3.0, 2.0, float("nan")]):
        curve.on_train_batch_end(trainer, SimpleNamespace(lr=0.1 * (step + 1)), {"loss": loss}, None, step)  # type: ignore[arg-type]
    assert trainer.should_stop
    assert curve.test.losses == [3.0, 2.0]
    assert "no finite number" in curve.test.ended
    assert curve.test.lowest == 1
