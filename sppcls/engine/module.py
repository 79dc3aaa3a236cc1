"""The LightningModule: one network trained at the size that the schedule gives, validated at every size asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from sppcls._util.figures import kind_of
from sppcls.data import Batch
from sppcls.data.seeding import derive
from sppcls.data.sizes import Size, SizeSchedule, size_label
from sppcls.data.transforms import prepare_batch
from sppcls.engine.learning_rate import LearningRate
from sppcls.engine.losses import Loss
from sppcls.engine.metrics import ErrorCounter, LabelCounter, LabelValidationCounter, ValidationCounter
from sppcls.engine.mistakes import Mistakes
from sppcls.engine.state import RunState
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
        schedule: input size of every step.
        val_sizes: sizes validated at; the first is the main one, which callbacks may watch as ``val/top1_error``, too.
        classes: names of the classes.
        loss: of each image (N,), from logits and class numbers or, of mixed images, shares (N, classes).
        optimizer: makes the optimizer of a network; each of its groups has an ``lr_scale``, see
            :func:`~sppcls.engine.optimizer.make_optimizer`.
        rate: learning rate of every step.
        mean, std: RGB, in 0..1, that images are normalised with.
        val_loss: of the validation; None: ``loss``.
        multi_label: whether images have several labels, targets then being (N, classes).
        mixers: of which each step draws one, (images, class numbers) to (images, shares), as torchvision's MixUp.
        seed: of what a step draws.
        model_info: what is stored in checkpoints so that they can be used without this module (see ``checkpoint.py``).

    Attributes:
        state: the run's :class:`~sppcls.engine.state.RunState`.
        kind: which figures are counted.
        size, step, lr: input size, number within its epoch and learning rate of the last training step.
    """

    def __init__(
        self,
        net: nn.Module,
        schedule: SizeSchedule,
        *,
        val_sizes: list[Size],
        classes: list[str],
        loss: Loss,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        rate: LearningRate,
        mean: Sequence[float],
        std: Sequence[float],
        val_loss: Loss | None = None,
        multi_label: bool = False,
        mixers: Sequence[nn.Module] = (),
        seed: int = 0,
        model_info: dict[str, Any],
    ) -> None:
        super().__init__()
        self.net = net
        self.schedule = schedule
        self.val_sizes = val_sizes
        self.classes = classes
        self.model_info = model_info
        self.rate = rate
        self.mean, self.std, self.seed = list(mean), list(std), seed
        self.state = RunState(rate.plateau())
        self.size: Size = schedule.largest
        self.step = 0
        self.lr = rate.base
        self.multi_label = multi_label
        self.kind = kind_of(multi_label, len(classes))
        self.train_errors = LabelCounter(len(classes)) if multi_label else ErrorCounter()
        counter = LabelValidationCounter if multi_label else ValidationCounter
        self.val_errors = nn.ModuleDict({size_label(size): counter(len(classes)) for size in val_sizes})
        self.mistakes = Mistakes(0 if multi_label else len(classes))
        self._mixers = list(mixers)
        self._losses, self._val_losses = loss, val_loss or loss
        self._make_optimizer = optimizer

    def _errors_at(self, size: Size) -> ErrorCounter:
        return cast(ErrorCounter, self.val_errors[size_label(size)])

    # -- training ---------------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self._make_optimizer(self.net)

    def _rate(self) -> float:
        """Base learning rate of this step."""
        batches, accumulate = self._epoch_length()
        steps_per_epoch = math.ceil(batches / accumulate)
        epochs = self.trainer.max_epochs or 0
        return self.rate.at(self.trainer.global_step, steps_per_epoch, epochs, self.state.plateau.drops)

    def on_train_start(self) -> None:
        self.state.started = True

    def check_epoch_length(self) -> None:
        """Refuse to resume with epochs of another length: position and learning rate are counted in steps.

        Raises:
            CheckpointError: what has to stay as it was.
        """
        resumed, own = self.state.epoch_length, self._epoch_length()
        if resumed is not None and list(resumed) != own:
            (old, old_accumulate), (new, new_accumulate) = resumed, own
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
        self.state.note_bad(batch.bad)
        if not len(batch.target):
            if self.trainer.world_size > 1:  # the other processes wait for this one's gradient
                raise DataError(f"no image of a step can be read; the first: {batch.bad[0]}")
            return None
        self.size, self.step = self.schedule.at(batch.epoch, batch.step), batch.step
        torch.manual_seed(derive(self.seed, "step", batch.epoch, batch.step, self.global_rank))
        x = prepare_batch(batch.image, self.size, self.mean, self.std, lighting=batch.lighting)
        target: Tensor = batch.target
        if self._mixers:
            mixer = self._mixers[int(torch.randint(len(self._mixers), ()))]
            x, target = mixer(x, batch.target)
            x = x.contiguous(memory_format=torch.channels_last)
        logits = self.net(x)
        losses = self._losses(logits, target)
        loss = losses.mean()
        # With mixed images the error is counted against the larger share.
        labels = target if target.ndim == 1 or self.multi_label else target.argmax(1)
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
                f"{DivergedError.SIGN} a lower optimizer.lr (now {self.rate.base:g}), "
                "scheduler.warmup_epochs or trainer.gradient_clip_norm"
            )

    # -- validation -------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.mistakes.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor] | None:
        """Count the errors of a batch; returns its logits at every validation size."""
        self.state.note_bad(batch.bad)
        if not len(batch.target):
            return None
        outputs = {}
        for size in self.val_sizes:
            x = prepare_batch(batch.image, size, self.mean, self.std)
            logits = self.net(x)
            losses = self._val_losses(logits.float(), batch.target)
            self._errors_at(size).update(logits, batch.target, losses)
            if size == self.val_sizes[0] and not self.multi_label:
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
        self.state.val_results = results
        main = results[size_label(self.val_sizes[0])]
        if not main["images"]:
            raise DataError(
                f"no validation image could be read; the first: {next(iter(self.state.bad_images), 'none')}"
            )
        if not math.isfinite(main["loss"]):
            raise DivergedError(
                f"the validation loss is {main['loss']} after epoch {self.current_epoch + 1}: "
                f"{DivergedError.SIGN} a lower optimizer.lr (now {self.rate.base:g})"
            )
        for name, figures in results.items():
            for figure in self.kind.validation:  # for callbacks that watch one
                self.log(f"val_{name}/{figure}", figures[figure], logger=False)
        for figure in self.kind.validation:  # a name that does not depend on the size
            self.log(f"val/{figure}", main[figure], logger=False)
        if self.rate.follows_error:
            self.state.plateau.update(main[self.kind.main])

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        counts = self.trainer.strategy.reduce(self.train_errors.counts(), reduce_op="sum")
        assert isinstance(counts, Tensor)
        self.state.train_counts = counts.tolist()
        self.state.epoch_length = self._epoch_length()
        self.state.processes = self.trainer.world_size
        self.state.stopped = self._own_callbacks() if self.trainer.should_stop else None
        checkpoint["sppcls"] = self.model_info
        checkpoint["sppcls_progress"] = self.state.to_checkpoint()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.state.from_checkpoint(checkpoint["sppcls_progress"])
        # The counts are those of all processes; they are summed again at the end of the epoch.
        if self.global_rank == 0:
            self.train_errors.set_counts(self.state.train_counts)
        # By a callback such as EarlyStopping; with other callbacks or more epochs it continues.
        saved, config = checkpoint["sppcls"]["config"], self.model_info["config"]
        self.trainer.should_stop = (
            self.state.stopped == self._own_callbacks()
            and saved.get("callbacks") == config.get("callbacks")
            and saved["trainer"]["max_epochs"] == self.trainer.max_epochs
        )
        if self.trainer.should_stop:  # as Lightning does where all epochs are done
            epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
            epochs["completed"] = epochs["processed"]
        else:
            self.state.stopped = None

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
        return [int(self.trainer.num_training_batches), self.trainer.accumulate_grad_batches]
