"""Train a classifier from a config: the main job."""

from __future__ import annotations

import logging
import os
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.environments import SLURMEnvironment

from sppcls._util.console import say, say_to_log, start_console
from sppcls._util.reason import reason_of
from sppcls._version import __version__
from sppcls.config.build import (
    build_network,
    check_batch,
    load_sources,
    make_caches,
    make_datamodule,
    parameter_count,
    val_sizes,
)
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config, as_dict
from sppcls.data import size_label
from sppcls.data.balance import class_counts
from sppcls.data.label_sets import is_multi_label, label_set_count
from sppcls.engine.build import make_module
from sppcls.engine.callbacks.final_test import FinalTest
from sppcls.engine.callbacks.make import make_callbacks, own_callbacks
from sppcls.engine.callbacks.memory import MemoryCheck, OutOfMemoryError
from sppcls.engine.callbacks.progress import make_progress
from sppcls.engine.callbacks.protocols import ProtocolErrorsAtEnd, protocol_figures
from sppcls.engine.callbacks.saving import Saving, resume_word
from sppcls.engine.fine_tuning import prepare_network
from sppcls.engine.given import Given, check_given, lines_on_own_parts
from sppcls.engine.hyperparameters import hyperparameters
from sppcls.engine.logger import check_loggers, make_loggers
from sppcls.engine.module import ClassificationModule
from sppcls.engine.preflight import (
    accelerator_of,
    check_classes,
    check_loaders,
    device_count,
    fitting_protocols,
)
from sppcls.engine.resume import (
    Resume,
    check_processes,
    check_resume,
    find_resume,
    repair,
    restoring_problem,
    resumed_folder,
    write_config,
)
from sppcls.engine.slurm import slurm_environment
from sppcls.engine.summary import (
    closing_lines,
    device_label,
    start_table,
    untested_classes_line,
    unused_sizes_line,
    validation_count,
)
from sppcls.engine.together import Together, broken_connection, facts_of, meet
from sppcls.engine.user_errors import as_user_error, hidden_error, part_error, quiet_event_writer
from sppcls.errors import CheckpointError, ConfigError, PartError, SppclsError
from sppcls.evaluation.class_errors import ClassError, class_mean, read_class_errors, write_class_errors
from sppcls.nn import LevelLargerThanMapWarning, SPPClassifier
from sppcls.runs.checkpoint import AtomicCheckpointIO, make_model_info
from sppcls.runs.folder import (
    base_folder,
    check_writable,
    claim_run_folder,
    lacks_result,
    lock_folder,
)
from sppcls.runs.names import BEST, CLASSES, CONFIG, LAST, PREDICTIONS, PREVIOUS, figure_names
from sppcls.runs.result import write_result

# The folder that the first process of a distributed run has claimed, for the processes that it starts.
_FOLDER_VARIABLE = "SPPCLS_RUN_FOLDER"

# Seconds that a run which was told to stop is given to save, when its command is given again at once.
_ENDING = 5


def train(
    config: Config,
    *,
    net: SPPClassifier | None = None,
    sources: Any = None,
    callbacks: Sequence[Callback] = (),
    logger: Logger | Sequence[Logger] = (),
) -> dict[str, Any]:
    """Train as ``config`` says and return what came out.

    Args:
        config: from :func:`sppcls.compose`. With ``ckpt_path`` set, the run of that checkpoint is resumed in its folder.
        net: a network built by hand, which takes the place of ``backbone``, ``pyramid`` and ``head``. Who resumes the
            run, or loads its checkpoint, gives such a network again.
        sources: (train, val) or (train, val, test) in place of what ``data`` names: map-style Datasets of
            (image, class number), or sources (:class:`sppcls.data.Source`). Images are PIL images or uint8 arrays.
        callbacks: Lightning's callbacks, besides those of ``config``. They may watch ``val/top1_error`` and the other
            columns of ``metrics.csv`` with a slash.
        logger: one of Lightning's loggers or several, besides those of ``config``.

    Returns:
        ``{"folder", "best_checkpoint", "last_checkpoint", "epochs", "best", "last", "protocols", "test"}``; ``best``
        and ``last`` map figures of the validation (``"val_224/top1_error"``, in per cent but for the loss) to their values,
        ``protocols`` (only with ``evaluation.protocols``) those at the end (``"val_ten_view_224/top1_error"``), and ``test``
        (only with a test split) has ``"last"`` and ``"best"``, each with its epoch and ``"test_224/top1_error"`` or
        ``"test_best_224/top1_error"``.

    Raises:
        SppclsError: one line on what is wrong; before any training where that is possible.

    Examples:
        >>> outcome = sppcls.train(sppcls.compose(["data=folder", "data.root=PHOTOS"]))
        >>> outcome["last"]["val_224/top1_error"], outcome["best_checkpoint"]
    """
    if not isinstance(config, Config):
        raise ConfigError(
            f"config: a {type(config).__name__}, a config is needed; make it with sppcls.compose(['data=folder', ...])"
        )
    given = Given(net, sources, callbacks, logger)
    config = given.in_config(config)
    quiet_lightning()
    start_console(None)
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    with ExitStack() as held:
        return _train(config, given, held)


