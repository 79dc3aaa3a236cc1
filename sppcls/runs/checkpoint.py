"""Checkpoints: written atomically, read safely, usable without Hydra or Lightning.

A checkpoint is Lightning's own plus ``"sppcls"``, the *model_info*: plain values that say how to build the network and how
to feed it. :func:`load_classifier` needs nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from sppcls._util.files import link_or_copy, mode_of
from sppcls._util.out_of_memory import is_out_of_memory
from sppcls._util.reason import reason_of
from sppcls._version import __version__
from sppcls.config.old_versions import upgraded
from sppcls.data.stream import LOADER_DIED
from sppcls.errors import CheckpointError
from sppcls.nn import SPPClassifier, build_classifier
from sppcls.nn.weights import is_archive, load_data_only
from sppcls.registry import GIVEN, allow_plugins
from sppcls.runs.model_info import model_info_problem
from sppcls.runs.names import LAST, PREVIOUS, no_file

FORMAT = 2
_READ = (1, FORMAT)  # format 1: sppcls 0.1


class DamagedError(CheckpointError):
    """A file that is no whole checkpoint (any more); one beside it may be."""


def make_model_info(
    *,
    architecture: dict[str, Any],
    classes: list[str],
    mean: list[float],
    std: list[float],
    train_sizes: list[tuple[int, int]],
    val_sizes: list[tuple[int, int]],
    config: dict[str, Any],
    multi_label: bool = False,
) -> dict[str, Any]:
    """What a checkpoint says about itself; plain dicts, lists, strings and numbers only.

    Args:
        architecture: keyword arguments of :func:`sppcls.nn.build_classifier`.
        classes: class names by number.
        mean: RGB mean in 0..1 that inputs are normalised with.
        std: RGB standard deviation in 0..1.
        train_sizes: (height, width) pairs trained on.
        val_sizes: (height, width) pairs validated at, the main one first.
        config: the whole resolved config of the run.
        multi_label: whether an image may have several labels: probabilities are then the sigmoid of each logit.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "architecture": architecture,
        "classes": list(classes),
        "mean": list(mean),
        "std": list(std),
        "train_sizes": [list(size) for size in train_sizes],
        "val_sizes": [list(size) for size in val_sizes],
        "config": config,
        **({"multi_label": True} if multi_label else {}),
    }


