"""Test protocols as a part of training: every so many epochs, and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from sppcls._util.console import say
from sppcls._util.figures import FIGURES
from sppcls.data import Source
from sppcls.data.datamodule import ImageDataModule
from sppcls.engine.callbacks.predictions import keep
from sppcls.engine.logger import log_figures, writer_of
from sppcls.engine.module import ClassificationModule
from sppcls.evaluation import Predictions, Protocol, evaluate_protocol
from sppcls.nn import SPPClassifier
from sppcls.runs.checkpoint import read_checkpoint
from sppcls.runs.folder import lacks_result
from sppcls.runs.names import LAST, PROTOCOLS, figure_names


class ProtocolErrors(Callback):
    """Errors of the validation images under named protocols, such as ``val_ten_view_224/top1_error``.

    Each process tests its share of the images. With averaged weights these are tested: in the list of callbacks this
    one stands before the averaging, which puts the raw weights back when a validation ends. At the end the averaging
    comes first: :class:`ProtocolErrorsAtEnd`.

    Args:
        protocols: what to test.
        every: epochs between tests; None: at the end only.
    """

    def __init__(self, protocols: Sequence[Protocol], every: int | None) -> None:
        self.protocols, self.every = protocols, every

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.current_epoch + 1
        due = self.every is not None and done % self.every == 0 and done < (trainer.max_epochs or 0)
        if due and not trainer.sanity_checking:
            self.test(trainer, pl_module, trainer.current_epoch)

    def test(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> list[Predictions]:
        """Test the network as it is, on the device that it is on."""
        module = cast(ClassificationModule, pl_module)
        datamodule = cast(ImageDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        with trainer.strategy.precision_plugin.val_step_context():
            found = [run_protocol(module, datamodule, datamodule.val, p) for p in self.protocols]
        for predictions in found:
            module.state.note_bad(predictions.bad)
        if trainer.is_global_zero:
            for predictions in found:
                figures = predictions.figures
                errors = ", ".join(f"{FIGURES[e].words} {figures[e]:.2f} %" for e in module.kind.shown)
                log_figures(trainer, protocol_figures([predictions]), epoch)
                say(
                    f"epoch {epoch + 1}, protocol {predictions.protocol}: {errors} (views: {predictions.views}, "
                    f"{predictions.images_per_second:.0f} images/s)"
                )
            writer_of(trainer).flush()
        return found


def run_protocol(
    module: ClassificationModule, datamodule: ImageDataModule, source: Source, protocol: Protocol
) -> Predictions:
    """What the network answers as it is, batched and read as in the validation of its training."""
    return evaluate_protocol(
        cast(SPPClassifier, module.net),
        source,
        protocol,
        model_info=module.model_info,
        batch_size=datamodule.val_batch_size,
        workers=datamodule.workers,
    )


def protocol_figures(found: Sequence[Predictions]) -> dict[str, Any]:
    """Errors under protocols by the names that they have in logs and results: ``val_ten_view_224/top1_error``."""
    return figure_names({f"{p.protocol}_{p.setting['size']}": p.figures for p in found})


class ProtocolErrorsAtEnd(Callback):
    """The last test of a training. Must come after ``WeightAveraging`` in the list of callbacks.

    Args:
        folder: where the predictions are written, in ``protocols/<name>.npz``.
        errors: what tests.

    Attributes:
        results: the predictions.
    """

    def __init__(self, folder: Path, errors: ProtocolErrors) -> None:
        self.folder, self.errors = folder, errors
        self.results: list[Predictions] = []

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._test(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if cast(ClassificationModule, pl_module).state.started:
            return
        # Nothing was left to train. By now Lightning has put the network on the CPU.
        if trainer.strategy.broadcast(lacks_result(self.folder, trainer.current_epoch)):
            # Killed after its last checkpoint, whose weights are those to test: the averaged ones, if any.
            pl_module.load_state_dict(read_checkpoint(self.folder / LAST)["state_dict"])
            pl_module.to(trainer.strategy.root_device)
            self._test(trainer, pl_module)

    def _test(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.results = self.errors.test(trainer, pl_module, trainer.current_epoch - 1)
        if trainer.is_global_zero:
            for predictions in self.results:
                keep(predictions, self.folder / PROTOCOLS / f"{predictions.protocol}.npz")
