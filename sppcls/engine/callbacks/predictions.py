"""What the final weights answer for each validation image, kept for comparisons image by image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from sppcls._util.console import say
from sppcls.data import Batch, Source
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.label_sets import is_multi_label
from sppcls.data.sizes import size_label
from sppcls.engine.module import ClassificationModule
from sppcls.errors import ConfigError
from sppcls.evaluation.predictions import KEPT, Predictions, gather
from sppcls.nn.model_info import probabilities, ranked
from sppcls.runs.names import PREDICTIONS

# Of a batch: index, target, the best classes with their scores, and of several labels the logits of all.
Part = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class SavePredictions(Callback):
    """Writes ``predictions/val_<size>.npz`` for every validation size when training has finished.

    They are those of the last validation, so they cost no further pass over the images, and their error is the last
    row of ``metrics.csv``.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / PREDICTIONS
        self._started = 0.0
        self._parts: dict[str, list[Part]] = {}

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
        multi_label = cast(ClassificationModule, pl_module).multi_label
        for name, logits in (outputs or {}).items():
            self._parts.setdefault(name, []).append(kept_part(batch, logits, multi_label))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            return
        module = cast(ClassificationModule, pl_module)
        seconds = time.perf_counter() - self._started
        source = cast(ImageDataModule, trainer.datamodule).val  # type: ignore[attr-defined]
        found = [
            gather(center_predictions(source, module.classes, name, self._parts.get(name, []), seconds))
            for name in map(size_label, module.val_sizes)
        ]
        self._parts = {}
        if not trainer.is_global_zero:
            return
        for predictions in found:
            keep(predictions, self.folder / f"val_{predictions.setting['size']}.npz")


def keep(predictions: Predictions, path: Path) -> None:
    """Write predictions; say it if that is impossible, as a finished training is worth more."""
    try:
        path.parent.mkdir(exist_ok=True)
        predictions.save(path)
    except (OSError, ConfigError) as error:
        say(f"The predictions could not be written: {error}")


def kept_part(batch: Batch, logits: Tensor, multi_label: bool) -> Part:
    """What is kept of a batch and of its logits, (N, classes)."""
    logits = logits.float()
    # Not of the probabilities, which next to 0 and 1 may be equal.
    best = ranked(logits, KEPT)
    scores = probabilities(logits, multi_label).gather(1, best)
    every = logits if multi_label else logits[:, :0]
    return batch.index.cpu(), batch.target.cpu(), best.cpu(), scores.cpu(), every.cpu()


def center_predictions(
    source: Source, classes: Sequence[str], size: str, parts: Sequence[Part], seconds: float
) -> Predictions:
    """This process's answers to the centre view.

    Args:
        source: the images.
        classes: names of the classes.
        size: label of the size that they were seen at.
        parts: from :func:`kept_part`, any number.
        seconds: that it took.
    """
    kept, multi_label = min(KEPT, len(classes)), is_multi_label(source)
    numbers = torch.empty(0, dtype=torch.int64)
    nothing = (
        numbers,
        torch.empty(0, len(classes)) if multi_label else numbers,
        numbers.view(0, kept),
        torch.empty(0, kept),
        torch.empty(0, len(classes) if multi_label else 0),
    )
    columns = zip(nothing, *parts, strict=True)
    indices, labels, top_class, top_score, scores = (torch.cat(column).numpy() for column in columns)
    return Predictions(
        "center",
        {"size": size, "average": "softmax" if not multi_label else "sigmoid"},
        list(classes),
        indices.astype(np.int64),
        [source.name(int(i)) for i in indices],
        labels > 0.5 if multi_label else labels,
        top_class,
        top_score.astype(np.float32),
        scores.astype(np.float32) if multi_label else None,
        views=1,
        seconds=seconds,
        bad=[],
    )