def _train(config: Config, given: Given, held: ExitStack) -> dict[str, Any]:
    """As :func:`train`. ``held``: takes the lock of the run folder; a run that goes on is read under it."""
    nodes = config.trainer.num_nodes
    slurm = slurm_environment(device_count(config) // nodes, nodes)
    together = meet(config, slurm)
    if together is not None:
        held.enter_context(together)
    begun = resumed_folder(config)
    if begun is not None and _rank() == 0:
        check_writable(begun)
        held.enter_context(lock_folder(begun, _ENDING))
    resume = find_resume(config, begun)
    if resume is not None:
        check_given(config, resume.checkpoint["sppcls"]["config"], resume.path)
    run = _Run(config, given, resume.checkpoint["sppcls"]["classes"] if resume else None, slurm, together)
    if resume is not None:
        run.check(resume)
    if together is not None:
        together.agree(facts_of(config, run.splits, resume))
    folder = _run_folder(config, begun, together)
    try:
        with quiet_event_writer():
            if begun is None and _rank() == 0:
                held.enter_context(lock_folder(folder))
            start_console(folder if _rank() == 0 else None)
            if resume and resume.path.parent.resolve() == folder.resolve() and _rank() == 0:
                for line in repair(folder, resume):
                    say(line)
            checkpoint_path = resume.path if resume else None
            resumed = f"{resume.path}, {resume.where}" if resume else None
            del resume  # its tensors
            return run.fit(folder, checkpoint_path, resumed)
    except (SppclsError, OSError, RuntimeError) as error:
        known = as_user_error(error, folder if _rank() == 0 else None)
        say_to_log(_with_cause(known or error))
        if known is None:
            raise
        raise known from None
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        start_console(None)


class _Run:
    """Everything a run is made of, built and checked before anything is written."""

    def __init__(
        self,
        config: Config,
        given: Given,
        classes: list[str] | None,
        slurm: SLURMEnvironment | None,
        together: Together | None,
    ) -> None:
        self.config, self.slurm, self.together = config, slurm, together
        self.callbacks, self.loggers = [*own_callbacks(config), *given.callbacks], given.loggers
        check_loggers(config)
        self.memory = MemoryCheck()
        self.schedule = size_schedule(config)
        self.accelerator = accelerator_of(config)
        check_loaders(config, self.schedule)
        self.val_sizes = val_sizes(config, self.schedule)
        self.splits = load_sources(config, classes, given.splits)
        self.train_source, self.val_source = self.splits.train, self.splits.val
        self.devices = device_count(config)
        check_batch(config, len(self.train_source), self.devices)
        check_classes(config, self.train_source)
        self.architecture = {
            "backbone": as_dict(config)["backbone"],
            "pyramid": as_dict(config)["pyramid"],
            "head": as_dict(config)["head"],
            "num_classes": len(self.train_source.classes),
            "input_size": list(self.schedule.largest),
            "init": config.init,
        }
        pl.seed_everything(config.seed, verbose=False)
        self.net = given.checked_net(len(self.train_source.classes), self.schedule.largest) or build_network(
            config, len(self.train_source.classes), resumed=classes is not None
        )
        self.rows = prepare_network(self.net, config, self.train_source.classes, resumed=classes is not None)
        self.protocols = fitting_protocols(config, self.net, self.schedule, self.val_sizes)
        self.model_info = make_model_info(
            architecture=self.architecture,
            classes=self.train_source.classes,
            mean=config.data.mean,
            std=config.data.std,
            train_sizes=list(self.schedule.training_sizes),
            val_sizes=self.val_sizes,
            config=as_dict(config),
            multi_label=is_multi_label(self.train_source),
        )
        self.caches = make_caches(config, self.schedule, self.train_source, self.val_source)

    def check(self, resume: Resume) -> None:
        """Refuse to resume from the checkpoint of another run, or with another number of processes."""
        check_resume(resume.checkpoint, self.model_info, self.net, resume.path)
        datamodule = make_datamodule(self.config, self.schedule, self.train_source, self.val_source)
        steps, limit = (
            len(datamodule.batch_sampler(world=self.devices)),
            self.config.trainer.limit_train_batches,
        )
        if limit is not None:
            steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
        try:
            check_processes(resume, steps, self.devices)
        except CheckpointError:
            if _rank() == 0:
                raise
            raise CheckpointError("") from None  # the first process says it for all

    def fit(self, folder: Path, checkpoint_path: Path | None, resumed: str | None) -> dict[str, Any]:
        config = self.config
        first = _rank() == 0
        if first:
            if not (folder / CONFIG).exists():
                write_config(folder, config)  # of a resumed run: once that is certain, see ConfirmResume
            for line in lines_on_own_parts(config):
                say(line)
            if warning := unused_sizes_line(config, self.schedule):
                say(warning)
            if warning := untested_classes_line(self.splits):
                say(warning)
            say(
                start_table(
                    config,
                    self.net,
                    self.schedule,
                    self.val_sizes,
                    self.splits,
                    self.caches,
                    (self.accelerator, self.devices),
                    folder,
                    resumed,
                    self.rows,
                )
            )
        net = self.net.to(memory_format=torch.channels_last)
        classes = self.train_source.classes
        module = make_module(
            config,
            net,
            self.schedule,
            val_sizes=self.val_sizes,
            classes=classes,
            class_counts=class_counts(self.train_source.targets, len(classes)),
            images=label_set_count(self.train_source),
            model_info=self.model_info,
        )
        if config.trainer.compile:
            # A graph for every size, batch size (the last two may differ by one image) and training or not.
            torch._dynamo.config.recompile_limit = 256
            net.compile(dynamic=False)
        datamodule = make_datamodule(
            config, self.schedule, self.train_source, self.val_source, self.caches, self.splits.test
        )
        trainer = self._trainer(folder)
        if self.together is not None:
            self.together.how_to_resume = lambda: self._how_to_resume(folder)
        started = time.perf_counter()
        # weights_only: a checkpoint to resume from may have come from anywhere.
        try:
            with self.saving.signals():
                trainer.fit(module, datamodule, ckpt_path=checkpoint_path, weights_only=True)
        except PartError as error:
            raise part_error(error, folder if first else None) or error from error
        except SppclsError:
            raise
        except Exception as error:
            if (hidden := hidden_error(error)) is not None:
                raise hidden from None
            if (lost := self._lost(error, folder)) is not None:
                raise lost from None
            if "conditioned on metric" in str(error) or "monitor=" in str(error):  # of Lightning's callbacks
                raise ConfigError(f"callbacks: {reason_of(error, first_line=True)}") from None
            if self.memory.message and isinstance(error, RuntimeError | MemoryError):
                raise OutOfMemoryError(self.memory.message) from None
            if checkpoint_path is not None and (problem := restoring_problem(error)):
                raise CheckpointError(f"{checkpoint_path}: {problem}") from None
            if (failed := part_error(error, folder if first else None)) is not None:
                raise failed from error
            raise
        finally:
            self.memory.give_back()
        result = {
            "folder": str(folder),
            "best_checkpoint": str(folder / BEST) if (folder / BEST).exists() else None,
            "last_checkpoint": str(folder / LAST),
            "epochs": trainer.current_epoch,
            "best": figure_names(module.state.best["val_results"]) if module.state.best else {},
            "last": figure_names(module.state.val_results),
        }
        tested: dict[str, dict[str, Any]] = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ProtocolErrorsAtEnd):
                result["protocols"] = protocol_figures(callback.results)
            if isinstance(callback, FinalTest) and callback.figures:
                result["test"] = callback.named_figures()
                tested = callback.figures
        if first:
            by_class = read_class_errors(folder / PREDICTIONS / f"val_{size_label(self.val_sizes[0])}.npz")
            if module.state.started or lacks_result(folder, trainer.current_epoch):
                if by_class:
                    write_class_errors(folder / CLASSES, by_class, module.multi_label)
                write_result(folder, self._summary(module, result, by_class, trainer.current_epoch))
            (folder / PREVIOUS).unlink(missing_ok=True)
            seconds = time.perf_counter() - started
            say(closing_lines(config, module, folder, seconds, tested, by_class))
        return result

    def _lost(self, error: Exception, folder: Path) -> SppclsError | None:
        """What to say when another process of this run has gone; None of any other error."""
        if self.together is not None:
            return self.together.lost(error)
        if (reason := broken_connection(error)) is None:
            return None
        if _rank() != 0:
            return SppclsError("")
        return SppclsError(f"another process of this run has ended ({reason}): {self._how_to_resume(folder)}")

    def _how_to_resume(self, folder: Path) -> str:
        if not (folder / LAST).exists():
            return "nothing is saved yet"
        images = self.config.data.batch_size * self.devices
        return (
            f"the same command with {resume_word(folder)} goes on; on N processes instead of {self.devices}, "
            f"data.batch_size={images}/N keeps the batches"
        )

    def _summary(
        self, module: ClassificationModule, result: dict[str, Any], classes: list[ClassError], epochs: int
    ) -> dict[str, Any]:
        """What ``result.json`` says."""
        state = module.state
        best = {"epoch": state.best["epoch"], **result["best"]} if state.best else {}
        return {
            "sppcls": __version__,
            "torch": torch.__version__,
            "lightning": pl.__version__,
            "device": device_label(self.accelerator),
            "epochs": epochs,
            "stopped": module.trainer.should_stop,
            "images_seen": state.images_seen,
            "pixels_seen": state.pixels_seen,
            "train_seconds": round(state.train_seconds, 3),
            "parameters": parameter_count(self.net),
            "main_size": size_label(self.val_sizes[0]),
            "best": best,
            "last": result["last"],
            **_by_class(classes, module.multi_label),
            "protocols": result.get("protocols", {}),
            **({"test": result["test"]} if "test" in result else {}),
            "validation_images": {
                "used": validation_count(self.config, self.val_source),
                "of": len(self.val_source),
            },
            "bad_images": len(state.bad_images),
        }

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
            default_root_dir=folder,
            max_epochs=options.max_epochs,
            accelerator=self.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            strategy=options.strategy,
            precision=options.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=options.accumulate_grad_batches,
            gradient_clip_val=options.gradient_clip_norm,
            deterministic=options.deterministic,
            sync_batchnorm=options.sync_batchnorm and self.accelerator == "gpu",  # torch has it on GPUs only
            limit_train_batches=options.limit_train_batches,
            check_val_every_n_epoch=options.val_every,
            num_sanity_val_steps=1,
            log_every_n_steps=self.config.log.every_n_steps,
            logger=[*make_loggers(self.config, folder), *self.loggers],
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), *([self.slurm] if self.slurm else [])],
            use_distributed_sampler=False,
            enable_model_summary=False,
            enable_progress_bar=isinstance(progress, TQDMProgressBar),
        )


