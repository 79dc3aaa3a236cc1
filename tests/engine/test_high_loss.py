"""A loss far above guessing is said while a run trains, and an error like guessing's at its end."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from sppcls import compose, train

# So large a rate that the loss leaps at once, and so few steps that it stays a number.
HIGH = ("head=linear", "optimizer.lr=10", "optimizer.momentum=0", "scheduler=constant", "data.batch_size=4",
        "trainer.max_epochs=1", "sizes=single_224", "sizes.sizes=[64]")  # fmt: skip


def log_of(words: list[str]) -> str:
    return (Path(train(compose(words))["folder"]) / "train.log").read_text()


def test_several_batches_per_update_change_nothing_of_the_loss(tiny) -> None:
    log = log_of(tiny(*HIGH, "trainer.accumulate_grad_batches=4", "trainer.limit_train_batches=10"))
    (told,) = re.findall(r"step 10: training loss ([\d.]+), guessing 3.00", log)
    (of_epoch,) = re.findall(r"train loss ([\d.]+)", log)  # the mean of the same ten steps
    assert float(told) == pytest.approx(float(of_epoch), abs=0.06)


@pytest.mark.parametrize("mix", ["mix.mixup=0.0", "mix.mixup=0.4"])
def test_a_loss_far_above_guessing_is_said_once(tiny, mix: str) -> None:
    log = log_of(tiny(*HIGH, mix, "mix.label_smoothing=0.1"))
    (found,) = re.findall(r"step (\d+): training loss ([\d.]+), guessing ([\d.]+): (.*)", log)
    assert found[0] == "10"
    assert float(found[1]) > 3 * math.log(20)
    assert found[2] == "3.00"
    assert found[3] == "try a lower optimizer.lr (now 10) or optimizer=adamw optimizer.lr=3e-4"
    # After three leaps of ten steps nothing has been learned either.
    assert re.search(
        r"top-1 error, 9\d\.\d+ %, is not clearly better than that of guessing, 9[0-5]\.\d+ %", log
    )


def test_guessing_is_the_same_when_nothing_is_left_to_train(tiny) -> None:
    words = tiny(*HIGH, "data.num_val=40", "data.val_batch_size=3")
    train(compose(words))
    log = log_of([*words, "ckpt_path=auto"])
    assert "Nothing left to train" in log
    # Of 40 generated images, two of each of 20 classes.
    assert re.findall(r"that of guessing, ([\d.]+) %", log) == ["95.00", "95.00"]


def test_a_run_that_learns_is_not_warned(tiny) -> None:
    log = log_of(
        tiny("data.num_train=240", "data.num_val=100", "data.batch_size=8", "trainer.max_epochs=4", "head=linear",
             "sizes=single_224", "sizes.sizes=[64]", "backbone.width=0.25")
    )  # fmt: skip
    assert [line for line in log.splitlines() if "warning: " in line and "never predicted" not in line] == []
