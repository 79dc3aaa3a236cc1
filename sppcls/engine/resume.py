"""From which checkpoint a run is resumed, whether it may be, and what a crash has left undone beside it."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.connectors import checkpoint_connector

from sppcls._util.files import link_or_copy, replacing
from sppcls._util.out_of_memory import is_out_of_memory
from sppcls._util.reason import reason_of
from sppcls.config.compose import to_yaml
from sppcls.config.same_run import is_fixed, known_changes, with_defaults
from sppcls.config.schema import Config
from sppcls.data.classes import check_classes
from sppcls.engine.module import ClassificationModule
from sppcls.errors import CheckpointError
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import is_multi_label
from sppcls.nn.parts import parameter_groups
from sppcls.registry import TARGET
from sppcls.runs.checkpoint import DamagedError, read_checkpoint
from sppcls.runs.folder import checkpoints_in, own_checkpoints
from sppcls.runs.model_info import resume_problem
from sppcls.runs.names import BEST, CONFIG, LAST, PREVIOUS, no_checkpoint


class Resume(NamedTuple):
    """A checkpoint that a run is resumed from."""

    path: Path
    checkpoint: dict[str, Any]
    damaged: list[str]
    """A line on each newer checkpoint that cannot be read."""

    @property
    def where(self) -> str:
        """How far the run had come."""
        return f"written in epoch {self.checkpoint['epoch'] + 1}"


def resumed_folder(config: Config) -> Path | None:
    """The run folder that ``ckpt_path`` resumes; None where a new one is begun. Reads no checkpoint.

    ``auto`` resumes the newest folder of this run that has a checkpoint; a run folder or a ``last.ckpt`` in one, that
    folder. From any other file a run of its own begins.
    """
    if config.ckpt_path is None or not config.ckpt_path.strip():
        return None
    if config.ckpt_path == "auto":
        own = own_checkpoints(config)
        return own[0].parent if own else None
    path = Path(config.ckpt_path)
    if not os.path.isdir(path):  # False, not an error, of an impossible name
        if path.name != LAST or not os.path.isfile(path):
            return None
        path = path.resolve().parent
    return path if os.path.isfile(path / CONFIG) else None


def find_resume(config: Config, folder: Path | None) -> Resume | None:
    """What ``ckpt_path`` stands for; None to start afresh.

    ``auto`` takes the newest checkpoint of this run that can be read: ``last.ckpt``, the one before it, or the best. So
    does a run folder, whatever the run's configuration.

    Args:
        config: of the run.
        folder: what :func:`resumed_folder` has found, locked since by the process that will write there.

    Raises:
        CheckpointError: the file that is named cannot be read, or none of the run's own can be.
    """
    if config.ckpt_path is None:
        return None
    if config.ckpt_path != "auto":
        return find_named(config.ckpt_path)
    if folder is None:
        return None
    found = _first_readable(checkpoints_in(folder))
    if found is None:
        raise CheckpointError(f"{folder}: its checkpoint was taken away just now; start again")
    return found


def find_named(name: str) -> Resume:
    """The checkpoint that ``ckpt_path`` names; in a run folder, the newest one that can be read.

    Raises:
        CheckpointError: there is none; of a damaged one the error says what else there is.
    """
    if not name.strip():
        raise CheckpointError("ckpt_path: empty; name a checkpoint or a run's folder, or auto")
    path = Path(name)
    if os.path.isdir(path):  # False, not an error, of an impossible name
        found = _first_readable(checkpoints_in(path))
        if found is None:
            raise CheckpointError(f"{path}: {no_checkpoint(path)}")
        return found
    try:
        return Resume(path, read_checkpoint(path), [])
    except DamagedError as error:
        if path.name != LAST or not path.with_name(PREVIOUS).is_file():
            raise
        raise DamagedError(f"{error}; ckpt_path={path.parent} resumes from the one before it") from None


def _first_readable(paths: list[Path]) -> Resume | None:
    damaged: list[DamagedError] = []
    for path in paths:
        try:
            return Resume(path, read_checkpoint(path), [str(error) for error in damaged])
        except DamagedError as error:
            damaged.append(error)
    if damaged:
        raise damaged[0]
    return None


def repair(folder: Path, resume: Resume) -> list[str]:
    """Bring the checkpoints of a run that is resumed in its folder into order, and say what was wrong with them.

    A damaged ``last.ckpt`` gives way to the one resumed from. A run killed at a new best, after ``last.ckpt`` and
    before ``best.ckpt``, gets the latter. Half-written files go, so this is for the process that holds the folder's
    lock: another one may be writing them at this moment.
    """
    for leftover in folder.rglob(".*.tmp*"):  # of a process killed while it was saving
        leftover.unlink(missing_ok=True)
    path = resume.path
    lines = [f"{line}; resuming from {path.name}, {resume.where}" for line in resume.damaged]
    if path.name != LAST:
        link_or_copy(path, folder / LAST)
    best = resume.checkpoint["sppcls_progress"]["best"]
    if best and best["epoch"] == resume.checkpoint["epoch"]:
        link_or_copy(path, folder / BEST)
    return lines


def check_processes(resume: Resume, steps: int, processes: int) -> None:
    """Refuse to resume with another number of processes, before any but the first is started.

    Args:
        resume: a checkpoint that ``check_resume`` has passed.
        steps: in an epoch of the run that is to be resumed.
        processes: that it would have.

    Raises:
        CheckpointError: naming both numbers. Another number with as many steps, each process having another share of
            the same images, may be resumed.
    """
    progress = resume.checkpoint["sppcls_progress"]
    trainer = resume.checkpoint["sppcls"]["config"]["trainer"]
    before = progress.get("processes")
    if before is None and isinstance(trainer.get("devices"), int):  # of an older version
        before = trainer["devices"] * trainer.get("num_nodes", 1)
    if not isinstance(before, int) or before == processes or progress["epoch_length"][0] == steps:
        return
    images, rest = divmod(before * resume.checkpoint["sppcls"]["config"]["data"]["batch_size"], processes)
    keep = "" if rest else f"add data.batch_size={images} to keep its batches, or "
    raise CheckpointError(
        f"{resume.path}: trained by {before} process(es), this run would have {processes} and other steps: {keep}resume "
        f"with {before} (trainer.devices x trainer.num_nodes), or begin a new run with its convolutions: "
        f"backbone.weights={resume.path}"
    )


def write_config(folder: Path, config: Config) -> None:
    """Write ``config.yaml``, by which ``ckpt_path=auto`` knows the run, atomically."""
    with replacing(folder / CONFIG) as temporary:
        temporary.write_text(to_yaml(config), encoding="utf-8")


class ConfirmResume(Callback):
    """The last check of a resumed run, and its ``config.yaml``, at the moment when nothing can refuse it any more.

    Written earlier, the config of a command that is refused would replace the one that the run was trained with, and
    ``ckpt_path=auto`` with the latter would begin a new run. Stands after the look at memory in the list of callbacks,
    which may refuse it, and before the report, which takes rows out of ``metrics.csv``.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ClassificationModule)
        pl_module.check_epoch_length()
        if trainer.is_global_zero:
            write_config(self.folder, self.config)


