"""Pre-trained weights from a file into a backbone, with a plain word about what does not fit."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn


def load_file(path: str) -> dict[str, Tensor]:
    """Read a file that holds a state_dict (a mapping from names to tensors) and nothing else.

    Raises:
        ValueError: the file is missing, unreadable, or holds something else. Files that would run code are
            refused.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(f"weights={path!r}: no such file") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"weights={path!r}: cannot be read as a state_dict file ({one_line(error)})"
        ) from error
    if not (isinstance(state, Mapping) and state and all(isinstance(v, Tensor) for v in state.values())):
        raise ValueError(f"weights={path!r}: holds no state_dict (a mapping from parameter names to tensors)")
    return dict(state)


def load_into(
    layers: nn.Module, state: Mapping[str, Tensor], source: str, ignore: Collection[str] = ()
) -> None:
    """Copy ``state`` into ``layers``.

    Args:
        layers: what to load into. Names in ``state`` may all carry the prefix ``layers.``, as in a backbone's
            own state_dict.
        state: names to tensors.
        source: start of the error message, such as ``weights='a.pt'``.
        ignore: further names that may be in ``state`` and are not needed: the cut-off part of the network.

    Raises:
        ValueError: names are missing, unknown, or tensors have other shapes.
    """
    if all(name.startswith("layers.") for name in state):
        state = {name.removeprefix("layers."): tensor for name, tensor in state.items()}
    wanted = layers.state_dict()
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


def one_line(error: BaseException) -> str:
    """The first line of an error's text, or its type if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
