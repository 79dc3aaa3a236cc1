"""A callback of Lightning's; its parameters are config keys. Every figure of a run can be read where this one is."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class StopWhenGoodEnough(Callback):
    """End the training once the main validation error is low enough.

    Args:
        error: top-1 error in per cent.
    """

    def __init__(self, error: float = 5.0) -> None:
        self.error = error

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.callback_metrics["val/top1_error"] <= self.error:
            trainer.should_stop = True