def restoring_problem(error: Exception) -> str | None:
    """What to say of an error that arose while Lightning put a checkpoint's state back; None of any other.

    The parts that Lightning keeps for itself are looked at by nobody else.
    """
    if isinstance(error, OSError) or is_out_of_memory(error):
        return None  # of the machine, not of the file
    steps = ("resume_start", "restore_model", "restore_callbacks", "restore_training_state")
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    if not any(
        frame.f_code.co_name in steps and frame.f_globals["__name__"] == checkpoint_connector.__name__
        for frame in frames
    ):
        return None
    return f"damaged: its state is not as sppcls writes it ({type(error).__name__}: {reason_of(error, 120)})"


def check_resume(
    checkpoint: dict[str, Any], model_info: dict[str, Any], net: SPPClassifier, path: str | Path
) -> None:
    """Refuse to resume a run from the checkpoint of another one.

    Args:
        checkpoint: what :func:`~sppcls.runs.checkpoint.read_checkpoint` has read from ``path``.
        model_info: that of the run which is to be resumed.
        net: its network.
        path: named in the error.

    Raises:
        CheckpointError: naming the first part of the network, the class, or the optimiser's part that differs, or
            what is no state of a run.
    """
    if problem := resume_problem(checkpoint):
        raise CheckpointError(f"{path}: {problem}")
    old = checkpoint["sppcls"]
    # A pyramid takes any size, so the sizes of a run may change; without one they may not.
    any_size = net.fixed_size is None
    for part, new_value in model_info["architecture"].items():
        old_value = old["architecture"].get(part)
        if part == "num_classes" or old_value == new_value or (part == "input_size" and any_size):
            continue  # the class lists below say the first better
        if isinstance(new_value, dict) and isinstance(old_value, dict):
            for name, value in new_value.items():
                if old_value.get(name) != value and is_fixed(f"{part}.{name}"):
                    raise CheckpointError(
                        f"{path}: another network: {part}.{name} is {_show(old_value.get(name))} there, "
                        f"{_show(value)} in this config"
                    )
        elif part not in known_changes() or is_fixed(part):
            raise CheckpointError(
                f"{path}: another network: {part} is {_show(old_value)} there, {_show(new_value)} in this config"
            )
    check_classes(old["classes"], model_info["classes"], path)
    if is_multi_label(old) != is_multi_label(model_info):
        there, here = (
            "one label" if not is_multi_label(info) else "several labels" for info in (old, model_info)
        )
        raise CheckpointError(
            f"{path}: trained on images with {there}, those of this config have {here}; init_from={path} begins a new run with it"
        )
    epochs = model_info["config"]["trainer"]["max_epochs"]
    if checkpoint["epoch"] >= epochs:
        raise CheckpointError(
            f"{path}: written in epoch {checkpoint['epoch'] + 1}; trainer.max_epochs={epochs} must be at least "
            f"{checkpoint['epoch'] + 1}"
        )
    # What is kept beside the network: of the steps so far, of the averaged weights.
    before, now = (with_defaults(given["config"]) for given in (old, model_info))
    for key in filter(is_fixed, {**now, **before}):  # an entry of a mapping may be in one of them alone
        if key.partition(".")[0] not in model_info["architecture"] and before.get(key) != now.get(key):
            raise CheckpointError(
                f"{path}: {key} is {_show(before.get(key))} there, {_show(now.get(key))} in this config; it cannot change in a "
                f"run (a new run begins with these convolutions by backbone.weights={path})"
            )
    own_optimizer = TARGET in old["config"]["optimizer"]
    (optimizer,) = checkpoint["optimizer_states"]
    saved = [len(group["params"]) for group in optimizer["param_groups"]]
    rates = model_info["config"]["optimizer"]
    groups = parameter_groups(net, rates.get("lr_factors"), rates.get("layer_decay"))
    own = [len(group.parameters) for group in groups]
    if saved != own:
        raise CheckpointError(
            f"{path}: the optimizer has groups of {saved} parameters there, of {own} in this version of sppcls"
        )
    parameters = [parameter for group in groups for parameter in group.parameters]
    for number, kept in {} if own_optimizer else optimizer["state"].items():
        for slot, value in kept.items():
            if value.shape != (() if slot == "step" else parameters[number].shape):
                raise CheckpointError(f"{path}: damaged: optimizer_states is not as sppcls writes it")


def _show(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
