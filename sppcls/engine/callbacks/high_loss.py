"""Says while a run trains that its loss is far above guessing, long before it is no number any more."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from sppcls._util.console import say
from sppcls.data import Batch
from sppcls.engine.losses import step_loss
from sppcls.engine.module import ClassificationModule


class HighLoss(Callback):
    """Warn, once in a process, if the mean loss of ten steps in a row is more than three times that of guessing.

    Equal probabilities have the loss ln(classes), whatever the target: label smoothing, mixup and cutmix included. Where
    images have several labels it is classes x ln(2).
    The losses of a step are read ten at a time, as on a GPU each reading waits for the device.
    """

    STEPS = 10
    FACTOR = 3.0

    def __init__(self) -> None:
        self._losses: list[Any] = []
        self._warned = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ClassificationModule)
        loss = step_loss(outputs, trainer.accumulate_grad_batches)
        if self._warned or loss is None or not trainer.is_global_zero:
            return
        self._losses.append(loss)
        if len(self._losses) < self.STEPS:
            return
        mean = sum(map(float, self._losses)) / len(self._losses)
        self._losses.clear()
        several = pl_module.multi_label
        guessing = len(pl_module.classes) * math.log(2) if several else math.log(len(pl_module.classes))
        if math.isfinite(mean) and mean > self.FACTOR * guessing:
            self._warned = True
            say(
                f"warning: epoch {trainer.current_epoch + 1}, step {batch_idx + 1}: training loss {mean:.1f}, "
                f"guessing {guessing:.2f}: try {_advice(pl_module.rate.base, trainer.optimizers[0])}"
            )


def _advice(rate: float, optimizer: torch.optim.Optimizer) -> str:
    lower = f"a lower optimizer.lr (now {rate:g})"
    adamw = f"{lower} or optimizer=adamw optimizer.lr=3e-4"
    return adamw if isinstance(optimizer, torch.optim.SGD) else lower
