"""Pictures for TensorBoard and the run folder: what goes in at each size, and what came out."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torchvision.utils import make_grid, save_image

from sppcls._util.console import printable, say
from sppcls._util.figures import FIGURES
from sppcls._util.files import replacing
from sppcls.data import Batch
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.sizes import size_label
from sppcls.data.transforms import prepare_batch
from sppcls.engine.logger import writer_of
from sppcls.engine.mistakes import Mistake
from sppcls.engine.module import ClassificationModule
from sppcls.engine.summary import guessing_error
from sppcls.errors import ImageError
from sppcls.evaluation.class_errors import read_class_errors
from sppcls.runs.metrics import read_metrics
from sppcls.runs.names import INPUTS, PICTURES, PREDICTIONS

SAMPLES = 16


class Pictures(Callback):
    """The first training images as the network sees them, at each size; at the end the learning curves, the confusion
    matrix and the worst mistakes of the last validation, also as ``pictures/*.png``.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step or batch_idx or not trainer.is_global_zero or not len(batch.target):
            return
        assert isinstance(pl_module, ClassificationModule)
        writer = writer_of(trainer)
        colours = (pl_module.mean, pl_module.std)
        mean, std = (torch.tensor(v, device=pl_module.device).view(3, 1, 1) for v in colours)
        for size in pl_module.schedule.training_sizes:
            x = prepare_batch(batch.image[:SAMPLES], size, *colours, lighting=batch.lighting[:SAMPLES])
            shown = (x * std + mean).clamp(0, 1)
            sheet = make_grid(shown, nrow=8)
            writer.add_image(f"train_inputs/{size_label(size)}", sheet, 0)
            with replacing(_picture(self.folder, f"{INPUTS}{size_label(size)}")) as temporary:
                save_image(sheet, temporary, format="png")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        confusion, worst = torch.empty(0), list[Mistake]()
        if not pl_module.multi_label:
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
        size = size_label(pl_module.val_sizes[0])
        figures = {"curves": curves_figure(read_metrics(self.folder).rows, pl_module)}
        if confusion.numel():
            figures["confusion"] = confusion_figure(confusion, pl_module.classes)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if worst and isinstance(datamodule, ImageDataModule):
            figures["worst_mistakes"] = mistakes_figure(worst, pl_module.classes, datamodule.val_image)
        for name, figure in figures.items():
            save_picture(self.folder, name, figure)
            writer_of(trainer).add_figure(f"val_{size}/{name}", figure, trainer.current_epoch - 1)
        error = "100 - average precision" if pl_module.multi_label else "top-1 error"
        lines = [
            f"| class | images | {error} at {size}, % | predicted | most often taken for |",
            "|---" * 5 + "|",
        ]
        for e in read_class_errors(self.folder / PREDICTIONS / f"val_{size}.npz"):
            lines.append(f"| {e.name} | {e.images} | {e.error:.2f} | {e.predicted} | {e.confused_with} |")
        writer_of(trainer).add_text(
            f"val_{size}/classes", printable("\n".join(lines)), trainer.current_epoch - 1
        )
        writer_of(trainer).flush()


def save_picture(folder: Path, name: str, figure: Figure) -> None:
    """Write ``pictures/<name>.png`` into a run folder."""
    with replacing(_picture(folder, name)) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _picture(folder: Path, name: str) -> Path:
    (folder / PICTURES).mkdir(exist_ok=True)
    return folder / PICTURES / f"{name}.png"


def curves_figure(rows: list[dict[str, str]], module: ClassificationModule) -> Figure:
    """Error of the training and at each validation size by epoch, with the level of guessing.

    Args:
        rows: of ``metrics.csv``.
        module: what was trained.
    """
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    trained = FIGURES[module.kind.training[1]].words if module.multi_label else ""
    columns = {"train": f"training, {trained}" if trained else "training"}
    columns |= {f"val_{name}": f"validation at {name}" for name in map(size_label, module.val_sizes)}
    for number, (prefix, label) in enumerate(columns.items()):
        error = module.kind.main if number else module.kind.training[1]
        points = [(int(r["epoch"]) + 1, float(r[key])) for r in rows if r.get(key := f"{prefix}/{error}")]
        x, y = zip(*points, strict=True) if points else ((), ())
        colour = f"C{number - 1}" if number else "0.6"
        axes.plot(x, y, "o-", ms=3.5, linewidth=1.4, color=colour, label=label)
    axes.axhline(
        guessing_error(module.trainer.datamodule.val),  # type: ignore[attr-defined]
        color="0.5",
        linewidth=1,
        linestyle=":",
        label="guessing",
    )
    words = FIGURES[module.kind.main].words
    axes.set(
        xlabel="epoch", ylabel=f"{words}, %", title=f"{words[0].upper()}{words[1:]} by epoch, centre view"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92")
    axes.legend(frameon=False)
    return figure


def confusion_figure(confusion: Tensor, classes: list[str]) -> Figure:
    """Confusion matrix as a picture: rows are true classes, cells per cent of the row, as numbers where they fit."""
    n = len(classes)
    share = 100 * confusion / confusion.sum(1, keepdim=True).clamp(min=1)
    side = min(14.0, max(5.0, 2.5 + 0.42 * n))
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.asarray(share), vmin=0, vmax=100, cmap="Blues")
    title = "Per cent of the images of each true class"
    axes.set(xlabel="predicted", ylabel="true class (its images)", title=title)
    if n <= 40:
        labels = [textwrap.shorten(printable(name), 18, placeholder="…") for name in classes]
        counts = [f"{label} ({int(row.sum())})" for label, row in zip(labels, confusion, strict=True)]
        axes.set_xticks(range(n), labels, rotation=90, parse_math=False)
        axes.set_yticks(range(n), counts, parse_math=False)
    for i, j in confusion.nonzero().tolist() if n <= 25 else ():
        colour = "white" if share[i, j] > 55 else "black"
        axes.text(j, i, f"{float(share[i, j]):.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.7, label="% of the row")
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
        text = f"said {predicted}\nis {target} (loss {mistake.loss:.1f})"
        axes.set_title(text, fontsize=9, parse_math=False)
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
