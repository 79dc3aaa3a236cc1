"""Pre-trained weights from a file into a backbone, with a plain word about what does not fit."""

from __future__ import annotations

import os
import stat
import warnings
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def load_data_only(path: str | os.PathLike[str]) -> Any:
    """What ``torch.save`` wrote, on the CPU; a file that would run code is refused, with one of many exceptions."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")  # of a pipe one would wait for ever
    is_archive(path)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of unusual files torch asks to be told; whoever calls says what is wrong
        return torch.load(path, map_location="cpu", weights_only=True)


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an archive as ``torch.save`` writes it; False where it is none.

    Raises:
        ValueError: one that takes more memory than it has bytes when it is read: a few megabytes could stand for all
            memory there is.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("its parts are compressed, which torch never writes")
    if sum(max(part.file_size, part.compress_size) for part in parts) > os.path.getsize(path):
        raise ValueError("its parts are larger than the file")
    return True


def load_file(path: str) -> dict[str, Tensor]:
    """Read a file that holds a state_dict (a mapping from names to tensors) and nothing else.

    Of a checkpoint written by ``sppcls train`` the network's state_dict is taken.

    Raises:
        ValueError: the file is missing, unreadable, or holds something else. Files that would run code are
            refused.
    """
    try:
        state = load_data_only(path)
    except FileNotFoundError as error:
        raise ValueError(f"weights={path!r}: no such file") from error
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise ValueError(
            f"weights={path!r}: cannot be read as a state_dict file ({one_line(error)})"
        ) from error
    if isinstance(state, Mapping) and "sppcls" in state and isinstance(state.get("state_dict"), Mapping):
        # Beside the network, which is called net there, could be the state of other modules.
        state = {name: value for name, value in state["state_dict"].items() if str(name).startswith("net.")}
    if not (
        isinstance(state, Mapping)
        and state
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    ):
        raise ValueError(f"weights={path!r}: holds no state_dict (a mapping from parameter names to tensors)")
    return dict(state)


def load_into(
    layers: nn.Module, state: Mapping[str, Tensor], source: str, ignore: Collection[str] = ()
) -> None:
    """Copy ``state`` into ``layers``.

    Args:
        layers: what to load into.
        state: names to tensors. The names may all carry the prefixes of whatever the layers were saved as a
            part of: a backbone, a whole classifier (of which the rest is ignored), ``sppcls train``'s module,
            and ``DistributedDataParallel``.
        source: start of the error message, such as ``weights='a.pt'``.
        ignore: further names that may be in ``state`` and are not needed: the cut-off part of the network.

    Raises:
        ValueError: names are missing, unknown, or tensors have other shapes.
    """
    wanted = layers.state_dict()
    for prefix in ("module.", "net.", "backbone.", "layers."):
        state = _without_prefix(state, prefix, wanted)
    # Files older than torch 0.4.1 have no counters of batches; nothing here uses them.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in wanted and name not in ignore]
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    problems = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise ValueError(f"{source}: does not fit this backbone; tensors: {', '.join(problems)}")
    layers.load_state_dict({name: state[name] for name in wanted if name in state})


def _without_prefix(
    state: Mapping[str, Tensor], prefix: str, wanted: Collection[str]
) -> Mapping[str, Tensor]:
    """``state`` with ``prefix`` taken off, if every name has it and none is a wanted one as it is."""
    if any(name in wanted for name in state):
        return state
    inner = state
    if prefix == "backbone.":
        inner = {name: tensor for name, tensor in state.items() if not name.startswith(("pool.", "head."))}
    if not inner or not all(name.startswith(prefix) for name in inner):
        return state
    return {name.removeprefix(prefix): tensor for name, tensor in inner.items()}


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
