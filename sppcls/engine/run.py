"""One run: what it is made of, checked before anything is written, and how it is trained."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.plugins.environments import SLURMEnvironment

from sppcls._util.console import say
from sppcls._util.processes import rank
from sppcls._util.reason import reason_of
from sppcls.config.schema import Config, as_dict
from sppcls.data.label_sets import is_multi_label
from sppcls.engine.callbacks.make import make_callbacks, own_callbacks
from sppcls.engine.callbacks.memory import MemoryCheck, OutOfMemoryError
from sppcls.engine.callbacks.progress import make_progress
from sppcls.engine.callbacks.saving import Saving, resume_word
from sppcls.engine.given import Given, lines_on_own_parts
from sppcls.engine.hyperparameters import hyperparameters
from sppcls.engine.logger import check_loggers, make_loggers
from sppcls.engine.outcome import outcome_of, report
from sppcls.engine.parts import Parts
from sppcls.engine.preflight import device_count
from sppcls.engine.resume import Resume, check_processes, check_resume, restoring_problem, write_config
from sppcls.engine.summary import start_table, swa_rate_line, untested_classes_line, unused_sizes_line
from sppcls.engine.together import Together, broken_connection
from sppcls.engine.user_errors import hidden_error, part_error
from sppcls.errors import CheckpointError, ConfigError, PartError, SppclsError
from sppcls.runs.checkpoint import AtomicCheckpointIO, make_model_info
from sppcls.runs.names import CONFIG, LAST


class Run(Parts):
    """A run: the parts of a training, and what writes and resumes it.

    Args:
        config: of the run.
        given: what a person's program has made by hand.
        classes: those of the checkpoint that the run goes on from; None of a new run.
        slurm: of a run whose processes ``srun`` has started.
        together: this process among those that others have started.

    Raises:
        SppclsError: it cannot be trained.
    """

    def __init__(
        self,
        config: Config,
        given: Given,
        classes: list[str] | None,
        slurm: SLURMEnvironment | None,
        together: Together | None,
    ) -> None:
        self.callbacks, self.loggers = [*own_callbacks(config), *given.callbacks], given.loggers
        check_loggers(config)
        super().__init__(config, device_count(config), given, classes)
        self.slurm, self.together = slurm, together
        self.memory = MemoryCheck()
        train = self.splits.train
        words = as_dict(config)
        self.model_info = make_model_info(
            architecture={
                **{part: words[part] for part in ("backbone", "pyramid", "head")},
                "num_classes": len(train.classes),
                "input_size": list(self.schedule.largest),
                "init": config.init,
            },
            classes=train.classes,
            mean=config.data.mean,
            std=config.data.std,
            train_sizes=list(self.schedule.training_sizes),
            val_sizes=self.val_sizes,
            config=words,
            multi_label=is_multi_label(train),
        )

    def check(self, resume: Resume) -> None:
        """Refuse to resume from the checkpoint of another run, or with another number of processes."""
        check_resume(resume.checkpoint, self.model_info, self.net, resume.path)
        steps = len(self.datamodule().batch_sampler(world=self.devices))
        limit = self.config.trainer.limit_train_batches
        if limit is not None:
            steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
        try:
            check_processes(resume, steps, self.devices)
        except CheckpointError:
            if rank() == 0:
                raise
            raise CheckpointError("") from None  # the first process says it for all

    def fit(self, folder: Path, checkpoint_path: Path | None, resumed: str | None) -> dict[str, Any]:
        """Train, and write and say what came out.

        Args:
            folder: to write to.
            checkpoint_path: to go on from.
            resumed: that, and its place in the run, in words.

        Returns:
            As :func:`sppcls.train`.
        """
        if rank() == 0:
            self._announce(folder, resumed)
        module = self.module(self.model_info)
        if self.config.trainer.compile:
            # A graph for every size, batch size (the last two may differ by one image) and training or not.
            torch._dynamo.config.recompile_limit = 256
            self.net.compile(dynamic=False)
        datamodule, trainer = self.datamodule(), self._trainer(folder)
        if self.together is not None:
            self.together.how_to_resume = lambda: self._how_to_resume(folder)
        started = time.perf_counter()
        with self.saving.signals():
            try:
                # weights_only: a checkpoint to resume from may have come from anywhere.
                trainer.fit(module, datamodule, ckpt_path=checkpoint_path, weights_only=True)
            except Exception as error:
                known = self._known(error, folder, checkpoint_path)
                if known is None or known is error:
                    raise
                raise known from (error if isinstance(known, PartError) else None)
            finally:
                self.memory.give_back()
        outcome = outcome_of(module, folder)
        if rank() == 0:
            seconds = time.perf_counter() - started
            report(self.config, module, outcome, self.accelerator, seconds)
        return outcome

    def _announce(self, folder: Path, resumed: str | None) -> None:
        config = self.config
        if not (folder / CONFIG).exists():
            write_config(folder, config)  # of a resumed run: once that is certain, see ConfirmResume
        warnings = (
            unused_sizes_line(config, self.schedule),
            swa_rate_line(config),
            untested_classes_line(self.splits),
        )
        for line in [*lines_on_own_parts(config), *filter(None, warnings)]:
            say(line)
        say(start_table(self, folder, resumed))

    def _trainer(self, folder: Path) -> pl.Trainer:
        options = self.config.trainer
        repeatable = _repeatable(self.config, folder)
        self.saving = Saving(folder, self.config.log.save_every_minutes, repeatable, self.config.best_by)
        progress = make_progress(self.config.log.progress)
        callbacks = make_callbacks(
            self.config,
            folder,
            hyperparameters(self.config, self.devices),
            self.protocols,
            memory=self.memory,
            saving=self.saving,
            progress=progress,
            own=self.callbacks,
        )
        return pl.Trainer(
            **self.trainer_options(),
            default_root_dir=folder,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            sync_batchnorm=options.sync_batchnorm and self.accelerator == "gpu",  # torch has it on GPUs only
            limit_train_batches=options.limit_train_batches,
            check_val_every_n_epoch=options.val_every,
            num_sanity_val_steps=1,
            log_every_n_steps=self.config.log.every_n_steps,
            logger=[*make_loggers(self.config, folder), *self.loggers],
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), *([self.slurm] if self.slurm else [])],
            enable_progress_bar=isinstance(progress, TQDMProgressBar),
        )

    # -- what can go wrong ----------------------------------------------------------------------------------------------

    def _known(self, error: Exception, folder: Path, checkpoint_path: Path | None) -> BaseException | None:
        """An error of the training as one for the person at the keyboard; None of any other."""
        part = part_error(error, folder if rank() == 0 else None)
        if isinstance(error, SppclsError):
            return part if isinstance(error, PartError) else error
        if (hidden := hidden_error(error)) is not None:
            return hidden
        if broken_connection(error) is not None:
            return self._lost(error, folder)
        if "conditioned on metric" in str(error) or "monitor=" in str(error):  # of Lightning's callbacks
            return ConfigError(f"callbacks: {reason_of(error, first_line=True)}")
        if self.memory.message and isinstance(error, RuntimeError | MemoryError):
            return OutOfMemoryError(self.memory.message)
        if checkpoint_path is not None and (problem := restoring_problem(error)):
            return CheckpointError(f"{checkpoint_path}: {problem}")
        return part

    def _lost(self, error: Exception, folder: Path) -> SppclsError:
        """What to say when another process of this run has gone."""
        self.saving.ignore_signals()  # torchrun and srun end the others with one, at once
        if self.together is not None:
            return self.together.lost(error)
        if rank() != 0:
            return SppclsError("")
        return SppclsError(
            f"another process of this run has ended ({broken_connection(error)}): {self._how_to_resume(folder)}"
        )

    def _how_to_resume(self, folder: Path) -> str:
        if not (folder / LAST).exists():
            return "nothing is saved yet"
        images = self.config.data.batch_size * self.devices
        return (
            f"the same command with {resume_word(folder)} goes on; on N processes instead of {self.devices}, "
            f"data.batch_size={images}/N keeps the batches"
        )


def _repeatable(config: Config, folder: Path) -> bool:
    """Whether the same command again resumes the run in ``folder``."""
    if config.ckpt_path in (None, "auto"):
        return config.ckpt_path == "auto"
    return Path(str(config.ckpt_path)).resolve() in (folder.resolve(), (folder / LAST).resolve())
