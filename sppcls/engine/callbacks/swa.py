"""Stochastic weight averaging: the mean of the weights at the ends of the last epochs."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


def first_averaged(start: float, epochs: int) -> int:
    """Number of the first epoch after a share of all epochs, from 0."""
    return int(start * epochs + 1e-9)  # 0.58 of 50 is a little less than 29


class StochasticWeightAveraging(WeightAveraging):
    """Averages the weights after every epoch from one on (Izmailov et al. 2018); until then they are those of training.

    What is averaged is validated and saved, and so are the statistics of batch normalisation. The average is taken before
    the validation of an epoch. How many epochs are in it follows from the epoch, so a run that goes on needs no count.

    Args:
        first: number of the first epoch that is averaged, from 0.
    """

    def __init__(self, first: int) -> None:
        super().__init__(avg_fn=self._average)
        self.first = first
        self._before = 0

    def _average(self, averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        if not self._before or not averaged.is_floating_point():  # counters, such as batch norm's
            return current
        return averaged + (current - averaged) / (self._before + 1)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Never, as Lightning asks after the validation: :meth:`on_train_batch_end` does it."""
        return False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 >= trainer.num_training_batches:
            self._before = max(0, trainer.current_epoch - self.first)
            assert self._average_model is not None
            self._average_model.update_parameters(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.current_epoch <= self.first and self._average_model is not None:
            # Nothing is averaged yet; within an epoch the weights here are those of its beginning.
            pairs = zip(
                self._average_model.module.state_dict().values(), pl_module.state_dict().values(), strict=True
            )
            for kept, current in pairs:
                kept.copy_(current)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
