"""Train a classifier from a config: the main job."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from sppcls._util.console import say, say_to_log, start_console
from sppcls._util.processes import let_gloo_finish, rank
from sppcls.config.schema import Config
from sppcls.engine.facts import facts_of
from sppcls.engine.given import Given, check_given
from sppcls.engine.preflight import device_count
from sppcls.engine.quiet import quiet_lightning
from sppcls.engine.resume import find_resume, repair, resumed_folder
from sppcls.engine.run import Run
from sppcls.engine.slurm import slurm_environment
from sppcls.engine.together import Together, meet
from sppcls.engine.user_errors import as_user_error, quiet_event_writer
from sppcls.errors import ConfigError, PartError, SppclsError
from sppcls.nn import SPPClassifier
from sppcls.runs.folder import base_folder, check_writable, claim_run_folder, lock_folder

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
    try:
        with ExitStack() as held:
            return _train(config, given, held)
    finally:
        let_gloo_finish()


def _train(config: Config, given: Given, held: ExitStack) -> dict[str, Any]:
    """As :func:`train`. ``held``: takes the lock of the run folder; a run that goes on is read under it."""
    nodes = config.trainer.num_nodes
    slurm = slurm_environment(device_count(config) // nodes, nodes)
    together = meet(config, slurm)
    if together is not None:
        held.enter_context(together)
    begun = resumed_folder(config)
    if begun is not None and rank() == 0:
        check_writable(begun)
        held.enter_context(lock_folder(begun, _ENDING))
    resume = find_resume(config, begun)
    if resume is not None:
        check_given(config, resume.checkpoint["sppcls"]["config"], resume.path)
    run = Run(config, given, resume.checkpoint["sppcls"]["classes"] if resume else None, slurm, together)
    if resume is not None:
        run.check(resume)
    if together is not None:
        together.agree(facts_of(config, run.splits, resume))
    folder = _run_folder(config, begun, together)
    try:
        with quiet_event_writer():
            if begun is None and rank() == 0:
                held.enter_context(lock_folder(folder))
            start_console(folder if rank() == 0 else None)
            if resume and resume.path.parent.resolve() == folder.resolve() and rank() == 0:
                for line in repair(folder, resume):
                    say(line)
            checkpoint_path = resume.path if resume else None
            resumed = f"{resume.path}, {resume.where}" if resume else None
            del resume  # its tensors
            return run.fit(folder, checkpoint_path, resumed)
    except (SppclsError, OSError, RuntimeError) as error:
        known = as_user_error(error, folder if rank() == 0 else None)
        say_to_log(_with_cause(known or error))
        if known is None:
            raise
        raise known from None
    finally:
        os.environ.pop(_FOLDER_VARIABLE, None)
        start_console(None)


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
    if rank() != 0:  # started beside the first process, not by it; only that one writes
        return together.share(None) if together is not None else base_folder(config)
    folder = claim_run_folder(config) if begun is None else begun.resolve()
    os.environ[_FOLDER_VARIABLE] = str(folder)
    return together.share(folder) if together is not None else folder
