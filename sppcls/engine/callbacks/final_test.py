"""The test split: looked at once, when training has finished, with the last weights and with those of the best epoch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from sppcls._util.console import say
from sppcls._util.figures import FIGURES
from sppcls.data import prepare_batch
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.sizes import size_label
from sppcls.engine.callbacks.predictions import Part, center_predictions, keep, kept_part
from sppcls.engine.callbacks.protocols import run_protocol
from sppcls.engine.logger import log_figures, writer_of
from sppcls.engine.module import ClassificationModule
from sppcls.errors import DataError, SppclsError
from sppcls.evaluation import Predictions, Protocol
from sppcls.evaluation.predictions import NothingTestedError, gather
from sppcls.runs.checkpoint import read_checkpoint
from sppcls.runs.folder import lacks_result
from sppcls.runs.names import BEST, LAST, PREDICTIONS, figure_names

Figures = dict[str, Any]


class FinalTest(Callback):
    """Errors on the test images: ``test_224/top1_error`` and, of the best epoch, ``test_best_224/top1_error``.

    The views are those of ``protocols`` (``test_ten_view_224/top1_error``) or, without any, those of the validation:
    one centre view at every size, the main one first. The weights come from the
    checkpoints, so they are the averaged ones where these are kept, and a run that was killed here is tested alike when
    it is resumed. Each process tests its share of the images.

    The best epoch was chosen on the validation images, so the test images have chosen nothing: both errors are honest.

    Args:
        folder: the run folder; the answers for every image go to ``predictions/test_*.npz``.
        protocols: what to test; empty: the views of the validation.

    Attributes:
        figures: ``{"last": {"epoch", name: {"top1_error", ..., "images", "top1_interval"}}, "best": ...}``, with the
            figures of :attr:`Predictions.figures`, ``name`` a size, or a protocol and its size; empty without a test.
            ``best`` repeats ``last`` where it is the same epoch.
    """

    def __init__(self, folder: Path, protocols: Sequence[Protocol]) -> None:
        self.folder, self.protocols = folder, protocols
        self.figures: dict[str, Figures] = {}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module, datamodule = cast(ClassificationModule, pl_module), cast(ImageDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        if datamodule.test is None:
            return
        # A run that had finished before keeps what it has.
        if not module.state.started and not trainer.strategy.broadcast(
            lacks_result(self.folder, trainer.current_epoch)
        ):
            return
        if trainer.is_global_zero:  # of a run that was continued past its end
            for path in (self.folder / PREDICTIONS).glob("test*.npz"):
                path.unlink(missing_ok=True)
        last = trainer.current_epoch - 1
        best = module.state.best["epoch"] if module.state.best else last
        # The best first: the module is left with the last weights.
        for weights, epoch in ([("best", best)] if best != last else []) + [("last", last)]:
            try:
                self._test(trainer, module, datamodule, weights, epoch)
            except (SppclsError, OSError) as error:  # a finished training is worth more
                if trainer.world_size > 1 and not isinstance(error, NothingTestedError):
                    raise  # the other processes wait for this one; resumed, the run is tested again
                say(f"The {weights} weights could not be tested on the test images: {error}")
        if best == last and "last" in self.figures:
            self.figures["best"] = self.figures["last"]
        if trainer.is_global_zero:
            self._write(trainer)

    def named_figures(self) -> dict[str, dict[str, Any]]:
        """The same under the names that figures have in logs: ``{"last": {"epoch", "test_224/top1_error", ...}, ...}``."""
        return {
            weights: {
                "epoch": figures["epoch"],
                **figure_names({k: v for k, v in figures.items() if k != "epoch"}, _prefix(weights)),
            }
            for weights, figures in self.figures.items()
        }

    def _test(
        self,
        trainer: pl.Trainer,
        module: ClassificationModule,
        datamodule: ImageDataModule,
        weights: str,
        epoch: int,
    ) -> None:
        state = self._state(weights, epoch) if trainer.is_global_zero else None
        if trainer.world_size > 1:  # the others may have no such file
            state = trainer.strategy.broadcast(state)
        if isinstance(state, str):
            raise DataError(state)
        assert state is not None
        module.load_state_dict(state)
        module.to(trainer.strategy.root_device)  # Lightning has put it on the CPU by now
        assert datamodule.test is not None
        with trainer.strategy.precision_plugin.val_step_context():
            found = [run_protocol(module, datamodule, datamodule.test, p) for p in self.protocols]
            found = found or _center_views(module, datamodule)
        self.figures[weights] = {"epoch": epoch}
        for predictions in found:
            setting = {**predictions.setting, "split": "test", "weights": weights}
            self._keep(trainer, replace(predictions, setting=setting), weights)
            module.state.note_bad(predictions.bad)

    def _state(self, weights: str, epoch: int) -> dict[str, torch.Tensor] | str:
        """The weights of a checkpoint, or why there are none: all processes must learn of it."""
        path = self.folder / (BEST if weights == "best" else LAST)
        try:
            checkpoint = read_checkpoint(path)
        except SppclsError as error:
            return str(error)
        if checkpoint["epoch"] != epoch:
            return f"{path}: is of epoch {checkpoint['epoch'] + 1}, not of epoch {epoch + 1}"
        state: dict[str, torch.Tensor] = checkpoint["state_dict"]
        return state

    def _keep(self, trainer: pl.Trainer, predictions: Predictions, weights: str) -> None:
        size = predictions.setting["size"]
        name = f"{predictions.protocol}_{size}" if self.protocols else size
        self.figures[weights][name] = {
            **predictions.figures,
            "images": len(predictions),
            f"{predictions.kind.main.removesuffix('_error')}_interval": list(predictions.interval),
        }
        if trainer.is_global_zero:
            file = f"{_prefix(weights)}_{name.replace('+', '_and_')}.npz"
            keep(predictions, self.folder / PREDICTIONS / file)

    def _write(self, trainer: pl.Trainer) -> None:
        for figures in self.named_figures().values():
            errors = {k: v for k, v in figures.items() if k.rpartition("/")[2] in FIGURES}
            log_figures(trainer, errors, figures["epoch"])
        writer_of(trainer).flush()


def _prefix(weights: str) -> str:
    return "test" if weights == "last" else f"test_{weights}"


def _center_views(module: ClassificationModule, datamodule: ImageDataModule) -> list[Predictions]:
    """Every test image as validation sees it, at every validation size."""
    assert datamodule.test is not None
    started = time.perf_counter()
    parts: dict[str, list[Part]] = {size_label(size): [] for size in module.val_sizes}
    bad: list[str] = []
    training = module.net.training
    module.net.eval()
    try:
        with torch.inference_mode():
            for batch in datamodule.test_dataloader():
                bad += batch.bad
                if not len(batch.target):
                    continue
                image = batch.image.to(module.device)
                for size in module.val_sizes:
                    logits = module.net(prepare_batch(image, size, module.mean, module.std))
                    parts[size_label(size)].append(kept_part(batch, logits, module.multi_label))
    finally:
        module.net.train(training)
    seconds = time.perf_counter() - started
    return [
        gather(replace(center_predictions(datamodule.test, module.classes, name, found, seconds), bad=bad))
        for name, found in parts.items()
    ]