# What keeps this process from reading a file that may be whole.
_NOT_THE_FILES = (
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ETIMEDOUT,
)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that it may contain (``weights_only=True``).

    Raises:
        DamagedError: cut short, changed since it was written, or another kind of file.
        CheckpointError: missing, holding code, not one of sppcls, or not to be read by this process at present.
    """
    if not isinstance(path, str | os.PathLike):
        raise CheckpointError(f"{path!r}: no path; name a checkpoint file such as last.ckpt")
    path, mode = Path(path), mode_of(path)
    if mode is None:
        raise CheckpointError(f"{path}: no such checkpoint")
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"{path}: {no_file(path)}")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{path}: not a regular file; name a checkpoint file such as last.ckpt")
    whole = False
    try:
        whole = _checksums_agree(path)
        checkpoint = load_data_only(path)
    except pickle.UnpicklingError:
        kind = CheckpointError if whole else DamagedError
        raise kind(
            f"{path}: not a checkpoint that can be read safely: it is another kind of file, or holds code"
        ) from None
    except Exception as error:  # what a damaged file raises depends on where the damage is
        reason = reason_of(error, 120)
        if is_out_of_memory(error) or getattr(error, "errno", None) in _NOT_THE_FILES:
            raise CheckpointError(
                f"{path}: cannot be read ({getattr(error, 'strerror', None) or reason})"
            ) from None
        # To read before its beginning is no fault of the system's.
        found = "" if getattr(error, "errno", None) == errno.EINVAL else f" ({reason})"
        raise DamagedError(f"{path}: damaged, cut short or not a checkpoint{found}") from None
    if not isinstance(checkpoint, dict) or "sppcls" not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint written by sppcls")
    model_info = checkpoint["sppcls"]
    if not isinstance(model_info, dict):
        raise CheckpointError(f"{path}: not a checkpoint written by sppcls")
    if model_info.get("format") not in _READ:
        raise CheckpointError(
            f"{path}: format {model_info.get('format')} written by sppcls {model_info.get('version')}; "
            f"this is sppcls {__version__}, which reads formats {_READ[0]} to {FORMAT}"
        )
    for part in ("architecture", "config"):
        if isinstance(model_info.get(part), dict):
            model_info[part] = upgraded(model_info[part])
    if problem := model_info_problem(checkpoint):
        raise CheckpointError(f"{path}: {problem}")
    return checkpoint


def _checksums_agree(path: Path) -> bool:
    """Whether a file is a whole archive; False where it is none.

    torch itself takes weights whose bytes have changed, and a network that is silently wrong is worse than none.

    Raises:
        zipfile.BadZipFile: a part is not what was written (or another exception, depending on where).
    """
    if not is_archive(path):
        return False
    with zipfile.ZipFile(path) as archive:
        changed = archive.testzip()
    if changed is not None:
        raise zipfile.BadZipFile(f"{changed} has changed since it was written")
    return True


def load_classifier(
    path: str | Path,
    map_location: Any = "cpu",
    *,
    net: SPPClassifier | None = None,
    plugins: Sequence[str] = (),
) -> SPPClassifier:
    """The trained network of a checkpoint, in evaluation mode.

    Args:
        path: ``best.ckpt`` or ``last.ckpt`` of a run.
        map_location: the device that it is put on.
        net: of a run that was given a network from Python, one that is built in the same way; it takes the weights.
        plugins: packages that hold parts of the network; a checkpoint itself never chooses which code runs. They stay
            named for the rest of the process, and for those that it starts.

    With ``ema.enabled`` these are the averaged weights. What it says of itself is the attribute ``model_info``: among others
    ``model_info["classes"]``, ``model_info["mean"]``, ``model_info["std"]`` (RGB, 0..1) and ``model_info["train_sizes"]``.

    Raises:
        CheckpointError: the file is missing, damaged, its weights do not fit its own description, or it needs a package
            or a network that nobody has named.

    Examples:
        >>> net = sppcls.load_classifier("RUN/best.ckpt")
        >>> net.model_info["classes"], net.min_input_size
    """
    checkpoint = read_checkpoint(path)  # on the CPU: a GPU need not hold the optimiser's state
    model_info = checkpoint["sppcls"]
    architecture = dict(model_info["architecture"])
    # The weights come from the checkpoint; a file of pretrained ones may not even exist any more.
    architecture["backbone"] = {**architecture["backbone"], "weights": None}
    architecture["input_size"] = tuple(architecture["input_size"])
    allow_plugins(*([plugins] if isinstance(plugins, str) else plugins))
    if architecture["backbone"].get("name") == GIVEN and net is None:
        raise CheckpointError(
            f"{path}: this run was given its network from Python; build it in the same way and give it again: "
            "sppcls.load_classifier(path, net=...)"
        )
    if net is not None and not isinstance(net, SPPClassifier):
        raise CheckpointError(f"net: a {type(net).__name__}; an SPPClassifier is needed, built as in the run")
    try:
        net = net if net is not None else build_classifier(**architecture)
    except Exception as error:  # torch raises many types, for example where the memory does not suffice
        raise CheckpointError(f"{path}: its network cannot be built: {reason_of(error)}") from None
    weights = {
        name.removeprefix("net."): value
        for name, value in checkpoint["state_dict"].items()
        if name.startswith("net.")
    }
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        reason = reason_of(error, 160)
        raise CheckpointError(f"{path}: the weights do not fit the network it describes ({reason})") from None
    net.model_info = model_info
    if str(map_location) != "cpu":
        net.to(map_location)
    return net.eval()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a neighbour and renames it, so a checkpoint is either the old one or the new one, never half of one.

    The old one of ``last.ckpt`` stays as ``previous.ckpt``: a disk may lose what it has taken.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)  # of a ModelCheckpoint of somebody's own
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST and path.exists():
                link_or_copy(path, path.with_name(PREVIOUS))
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:
            # torch.save reports a full disk as a RuntimeError of its zip writer.
            if LOADER_DIED in str(error):  # which is raised wherever the program is at that moment
                raise
            kept = "; the one written before it is intact" if path.exists() else ""
            reason = (
                os.strerror(error.errno)
                if isinstance(error, OSError) and error.errno
                else reason_of(error, 120)
            )
            raise CheckpointError(f"{path}: the checkpoint could not be written ({reason}){kept}") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
