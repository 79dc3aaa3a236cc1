"""Pictures for TensorBoard: what goes in at each size, and what came out wrong."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torchvision.utils import make_grid

from sppcls._util.console import printable, say
from sppcls.data import Batch
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.sizes import size_label
from sppcls.data.transforms import prepare_batch
from sppcls.engine.logger import writer_of
from sppcls.engine.mistakes import Mistake
from sppcls.engine.module import ClassificationModule
from sppcls.errors import ImageError

SAMPLES = 16


class Pictures(Callback):
    """The first training images as the network sees them, at each size; at the end the confusion matrix and the worst
    mistakes of the last validation."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step or batch_idx or not trainer.is_global_zero or not len(batch.target):
            return
        assert isinstance(pl_module, ClassificationModule)
        writer = writer_of(trainer)
        data = pl_module.config.data
        mean, std = (torch.tensor(v, device=pl_module.device).view(3, 1, 1) for v in (data.mean, data.std))
        for size in pl_module.schedule.training_sizes:
            x = prepare_batch(
                batch.image[:SAMPLES], size, data.mean, data.std, lighting=batch.lighting[:SAMPLES]
            )
            shown = (x * std + mean).clamp(0, 1)
            writer.add_image(f"inputs/{size_label(size)}", make_grid(shown, nrow=8), 0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        confusion, worst = pl_module.mistakes.compute()
        if not trainer.is_global_zero:
            return
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                self._draw_results(trainer, pl_module, confusion, worst)
        except Exception as error:  # a picture is not worth a finished training
            say(f"The pictures of the results could not be drawn: {error}")

    def _draw_results(
        self, trainer: pl.Trainer, pl_module: ClassificationModule, confusion: Tensor, worst: list[Mistake]
    ) -> None:
        writer, epoch = writer_of(trainer), trainer.current_epoch - 1
        if confusion.numel():
            writer.add_figure("val/confusion", confusion_figure(confusion, pl_module.classes), epoch)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if worst and isinstance(datamodule, ImageDataModule):
            figure = mistakes_figure(worst, pl_module.classes, datamodule.val_image)
            writer.add_figure("val/worst_mistakes", figure, epoch)
        writer.flush()


def confusion_figure(confusion: Tensor, classes: list[str]) -> Figure:
    """Confusion matrix as a picture: rows are true classes, in per cent of the row; counts where they can be read."""
    n = len(classes)
    share = 100 * confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    side = min(14.0, max(5.0, 2.5 + 0.42 * n))
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.asarray(share), vmin=0, vmax=100, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true", title="Confusion, per cent of the true class")
    if n <= 40:
        labels = [textwrap.shorten(printable(name), 18, placeholder="…") for name in classes]
        axes.set_xticks(range(n), labels, rotation=90, parse_math=False)
        axes.set_yticks(range(n), labels, parse_math=False)
    if n <= 25:
        for i in range(n):
            for j in range(n):
                if confusion[i, j]:
                    colour = "white" if share[i, j] > 55 else "black"
                    axes.text(
                        j, i, str(int(confusion[i, j])), ha="center", va="center", color=colour, fontsize=8
                    )
    figure.colorbar(image, ax=axes, shrink=0.7, label="%")
    return figure


def mistakes_figure(worst: list[Mistake], classes: list[str], load: Callable[[int], Tensor]) -> Figure:
    """The validation images with the largest loss; ``load`` gives one as uint8 (3, H, W)."""
    columns = 4
    rows = -(-len(worst) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.0 * rows), layout="constrained")
    for axes, mistake in zip(np.atleast_1d(figure.subplots(rows, columns)).flat, worst, strict=False):
        try:
            axes.imshow(load(mistake.image).permute(1, 2, 0).numpy())
        except ImageError:
            continue
        predicted, target = printable(classes[mistake.predicted]), printable(classes[mistake.target])
        text = f"{predicted}\nis {target} (loss {mistake.loss:.1f})"
        axes.set_title(text, fontsize=9, parse_math=False)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
