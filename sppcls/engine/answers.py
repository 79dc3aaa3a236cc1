"""What the final weights answer for each validation image, kept for comparisons image by image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from sppcls.console import say
from sppcls.data import Batch
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.sizes import size_label
from sppcls.engine.module import ClassificationModule
from sppcls.errors import ConfigError
from sppcls.evaluation.predictions import KEPT, Predictions, gather

FOLDER = "predictions"


class Answers(Callback):
    """Writes ``predictions/val_<size>.npz`` for every validation size when training has finished.

    They are those of the last validation, so they cost no further pass over the images, and their error is the last
    row of ``metrics.csv``.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self._started = 0.0
        self._parts: dict[str, list[tuple[Tensor, Tensor, Tensor, Tensor]]] = {}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._parts = {}
        self._started = time.perf_counter()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            return
        for name, logits in (outputs or {}).items():
            best = logits.float().softmax(1).topk(min(KEPT, logits.shape[1]), dim=1)
            part = (batch.index.cpu(), batch.target.cpu(), best.indices.cpu(), best.values.cpu())
            self._parts.setdefault(name, []).append(part)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            return
        module = cast(ClassificationModule, pl_module)
        seconds = time.perf_counter() - self._started
        found = [gather(self._predictions(trainer, module, size_label(s), seconds)) for s in module.val_sizes]
        self._parts = {}
        if not trainer.is_global_zero:
            return
        try:
            self.folder.mkdir(exist_ok=True)
            for predictions in found:
                predictions.save(self.folder / f"val_{predictions.setting['size']}.npz")
        except (OSError, ConfigError) as error:  # a finished training is worth more
            say(f"The predictions could not be written: {error}")

    def _predictions(
        self, trainer: pl.Trainer, module: ClassificationModule, name: str, seconds: float
    ) -> Predictions:
        source = cast(ImageDataModule, trainer.datamodule).val  # type: ignore[attr-defined]
        kept = min(KEPT, len(module.classes))
        nothing = (
            torch.empty(0, dtype=torch.int64),
            torch.empty(0, dtype=torch.int64),
            torch.empty(0, kept, dtype=torch.int64),
            torch.empty(0, kept),
        )
        columns = zip(nothing, *self._parts.get(name, []), strict=True)
        indices, labels, top_class, top_score = (torch.cat(parts).numpy() for parts in columns)
        return Predictions(
            "center",
            {"size": name, "average": "softmax"},
            list(module.classes),
            indices.astype(np.int64),
            [source.name(int(i)) for i in indices],
            labels,
            top_class,
            top_score.astype(np.float32),
            None,
            views=1,
            seconds=seconds,
            bad=[],
        )
