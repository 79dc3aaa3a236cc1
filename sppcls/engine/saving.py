"""When checkpoints are written, and stopping without losing work."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from sppcls.config import hydra_word
from sppcls.engine.module import ClassificationModule
from sppcls.errors import SppclsError
from sppcls.run_folder import BEST, LAST


class Interrupted(SppclsError):
    """Training was asked to stop by Ctrl-C or SIGTERM and has saved what it had."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class Saving(Checkpoint):
    """``last.ckpt`` after every epoch, every so many minutes and on SIGTERM or Ctrl-C; ``best.ckpt`` at a new best.

    Lightning runs a :class:`Checkpoint` after all other hooks of an epoch, so what is saved includes them. A stop is
    carried out at the end of an optimiser step or epoch: nothing done is lost and nothing is done twice on resuming.

    Args:
        folder: the run folder.
        every_minutes: also save within an epoch when this long has passed; None: never.
    """

    # With several processes, how many optimiser steps pass between two exchanges on whether anyone was asked to stop.
    AGREE_EVERY = 10

    def __init__(self, folder: Path, every_minutes: float | None) -> None:
        self.folder = folder
        self.every_minutes = every_minutes
        self._signum = 0
        self._saved_at = time.monotonic()
        self._replaced: dict[int, Any] = {}

    # -- signals ----------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # After Lightning has put its own SIGTERM handler in place, which would stop without saving.
        self._saved_at = time.monotonic()
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._replaced[signum] = signal.signal(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._signum:
            self._restore()
            raise KeyboardInterrupt
        self._signum = signum
        os.write(2, b"\nStopping after this step (or validation); the same again stops at once.\n")

    def _restore(self) -> None:
        for signum, handler in self._replaced.items():
            signal.signal(signum, handler)
        self._replaced = {}

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._restore()

    # -- saving -----------------------------------------------------------------------------------------------------

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches or done >= trainer.num_training_batches:
            return  # gradients not yet applied would be lost; the last step is saved with the epoch
        if trainer.world_size > 1 and trainer.global_step % self.AGREE_EVERY:
            return
        minutes = (time.monotonic() - self._saved_at) / 60
        due = self.every_minutes is not None and minutes >= self.every_minutes
        stop = _any_process(trainer, bool(self._signum))
        if stop or _any_process(trainer, due):
            self._save_last(trainer)
        if stop:
            self._stop(trainer, f"epoch {trainer.current_epoch + 1}, step {done}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        new_best = self._is_new_best(trainer, pl_module)
        self._save_last(trainer)
        if new_best and trainer.is_global_zero:
            _copy_atomically(self.folder / LAST, self.folder / BEST)
        if _any_process(trainer, bool(self._signum)) and trainer.current_epoch + 1 < (
            trainer.max_epochs or 0
        ):
            self._stop(trainer, f"the end of epoch {trainer.current_epoch + 1}")

    def _is_new_best(self, trainer: pl.Trainer, module: ClassificationModule) -> bool:
        epoch = trainer.current_epoch
        if not module.val_results or (epoch + 1) % module.config.trainer.val_every:
            return False
        main = next(iter(module.val_results.values()))
        if module.best is not None and not main["top1_error"] < module.best["top1_error"]:
            return False
        module.best = {"epoch": epoch, "top1_error": main["top1_error"], "val_results": module.val_results}
        return True

    def _save_last(self, trainer: pl.Trainer) -> None:
        assert isinstance(trainer.lightning_module, ClassificationModule)
        trainer.lightning_module.check_finite()  # a good checkpoint is not replaced by a broken one
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = time.monotonic()

    def _stop(self, trainer: pl.Trainer, where: str) -> None:
        self._restore()
        name = signal.Signals(self._signum).name if self._signum else "a signal to another process"
        program = "sppcls train" if Path(sys.argv[0]).stem == "sppcls" else "python train.py"
        message = (
            f"stopped by {name} at {where}; saved. Go on with: {program} {resume_word(self.folder / LAST)}"
        )
        raise Interrupted(message if trainer.is_global_zero else "", self._signum or signal.SIGTERM)


def resume_word(path: Path) -> str:
    """``ckpt_path=...`` as it can be pasted into a shell, quoted for Hydra where the path needs it."""
    return shlex.quote(hydra_word("ckpt_path", path))


def _any_process(trainer: pl.Trainer, decision: bool) -> bool:
    return (
        trainer.strategy.reduce_boolean_decision(decision, all=False) if trainer.world_size > 1 else decision
    )


def _copy_atomically(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` is now; ``source`` is only ever replaced, so a link is a copy."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, temporary)
    os.replace(temporary, target)
