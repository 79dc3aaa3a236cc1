"""The LightningModule: one network trained at the size that the schedule gives, validated at every size asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from sppcls._util.figures import FIGURES
from sppcls.config.schema import Config
from sppcls.data import Batch
from sppcls.data.seeding import derive
from sppcls.data.sizes import Size, SizeSchedule, size_label
from sppcls.data.transforms import prepare_batch
from sppcls.engine.learning_rate import Plateau, lr_factor, own_rule
from sppcls.engine.losses import make_loss
from sppcls.engine.metrics import ErrorCounter, ValidationCounter
from sppcls.engine.mistakes import Mistakes
from sppcls.engine.optimizer import make_optimizer
from sppcls.errors import CheckpointError, DataError, SppclsError

CHECK_EVERY = 50


class DivergedError(SppclsError):
    """The loss is no longer a finite number."""

    # In every message of it: a program that started the training knows it by these words.
    SIGN = "training stopped; try"


class ClassificationModule(pl.LightningModule):
    """Train an image classifier at one size or at several in turn.

    The input size of a step is ``schedule.at(batch.epoch, batch.step)``: a pure function of what the batch says about
    itself, so neither workers, processes nor a resumed run can disagree about it. Dropout, mixup and cutmix draw from
    a generator seeded by ``(seed, epoch, step, process)``, so no random state has to be saved.

    Args:
        net: the network, (N, 3, h, w) to (N, classes).
        config: the checked config.
        schedule: input size of every step.
        val_sizes: sizes validated at; the first is the main one, whose error is ``val/top1_error``.
        classes: names of the classes.
        class_counts: training images of each.
        model_info: what is stored in checkpoints so that they can be used without this module (see ``checkpoint.py``).
    """

    def __init__(
        self,
        net: nn.Module,
        config: Config,
        schedule: SizeSchedule,
        val_sizes: list[Size],
        classes: list[str],
        class_counts: Sequence[int],
        model_info: dict[str, Any],
    ) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.schedule = schedule
        self.val_sizes = val_sizes
        self.classes = classes
        self.model_info = model_info
        self.plateau = Plateau(config.scheduler.patience, config.scheduler.max_drops)
        self.images_seen = 0
        self.pixels_seen = 0
        self.train_seconds = 0.0
        self.started = False  # stays so when a finished run is resumed
        self.stopped = False
        self._resumed_length: list[int] | None = None
        self.best: dict[str, Any] | None = None
        self.size: Size = schedule.largest
        self.step = 0
        self.lr = config.optimizer.lr
        self.val_results: dict[str, dict[str, float]] = {}
        self.bad_images: dict[str, None] = {}
        self.train_errors = ErrorCounter()
        self.val_errors = nn.ModuleDict(
            {size_label(size): ValidationCounter(len(classes)) for size in val_sizes}
        )
        self.mistakes = Mistakes(len(classes))
        self._mixers = _make_mixers(config, len(classes))
        self._losses = make_loss(config, classes, class_counts)
        self._val_losses = make_loss(config, classes, class_counts, training=False)
        self._rule = own_rule(config.scheduler)

    def _errors_at(self, size: Size) -> ErrorCounter:
        return cast(ErrorCounter, self.val_errors[size_label(size)])

    # -- training ---------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return make_optimizer(self.net, self.config.optimizer)

    def _rate(self) -> float:
        """Base learning rate of this step."""
        batches = int(self.trainer.num_training_batches)
        steps_per_epoch = math.ceil(batches / self.config.trainer.accumulate_grad_batches)
        factor = lr_factor(
            self.config.scheduler,
            self.trainer.global_step,
            steps_per_epoch,
            self.config.trainer.max_epochs,
            self.plateau.drops,
            self._rule,
        )
        return self.config.optimizer.lr * factor

    def on_train_start(self) -> None:
        self.started = True

    def check_epoch_length(self) -> None:
        """Refuse to go on with epochs of another length: position and learning rate are counted in steps.

        Raises:
            CheckpointError: what has to stay as it was.
        """
        if self._resumed_length not in (None, self._epoch_length()):
            (old, old_accumulate), (new, new_accumulate) = self._resumed_length, self._epoch_length()
            raise CheckpointError(
                f"the checkpoint's epochs have {old} steps, {old_accumulate} per update; with this config they have "
                f"{new}, {new_accumulate} per update: keep data.batch_size, trainer.devices, "
                "trainer.accumulate_grad_batches, trainer.limit_train_batches and the training images as they were"
            )

    def on_train_epoch_start(self) -> None:
        self.train_errors.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        if batch.epoch != self.current_epoch:
            raise RuntimeError(
                f"the loader is at epoch {batch.epoch}, the trainer at epoch {self.current_epoch}"
            )
        self.lr = self._rate()
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.lr * group["lr_scale"]
        self._note_bad(batch)
        if not len(batch.target):
            if self.trainer.world_size > 1:  # the other processes wait for this one's gradient
                raise DataError(f"no image of a step can be read; the first: {batch.bad[0]}")
            return None
        self.size, self.step = self.schedule.at(batch.epoch, batch.step), batch.step
        torch.manual_seed(derive(self.config.seed, "step", batch.epoch, batch.step, self.global_rank))
        x = prepare_batch(
            batch.image, self.size, self.config.data.mean, self.config.data.std, lighting=batch.lighting
        )
        target: Tensor = batch.target
        if self._mixers:
            mixer = self._mixers[int(torch.randint(len(self._mixers), ()))]
            x, target = mixer(x, batch.target)
            x = x.contiguous(memory_format=torch.channels_last)
        logits = self.net(x)
        losses = self._losses(logits, target)
        loss = losses.mean()
        # With mixed images the error is counted against the larger share.
        labels = target if target.ndim == 1 else target.argmax(1)
        self.train_errors.update(logits.detach(), labels, losses.detach(), pixels=self.size[0] * self.size[1])
        # On a GPU reading the loss waits for the device, so there it is read only now and then, and before saving.
        if loss.device.type == "cpu" or batch.step % CHECK_EVERY == 0:
            self.check_finite()
        return loss

    def check_finite(self) -> None:
        """Raise DivergedError if the loss of any step of this epoch was not a finite number."""
        loss = float(self.train_errors.loss_sum)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at epoch {self.current_epoch + 1}, step {self.step + 1}, size {size_label(self.size)}: "
                f"{DivergedError.SIGN} a lower optimizer.lr (now {self.config.optimizer.lr:g}), "
                "scheduler.warmup_epochs or trainer.gradient_clip_norm"
            )

    def _note_bad(self, batch: Batch) -> None:
        self.bad_images.update(dict.fromkeys(batch.bad))

    # -- validation -------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.mistakes.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor] | None:
        """Count the errors of a batch; returns its logits at every validation size."""
        self._note_bad(batch)
        if not len(batch.target):
            return None
        outputs = {}
        for size in self.val_sizes:
            x = prepare_batch(batch.image, size, self.config.data.mean, self.config.data.std)
            logits = self.net(x)
            losses = self._val_losses(logits.float(), batch.target)
            self._errors_at(size).update(logits, batch.target, losses)
            if size == self.val_sizes[0]:
                self.mistakes.update(logits, batch.target, losses, batch.index)
            outputs[size_label(size)] = logits
        return outputs

    def on_validation_epoch_end(self) -> None:
        results = {}
        for size in self.val_sizes:
            figures = self._errors_at(size).compute()
            results[size_label(size)] = {name: figures[name] for name in figures if name != "pixels"}
            self._errors_at(size).reset()
        if self.trainer.sanity_checking:
            return
        self.val_results = results
        main = self.val_results[size_label(self.val_sizes[0])]
        if not main["images"]:
            raise DataError(
                f"no validation image could be read; the first: {next(iter(self.bad_images), 'none')}"
            )
        if not math.isfinite(main["loss"]):
            raise DivergedError(
                f"the validation loss is {main['loss']} after epoch {self.current_epoch + 1}: "
                f"{DivergedError.SIGN} a lower optimizer.lr (now {self.config.optimizer.lr:g})"
            )
        for name, figures in results.items():
            for figure in FIGURES:  # for callbacks that watch one
                self.log(f"{self.val_prefix(name)}/{figure}", figures[figure], logger=False)
        if self.config.scheduler.name == "paper":
            self.plateau.update(main["top1_error"])

    def val_prefix(self, name: str) -> str:
        """What the figures of a validation size are logged under: ``val`` for the main one, else ``val_<size>``."""
        return "val" if name == size_label(self.val_sizes[0]) else f"val_{name}"

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        counts = self.trainer.strategy.reduce(self.train_errors.counts(), reduce_op="sum")
        assert isinstance(counts, Tensor)
        checkpoint["sppcls"] = self.model_info
        checkpoint["sppcls_progress"] = {
            "plateau": self.plateau.state_dict(),
            "images_seen": self.images_seen,
            "pixels_seen": self.pixels_seen,
            "train_seconds": self.train_seconds,
            "best": self.best,
            "val_results": self.val_results,
            "bad_images": list(self.bad_images),
            "train_counts": counts.tolist(),
            "epoch_length": self._epoch_length(),
            "processes": self.trainer.world_size,
            "stopped": self._own_callbacks() if self.trainer.should_stop else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        progress = checkpoint["sppcls_progress"]
        self.plateau.load_state_dict(progress["plateau"])
        self.images_seen = progress["images_seen"]
        self.pixels_seen = progress["pixels_seen"]
        self.train_seconds = progress["train_seconds"]
        self.best = progress["best"]
        self.val_results = progress["val_results"]
        self.bad_images = dict.fromkeys(progress["bad_images"])
        # The counts are those of all processes; they are summed again at the end of the epoch.
        if self.global_rank == 0:
            self.train_errors.set_counts(progress["train_counts"])
        self._resumed_length = progress["epoch_length"]
        # By a callback such as EarlyStopping; with other callbacks or more epochs it goes on.
        saved = checkpoint["sppcls"]["config"]
        self.stopped = self.trainer.should_stop = (
            progress.get("stopped") == self._own_callbacks()
            and saved.get("callbacks") == self.config.callbacks
            and saved["trainer"]["max_epochs"] == self.config.trainer.max_epochs
        )
        if self.stopped:  # as Lightning does where all epochs are done
            epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
            epochs["completed"] = epochs["processed"]

    def _own_callbacks(self) -> list[str]:
        """What callbacks of others there are, with the parameters that they keep in a checkpoint."""
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        skipped = (
            "sppcls.",
            "pytorch_lightning.callbacks.progress",
            "pytorch_lightning.callbacks.weight_averaging",
        )
        return sorted(cb.state_key for cb in callbacks if not type(cb).__module__.startswith(skipped))

    def _epoch_length(self) -> list[int]:
        return [int(self.trainer.num_training_batches), self.config.trainer.accumulate_grad_batches]


def _make_mixers(config: Config, num_classes: int) -> list[nn.Module]:
    mixers: list[nn.Module] = []
    if config.mix.mixup:
        mixers.append(v2.MixUp(alpha=config.mix.mixup, num_classes=num_classes))
    if config.mix.cutmix:
        mixers.append(v2.CutMix(alpha=config.mix.cutmix, num_classes=num_classes))
    return mixers
