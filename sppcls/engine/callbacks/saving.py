"""When checkpoints are written, and stopping without losing work."""

from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from sppcls._util.console import say, train_command
from sppcls._util.figures import is_better
from sppcls._util.files import link_or_copy
from sppcls._util.signals import WARNING, kept, warnings
from sppcls.config.grammar import hydra_word
from sppcls.engine.module import ClassificationModule
from sppcls.engine.slurm import queue_again, slurm_job
from sppcls.errors import Interrupted
from sppcls.registry import named_plugins
from sppcls.runs.names import BEST, LAST


class Saving(Checkpoint):
    """``last.ckpt`` after every epoch, every so many minutes and when asked to stop; ``best.ckpt`` at a new best.

    Lightning runs a :class:`Checkpoint` after all other hooks of an epoch, so what is saved includes them. A stop is
    carried out at the end of an optimiser step or epoch: nothing done is lost and nothing is done twice on resuming.

    Ctrl-C and SIGTERM stop a run; so does, in a Slurm job, the warning of its end, upon which the job is queued again.

    Args:
        folder: the run folder.
        every_minutes: also save within an epoch when this long has passed; None: never.
        repeatable: whether the same command again resumes this run, so that its job may be queued again.
        best_by: figure of the main validation size that the best epoch is chosen by.
    """

    # With several processes, how many optimiser steps pass between two exchanges on whether anyone was asked to stop.
    AGREE_EVERY = 10

    def __init__(
        self, folder: Path, every_minutes: float | None, repeatable: bool = False, best_by: str = "top1_error"
    ) -> None:
        self.folder, self.every_minutes = folder, every_minutes
        self.repeatable, self.best_by = repeatable, best_by
        self._signum = 0
        self._begun = self._stopping = self._trained = self._queued = False
        self._saved_at = time.monotonic()
        self._watched = (signal.SIGINT, signal.SIGTERM, *warnings())

    # -- signals ----------------------------------------------------------------------------------------------------

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Watch for signals, then restore the previous handlers. Only the main thread can."""
        before = {signum: signal.getsignal(signum) for signum in self._watched}
        try:
            self._watch()
            for signum in kept(self._watched):
                self._on_signal(signum, None)
            yield
        finally:
            for signum, handler in before.items() if _in_main_thread() else ():
                if self._queued and signum == signal.SIGTERM:  # Slurm's, see queue_again()
                    handler = signal.SIG_IGN
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def _watch(self) -> None:
        for signum in self._watched if _in_main_thread() else ():
            signal.signal(signum, self._on_signal)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._watch()  # Lightning has put its own SIGTERM handler in place, which would stop without saving

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._watch()
        self._begun = True
        self._saved_at = time.monotonic()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._stopping:
            return
        # There is nothing to save yet; a warning leaves time for the first step.
        if not self._begun and signum != WARNING:
            self._stopping = True
            raise Interrupted(f"stopped by {signal.Signals(signum).name} before training began", signum)
        if self._signum:
            self._stopping = True
            saved = (self.folder / LAST).exists()
            kept = f"resume with: {self._how_to_resume()}" if saved else "nothing is saved yet"
            raise Interrupted(f"stopped by {signal.Signals(signum).name} at once; {kept}", signum)
        self._signum = signum
        what = "Stopping after this step (or validation)"
        if self._trained:
            what = "Training is done; the run ends when its last figures are written"
        with suppress(OSError):  # a terminal that is gone
            os.write(2, f"\n{what}; the same again stops at once.\n".encode())

    def ignore_signals(self) -> None:
        """The run ends for another reason; what comes now is to end it, too."""
        self._stopping = True

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
        signum = _agreed(trainer, self._signum)
        if signum or _agreed(trainer, due):
            self._save_last(trainer)
        if signum:
            self._stop(trainer, signum, f"epoch {trainer.current_epoch + 1}, step {done}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        new_best = self._is_new_best(trainer, pl_module)
        self._save_last(trainer)
        if new_best and trainer.is_global_zero:
            link_or_copy(self.folder / LAST, self.folder / BEST)
        signum = _agreed(trainer, self._signum)
        if trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            if signum:
                self._stop(trainer, signum, f"the end of epoch {trainer.current_epoch + 1}")
            return
        self._trained = True
        if signum:
            name = signal.Signals(signum).name
            say(f"{name} came in the last steps: nothing is left to stop, so the run ends as usual")

    def _is_new_best(self, trainer: pl.Trainer, module: ClassificationModule) -> bool:
        epoch = trainer.current_epoch
        state = module.state
        if not state.val_results or (epoch + 1) % (trainer.check_val_every_n_epoch or 1):
            return False
        main = next(iter(state.val_results.values()))
        best = next(iter(state.best["val_results"].values())) if state.best is not None else {}
        # The checkpoint may be of a version that did not have the figure.
        by = module.kind.best_by(self.best_by)
        if by in best and not is_better(by, main[by], best[by]):
            return False
        error = module.kind.main
        state.best = {"epoch": epoch, error: main[error], "val_results": state.val_results}
        return True

    def _save_last(self, trainer: pl.Trainer) -> None:
        assert isinstance(trainer.lightning_module, ClassificationModule)
        trainer.lightning_module.check_finite()  # a good checkpoint is not replaced by a broken one
        trainer.save_checkpoint(self.folder / LAST)
        self._saved_at = time.monotonic()

    def _stop(self, trainer: pl.Trainer, signum: int, where: str) -> None:
        self._stopping = True
        if not trainer.is_global_zero:
            raise Interrupted("", signum)
        stopped = f"stopped by {signal.Signals(signum).name} at {where}; saved."
        if signum == WARNING:
            reason = queue_again() if self.repeatable else _NOT_REPEATABLE
            if not reason:
                self._queued = True
                raise Interrupted(f"{stopped} Slurm job {slurm_job()} is queued again", signum)
            stopped += f" Slurm job {slurm_job()} is not queued again: {reason}."
        raise Interrupted(f"{stopped} Resume with: {self._how_to_resume()}", signum)

    def _how_to_resume(self) -> str:
        return f"{train_command()} {resume_word(self.folder)}"


_NOT_REPEATABLE = "without ckpt_path=auto its command would begin a new run"


def resume_word(path: Path) -> str:
    """``ckpt_path=...`` as it can be pasted into a shell, quoted for Hydra where the path needs it."""
    plugins = [f"plugins=[{','.join(named)}]"] if (named := named_plugins()) else []
    return " ".join(map(shlex.quote, [*plugins, hydra_word("ckpt_path", path)]))


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _agreed(trainer: pl.Trainer, value: int) -> int:
    """The largest value that any process has."""
    if trainer.world_size == 1:
        return int(value)
    own = torch.tensor(int(value), device=trainer.strategy.root_device)
    return int(trainer.strategy.reduce(own, reduce_op="max"))
