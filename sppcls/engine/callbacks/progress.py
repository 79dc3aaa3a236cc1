"""A progress bar on a terminal; plain lines, not too many, anywhere else."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from sppcls._util.console import say
from sppcls.data.sizes import size_label
from sppcls.engine.module import ClassificationModule


def make_progress(kind: str) -> Callback:
    """``bar``, ``lines``, or ``auto``: a bar if the output is a terminal."""
    if kind == "auto":
        kind = "bar" if sys.stdout.isatty() and sys.stderr.isatty() else "lines"
    return SizeProgressBar(refresh_rate=5, leave=False) if kind == "bar" else ProgressLines()


def _running(module: ClassificationModule) -> tuple[float, float]:
    """Mean loss and top-1 error of the epoch so far, in this process."""
    counts = module.train_errors
    total = max(1, int(counts.total))
    return float(counts.loss_sum) / total, 100 * int(counts.wrong1) / total


class SizeProgressBar(TQDMProgressBar):
    """Lightning's bar with the mean loss and error of the epoch so far, and the input size."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, ClassificationModule)
        if not trainer.training:
            return {}
        loss, error = _running(pl_module)
        return {"size": size_label(pl_module.size), "loss": f"{loss:.3f}", "top-1 error": f"{error:.1f} %"}


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
        loss, error = _running(pl_module)
        say(
            f"  epoch {trainer.current_epoch + 1}, step {batch_idx + 1}/{trainer.num_training_batches}, "
            f"size {size_label(pl_module.size)}, loss {loss:.3f}, top-1 error {error:.1f} %"
        )
