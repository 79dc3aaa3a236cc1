"""What the trained pyramid is worth, for TensorBoard at the end of a training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import nn

from sppcls._util.console import say
from sppcls.data.datamodule import ImageDataModule
from sppcls.data.sampler import spread_over_classes
from sppcls.engine.callbacks.pictures import save_picture
from sppcls.engine.logger import writer_of
from sppcls.engine.module import ClassificationModule
from sppcls.errors import ImageError, Interrupted
from sppcls.inference.explain.explanation import explain_input
from sppcls.inference.explain.levels import count_errors, weight_norms
from sppcls.nn import SpatialPyramidPooling2d, SPPClassifier

MOST_IMAGES = 512
"""Validation images that the errors without a level are counted over, at most."""


class ExplainPyramid(Callback):
    """Under ``pyramid/``, once, of the weights that the training ended with (averaged ones, where they are kept):

    - ``weight_norm_6x6``, ``weight_norm_per_bin_6x6``: see :class:`~sppcls.inference.explain.levels.WeightNorm`;
    - ``top1_error_without_6x6``: error in per cent at the main validation size with that level set to zero, and
      ``top1_error``, with none, over the same validation images: all of them or, of more than
      ``MOST_IMAGES``, as many as that, from every class in proportion and the same ones in every run;
    - ``explain``: the picture of the first of these images.

    Where images have several labels, the errors are left out. Networks without a pyramid have nothing to explain. Must come after ``WeightAveraging`` in the list of callbacks.

    Args:
        folder: the run folder, for ``pictures/explain.png``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        net, datamodule = pl_module.net, trainer.datamodule  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not isinstance(datamodule, ImageDataModule):
            return
        if not isinstance(net, SPPClassifier) or not isinstance(net.pool, SpatialPyramidPooling2d):
            return
        try:
            with warnings.catch_warnings(), _evaluating(net):
                warnings.filterwarnings("ignore", message="Glyph .* missing from font")
                self._write(trainer, pl_module, net, datamodule)
        except Interrupted:
            raise
        except Exception as error:  # an explanation is not worth a finished training
            say(f"The pyramid could not be explained: {error}")

    def _write(
        self,
        trainer: pl.Trainer,
        module: ClassificationModule,
        net: SPPClassifier,
        datamodule: ImageDataModule,
    ) -> None:
        writer, epoch = writer_of(trainer), trainer.current_epoch - 1
        for norm in weight_norms(net):
            writer.add_scalar(f"pyramid/weight_norm_{norm.label}", norm.total, epoch)
            writer.add_scalar(f"pyramid/weight_norm_per_bin_{norm.label}", norm.per_bin, epoch)
        chosen = spread_over_classes(datamodule.val.targets, MOST_IMAGES)
        size = module.val_sizes[0]
        errors = None
        if not module.multi_label:  # a top-1 error
            errors = count_errors(
                net,
                datamodule.val,
                datamodule.eval_transform,
                size,
                module.model_info,
                indices=chosen,
                batch_size=datamodule.val_batch_size,
            )
        if errors is not None and errors.images:
            writer.add_scalar("pyramid/top1_error", errors.full, epoch)
            for label, error in errors.without.items():
                writer.add_scalar(f"pyramid/top1_error_without_{label}", error, epoch)
        for index in chosen:
            try:
                image = datamodule.val_image(index)
            except ImageError:
                continue
            seen = explain_input(net, image, size, module.model_info, None, datamodule.val.name(index))
            figure = seen.figure()
            save_picture(self.folder, "explain", figure)
            writer.add_figure("pyramid/explain", figure, epoch)
            break
        writer.flush()


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every layer is in the mode that it was in."""
    modes = [(layer, layer.training) for layer in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training