def _by_class(classes: list[ClassError], multi_label: bool) -> dict[str, Any]:
    """Errors of the classes; of several labels of an image their mean is ``map_error``, which is among the figures."""
    errors = {found.name: round(found.error, 4) for found in classes}
    if multi_label:
        return {"class_ap_error": errors}
    return {"class_mean_top1_error": class_mean(classes) if classes else None, "class_top1_error": errors}


def _with_cause(error: Exception) -> str:
    """An error for ``train.log``, where one of somebody's own part has its traceback."""
    if not isinstance(error, PartError) or error.__cause__ is None:
        return str(error)
    return "".join([*traceback.format_exception(error.__cause__), str(error)])


def _run_folder(config: Config, begun: Path | None, together: Together | None) -> Path:
    """The folder to write to: that of the run that goes on, else a new one."""
    inherited = os.environ.get(_FOLDER_VARIABLE)
    if inherited:
        return Path(inherited)
    if _rank() != 0:  # started beside the first process, not by it; only that one writes
        return together.share(None) if together is not None else base_folder(config)
    folder = claim_run_folder(config) if begun is None else begun.resolve()
    os.environ[_FOLDER_VARIABLE] = str(folder)
    return together.share(folder) if together is not None else folder


def _repeatable(config: Config, folder: Path) -> bool:
    """Whether the same command again resumes the run in ``folder``."""
    if config.ckpt_path in (None, "auto"):
        return config.ckpt_path == "auto"
    return Path(str(config.ckpt_path)).resolve() in (folder.resolve(), (folder / LAST).resolve())


def _rank() -> int:
    """Number of this process, whoever started it: torchrun, Slurm, Lightning, or nobody. (On a machine that Lightning
    did not start, all it knows is the number of the machine.)"""
    if int(os.environ.get("NODE_RANK", 0)) and "RANK" not in os.environ:
        return int(os.environ["NODE_RANK"])
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def quiet_lightning() -> None:
    """Keep Lightning's start-up chatter and the warnings that do not apply out of the way."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Said in the start-up table.
    warnings.filterwarnings("ignore", category=LevelLargerThanMapWarning)
    # A step whose images cannot be read is left out on purpose.
    warnings.filterwarnings("ignore", message=".*training_step. returned .None.*")
    # Ours is: the sampler finds its place from the checkpoint's counters.
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
    # Another command may resume with other callbacks.
    warnings.filterwarnings(
        "ignore", message=".*callbacks used to create the checkpoint need to be provided.*"
    )
    # Every figure is one of all processes before it is logged.
    warnings.filterwarnings("ignore", message=".*on epoch level in distributed setting.*")
    # Normalisation layers of parts that are frozen.
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
