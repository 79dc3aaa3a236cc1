"""A progress bar on a terminal; plain lines, not too many, anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from sppcls._util.console import say
from sppcls._util.figures import FIGURES
from sppcls.data.sizes import size_label
from sppcls.engine.module import ClassificationModule


def make_progress(kind: str) -> Callback:
    """``bar``, ``lines``, or ``auto``: a bar if the output is a terminal."""
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() and sys.stderr.isatty() else "lines"
    return SizeProgressBar(refresh_rate=5, leave=False) if kind == "bar" else ProgressLines()


def _running(module: ClassificationModule) -> dict[str, str]:
    """Mean loss and error of the epoch so far, in this process: the first of the training's figures after the loss."""
    counts, words = module.train_errors, FIGURES[module.kind.training[1]].words
    total = max(1, int(counts.total))
    return {
        "loss": f"{float(counts.loss_sum) / total:.3f}",
        words: f"{100 * int(counts.wrong1) / total:.1f} %",
    }


class SizeProgressBar(TQDMProgressBar):
    """Lightning's bar with the mean loss and error of the epoch so far, and the input size; epochs count from 1."""

    BAR_FORMAT = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # whole on 80 columns

    def on_train_epoch_start(self, trainer: pl.Trainer, *others: Any) -> None:
        super().on_train_epoch_start(trainer, *others)
        self.train_progress_bar.set_description_str(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, ClassificationModule)
        if not trainer.training:
            return {}
        return {"size": size_label(pl_module.size), **_running(pl_module)}


class ProgressLines(Callback):
    """A line every half minute within an epoch, for logs and pipes."""

    EVERY_SECONDS = 30.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._said_at = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._said_at = time.monotonic()  # a run resumed within an epoch has no epoch start

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ClassificationModule)
        now = time.monotonic()
        if now - self._said_at < self.EVERY_SECONDS or not trainer.is_global_zero:
            return
        self._said_at = now
        errors = ", ".join(f"{name} {value}" for name, value in _running(pl_module).items())
        say(
            f"  epoch {trainer.current_epoch + 1}, step {batch_idx + 1}/{trainer.num_training_batches}, "
            f"size {size_label(pl_module.size)}, {errors}"
        )
