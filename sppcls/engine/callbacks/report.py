"""One row per epoch: on the console, in ``metrics.csv`` and in TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch.utils.tensorboard import SummaryWriter

from sppcls._util.console import say
from sppcls._util.figures import FIGURES, Kind
from sppcls.data import Batch
from sppcls.data.sizes import size_label
from sppcls.engine.logger import log_elsewhere, writer_of
from sppcls.engine.losses import step_loss
from sppcls.engine.module import ClassificationModule
from sppcls.errors import DataError
from sppcls.runs.metrics import append_row, drop_rows_from


class EpochReport(Callback):
    """Collects what an epoch showed and writes it down.

    TensorBoard gets every epoch figure twice: against the epoch (``val_224/top1_error``) and against the number of
    training images seen (``val_224_by_images/top1_error``), because runs with different batch or data sizes only line
    up on one of the two.

    Args:
        folder: the run folder.
        hyperparameters: the row of TensorBoard's HParams page.
        best_by: figure that the best epoch is chosen by, shown beside the errors.
    """

    def __init__(self, folder: Path, hyperparameters: dict[str, Any], best_by: str = "top1_error") -> None:
        self.folder = folder
        self.hyperparameters, self.best_by = hyperparameters, best_by
        self._clock = 0.0
        self._warm = False
        self._seconds: dict[str, float] = {}
        self._images: dict[str, int] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        self._start_epoch(trainer)
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.log_hyperparams(self.hyperparameters)
        if len(pl_module.val_sizes) > 1:
            _overlay_sizes(writer_of(trainer), list(pl_module.val_errors), pl_module.kind)
        sizes = (
            pl_module.state.val_results or pl_module.val_errors
        )  # those of the checkpoint of a resumed run
        drop_rows_from(self.folder, trainer.current_epoch, next(iter(sizes)))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start_epoch(trainer)

    def _start_epoch(self, trainer: pl.Trainer) -> None:
        self._seconds, self._images = {}, {}
        self._clock = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, ClassificationModule)
        now = time.perf_counter()
        name = size_label(pl_module.size)
        # The first step of a process warms caches and allocators up; it would spoil the figure of a short epoch.
        if self._warm:
            self._seconds[name] = self._seconds.get(name, 0.0) + now - self._clock
            self._images[name] = self._images.get(name, 0) + len(batch.target) * trainer.world_size
        pl_module.state.train_seconds += now - self._clock
        self._clock, self._warm = now, True
        due = trainer.is_global_zero and batch_idx % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if due and (loss := step_loss(outputs, trainer.accumulate_grad_batches)) is not None:
            figures = {"step/loss": float(loss), "step/lr": pl_module.lr}
            for logger in trainer.loggers:
                logger.log_metrics(figures, step=trainer.global_step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        train, state = pl_module.train_errors.compute(), pl_module.state
        if not train["images"]:
            raise DataError(f"no training image could be read; the first: {next(iter(state.bad_images))}")
        state.images_seen += int(train["images"])
        state.pixels_seen += int(train["pixels"])
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        val = state.val_results if validated else {}
        kind = pl_module.kind
        for figure in kind.training:  # for callbacks that watch a figure, on every process
            pl_module.log(f"train/{figure}", train[figure], logger=False)
        if not trainer.is_global_zero:
            return
        sizes = pl_module.schedule
        size = "varies" if sizes.changes_within_epoch else size_label(sizes.at(trainer.current_epoch, 0))
        seconds = sum(self._seconds.values())
        row: dict[str, Any] = {
            "epoch": trainer.current_epoch,
            "images_seen": state.images_seen,
            "pixels_seen": state.pixels_seen,
            "train_seconds": state.train_seconds,
            "size": size,
            "lr": pl_module.lr,
            **{f"train/{figure}": train[figure] for figure in kind.training},
        }
        for name in pl_module.val_errors:
            for figure in kind.validation:
                row[f"val_{name}/{figure}"] = val[name][figure] if name in val else ""
        row["images_per_s"] = sum(self._images.values()) / seconds if seconds else ""
        row["epoch_seconds"] = seconds
        append_row(self.folder, row)
        self._to_tensorboard(writer_of(trainer), pl_module, row)
        figures = {tag: v for tag, v in row.items() if tag not in ("epoch", "size") and v != ""}
        log_elsewhere(trainer, figures, row["epoch"])
        say(_line(row, val, trainer.max_epochs or 0, kind, kind.best_by(self.best_by)))

    def _to_tensorboard(
        self, writer: SummaryWriter, module: ClassificationModule, row: dict[str, Any]
    ) -> None:
        epoch, images = row["epoch"], row["images_seen"]
        for tag, value in row.items():
            if "/" in tag and value != "":
                group, figure = tag.split("/")
                writer.add_scalar(tag, value, epoch)
                writer.add_scalar(f"{group}_by_images/{figure}", value, images)
        writer.add_scalar("schedule/lr", row["lr"], epoch)
        writer.add_scalar("schedule/images_seen", images, epoch)
        height, width = module.schedule.at(epoch, 0)
        if height == width:
            writer.add_scalar("schedule/size", height, epoch)
        else:
            writer.add_scalar("schedule/height", height, epoch)
            writer.add_scalar("schedule/width", width, epoch)
        if module.schedule.changes_within_epoch:
            if row["images_per_s"] != "":
                writer.add_scalar("speed/images_per_s", row["images_per_s"], epoch)
        else:
            for name, seconds in self._seconds.items():
                writer.add_scalar(f"speed/images_per_s_{name}", self._images[name] / seconds, epoch)
        # The first column of HParams, which go by the alphabet; of the main size alone, as 180 would come before 224.
        if epoch + 1 == module.trainer.max_epochs or module.trainer.should_stop:
            for name, figures in [*module.state.val_results.items()][:1]:
                main = module.kind.main
                writer.add_scalar(f"final/val_{name}/{main}", figures[main], epoch)
        writer.flush()


def _overlay_sizes(writer: SummaryWriter, sizes: list[str], kind: Kind) -> None:
    """Charts under *Custom scalars* that show all validation sizes of a run together."""
    charts = {
        f"{figure} at every size": ["Multiline", [f"val_{size}/{figure}" for size in sizes]]
        for figure in (*kind.validation[1:], "loss")
    }
    writer.add_custom_scalars({"validation": charts})


def _line(
    row: dict[str, Any], val: dict[str, dict[str, float]], epochs: int, kind: Kind, best_by: str
) -> str:
    width = len(str(epochs))
    trained = kind.training[1]
    parts = [
        f"epoch {row['epoch'] + 1:>{width}}/{epochs}  size {row['size']:>6}  lr {row['lr']:<9.3g} "
        f"train loss {row['train/loss']:.3f}, {FIGURES[trained].words} {row[f'train/{trained}']:5.1f} %"
    ]
    for name, figures in val.items():
        text = f"val_{name} {FIGURES[kind.main].words} {figures[kind.main]:5.1f} %"
        for beside in kind.shown[1:]:
            text += f", {FIGURES[beside].words.removesuffix(' error')} {figures[beside]:4.1f} %"
        if best_by not in kind.shown:
            text += f", {FIGURES[best_by].words} {figures[best_by]:.1f}{FIGURES[best_by].unit}"
        parts.append(text)
    if row["images_per_s"] != "":
        parts.append(f"{row['images_per_s']:.0f} images/s")
    return " | ".join(parts)
