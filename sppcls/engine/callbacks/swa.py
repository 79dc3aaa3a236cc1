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

    What is averaged is validated and saved. The average is taken before the validation of an epoch. How many epochs are in it
    is kept in the checkpoint, so a run that is resumed with another length or start weighs them as they are.

    The statistics of batch normalisation are averaged, too, where Izmailov et al. compute them anew in one more pass over the
    training images: so every epoch is validated with what it saves, at the cost of no pass.

    Args:
        first: number of the first epoch that is averaged, from 0.
    """

    def __init__(self, first: int) -> None:
        super().__init__(avg_fn=self._average)
        self.first = first
        self._before = 0
        self._averaged: int | None = 0

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
            after = trainer.current_epoch - self.first
            if self._averaged is None:  # of a checkpoint that did not count
                self._averaged = max(0, after)
            self._before = self._averaged if after > 0 else 0
            assert self._average_model is not None
            self._average_model.update_parameters(pl_module)
            self._averaged = self._before + 1 if after >= 0 else 0

    def state_dict(self) -> dict[str, Any]:
        """With the number of epochs in the average."""
        return {**super().state_dict(), "averaged": self._averaged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the values of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self._averaged = state_dict.get("averaged")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        begun = trainer.current_epoch > self.first and self._averaged != 0
        if not begun and self._average_model is not None:
            # Nothing is averaged yet; within an epoch the weights here are those of its beginning.
            self._average_model.module.load_state_dict(pl_module.state_dict())
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
