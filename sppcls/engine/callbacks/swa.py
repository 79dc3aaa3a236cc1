"""Stochastic weight averaging: the mean of the weights at the ends of the last epochs."""

from __future__ import annotations

from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from sppcls.data import prepare_batch
from sppcls.data.datamodule import ImageDataModule
from sppcls.engine.module import ClassificationModule
from sppcls.errors import DataError
from sppcls.evaluation.recalibration import has_statistics, new_statistics


class StochasticWeightAveraging(WeightAveraging):
    """Averages the weights after every epoch from one on (Izmailov et al. 2018); until then they are those of training.

    What is averaged is validated and saved. The average is taken before the validation of an epoch. How many epochs are in it
    is kept in the checkpoint, so a run that is resumed with another length or start weighs them as they are.

    The statistics of batch normalisation are then computed anew for the averaged weights, as by Izmailov et al. at the end of
    training: here before every validation, so that each epoch is validated with what it saves, and training may stop after
    any. They come from training images as training sees them, at each of its sizes in turn. All processes take the same
    images, which the seed and the epoch decide. Statistics that are frozen stay.

    Args:
        first: number of the first epoch that is averaged, from 0.
        images: how many training images, at least; 0: the statistics are averaged, too.
    """

    def __init__(self, first: int, images: int) -> None:
        super().__init__(avg_fn=self._average)
        self.first, self.images = first, images
        self._before = 0  # epochs in the average before this one
        self._updated = -1  # the last epoch after which it was taken
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
            self._averaged, self._updated = self._before + 1 if after >= 0 else 0, trainer.current_epoch
            if after >= 0 and self.images:
                self._compute_statistics(trainer, cast(ClassificationModule, pl_module))

    def _compute_statistics(self, trainer: pl.Trainer, trained: ClassificationModule) -> None:
        assert self._average_model is not None
        net = cast(ClassificationModule, self._average_model.module).net
        learning = {name for name, layer in trained.net.named_modules() if layer.training}
        norms = [layer for name, layer in net.named_modules() if name in learning and has_statistics(layer)]
        if not norms:
            return
        data = cast(ImageDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        sizes, used = trained.schedule.training_sizes, 0
        net.eval()  # dropout, too
        with new_statistics(norms), trainer.precision_plugin.forward_context(), torch.no_grad():
            for batch in data.statistics_dataloader(trainer.current_epoch, self.images):
                batch = data.on_before_batch_transfer(batch, 0)
                if len(batch.target):
                    image, lighting = batch.image.to(trained.device), batch.lighting.to(trained.device)
                    size = sizes[used % len(sizes)]
                    net(prepare_batch(image, size, trained.mean, trained.std, lighting=lighting))
                    used += 1
        if not used:
            raise DataError("swa.batch_norm_images: no training image could be read")

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
        begun = max(trainer.current_epoch, self._updated + 1) > self.first and self._averaged != 0
        if not begun and self._average_model is not None:
            # Nothing is averaged yet; within an epoch the weights here are those of its beginning.
            self._average_model.module.load_state_dict(pl_module.state_dict())
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
