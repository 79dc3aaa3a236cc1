"""Pre-trained weights from a file into a backbone, with a plain word about what does not fit."""

from __future__ import annotations

import os
import pickle
import stat
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sppcls._util.reason import reason_of


def load_data_only(path: str | os.PathLike[str]) -> Any:
    """What ``torch.save`` wrote, on the CPU; a file that would run code is refused, with one of many exceptions."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")  # of a pipe one would wait for ever
    is_archive(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of unusual files; the caller says what is wrong
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


# Where programs keep the network in a file of theirs. Averaged weights come first, as they are what was measured.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_PLAIN = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")


def load_weights(
    layers: nn.Module, path: str | os.PathLike[str], source: str, ignore: Collection[str] = ()
) -> str:
    """Copy the weights in a file into ``layers``: :func:`load_file`, then :func:`load_into`.

    Returns:
        One line on what was taken and what was left, such as ``60 tensors of 'model' below 'module.'; left: fc.bias``.

    Raises:
        ValueError: as these two.
    """
    state, key = load_file(path)
    taken = load_into(layers, state, source, ignore)
    return taken.replace("tensors", f"tensors of {key!r}", 1) if key else taken


def load_file(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], str]:
    """(state_dict, key it was found under) of a file: :func:`load_described` without what it says of the network."""
    state, key, _ = load_described(path, f"weights={os.fspath(path)!r}")
    return state, key


def load_described(
    path: str | os.PathLike[str], source: str
) -> tuple[dict[str, Tensor], str, Mapping[str, Any]]:
    """(state_dict, key it was found under, model info) of a file by torch or, where it is installed, by safetensors.

    A file may be a state_dict (names to tensors), or hold one under the name of :data:`_AVERAGED` or :data:`_PLAIN`,
    with whatever else. Nothing else in it is loaded: an object of another package is passed over, not built. The key
    is empty for a bare state_dict. Of a checkpoint written by ``sppcls train`` the network's state_dict is taken, and
    the model info is what it says of itself; empty for other files. ``source`` begins the messages.

    Raises:
        ValueError: the file is missing, unreadable, or holds no state_dict. Files that would run code are refused.
    """
    try:
        content = _load_safetensors(path) if _is_safetensors(path) else _load_tensors(path)
    except FileNotFoundError as error:
        raise ValueError(f"{source}: no such file") from error
    except ImportError as error:
        raise ValueError(f"{source}: needs safetensors; pip install 'sppcls[safetensors]'") from error
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise ValueError(
            f"{source}: cannot be read as a state_dict file ({reason_of(error, first_line=True)})"
        ) from error
    state, key = _unwrapped(content)
    info: Mapping[str, Any] = {}
    if isinstance(content, Mapping) and "sppcls" in content:
        info = content["sppcls"] if isinstance(content["sppcls"], Mapping) else {}
        # Beside the network, which is called net there, could be the state of other modules.
        state = {name: value for name, value in state.items() if name.startswith("net.")}
        key = ""
    if not state:
        raise ValueError(
            f"{source}: holds no state_dict (a mapping from parameter names to tensors), "
            f"neither bare nor as {', '.join(_PLAIN)}"
        )
    return state, key, info


def _is_safetensors(path: str | os.PathLike[str]) -> bool:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("not a regular file")
    with open(path, "rb") as file:
        head = file.read(9)
    # The length of a header in JSON, then the header.
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < os.path.getsize(path)


def _load_safetensors(path: str | os.PathLike[str]) -> Any:
    from safetensors.torch import load_file as load

    return load(path)


class _PassedOver:
    """Stands for an object of a class that is not loaded, whatever it is made of."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, _: object) -> None: ...


def _load_tensors(path: str | os.PathLike[str]) -> Any:
    try:
        return load_data_only(path)
    except pickle.UnpicklingError:
        # Many programs keep their options or figures beside the network, as objects of their own classes.
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(_PassedOver, name) for name in named]):
            content = load_data_only(path)
        if isinstance(content, _PassedOver):
            raise
        return content


def _unwrapped(content: Any, depth: int = 3) -> tuple[dict[str, Tensor], str]:
    """The state_dict in a file's content and the last key that leads to it; empty if there is none."""
    if not isinstance(content, Mapping) or not depth:
        return {}, ""
    if content and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        return dict(content), ""
    for key in (*_AVERAGED, *_PLAIN):
        state, inner = _unwrapped(content.get(key), depth - 1)
        if state:
            return state, inner or key
    return {}, ""


def load_into(
    layers: nn.Module, state: Mapping[str, Tensor], source: str, ignore: Collection[str] = ()
) -> str:
    """Copy ``state`` into ``layers``.

    Args:
        layers: what to load into.
        state: names to tensors. The names may all carry the prefix of whatever the layers were saved as a part of: a
            backbone, a classifier, a Lightning module, ``DataParallel``. What does not carry it is left.
        source: start of the error message, such as ``weights='a.pt'``.
        ignore: further names that may be in ``state`` and are not needed: the cut-off part of the network.

    Returns:
        One line on what was taken and what was left.

    Raises:
        ValueError: names are missing, unknown, or tensors have other shapes; or two networks in ``state`` fit.
    """
    wanted = layers.state_dict()
    state = not_compiled(state, wanted)
    prefix, below = below_prefix(state, wanted, source)
    # Files older than torch 0.4.1 have no counters of batches; nothing here uses them.
    missing = [name for name in wanted if name not in below and not name.endswith("num_batches_tracked")]
    # A head of one's own in the place of the cut-off one is not needed either.
    heads = {_top(name) for name in ignore} - {_top(name) for name in wanted}
    unknown = [
        name for name in below if name not in wanted and name not in ignore and _top(name) not in heads
    ]
    if missing:  # which may be there under other names
        unknown += [name for name in state if not name.startswith(prefix)]
    reshaped = [
        f"{name} {tuple(below[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in below and below[name].shape != wanted[name].shape
    ]
    problems = [
        f"{len(names)} {what} (first: {names[0]})"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", reshaped))
        if names
    ]
    if problems:
        raise ValueError(f"{source}: does not fit this backbone; tensors: {', '.join(problems)}")
    taken = {name: below[name] for name in wanted if name in below}
    layers.load_state_dict(taken)
    left = [name for name in state if not (name.startswith(prefix) and name.removeprefix(prefix) in taken)]
    line = f"{len(taken)} tensors" + (f" below {prefix!r}" if prefix else "")
    if left:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        line += f"; left: {', '.join(left[:3])}{more}"
    return line


def _top(name: str) -> str:
    return name.partition(".")[0]


def not_compiled(state: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Weights by the names that they had before their network was compiled, unless the wanted ones are of a compiled one."""
    if any("_orig_mod" in name for name in wanted):
        return dict(state)
    return {name.replace("_orig_mod.", ""): value for name, value in state.items()}


def below_prefix(
    state: Mapping[str, Tensor], wanted: Collection[str], source: str
) -> tuple[str, dict[str, Tensor]]:
    """What stands before most of the wanted names in ``state``, and what has it, by names without it.

    Raises:
        ValueError: two prefixes stand before all of them.
    """
    prefix = _common_prefix(state, wanted, source)
    return prefix, {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}


def _common_prefix(state: Mapping[str, Tensor], wanted: Collection[str], source: str) -> str:
    found: Counter[str] = Counter()
    for name in state:
        ends = [0, *(place + 1 for place, letter in enumerate(name) if letter == ".")]
        found.update(name[:end] for end in ends if name[end:] in wanted)
    if not found:
        return ""
    most = max(found.values())
    first, *others = sorted((prefix for prefix, count in found.items() if count == most), key=len)
    if others and most > 1 and first:
        raise ValueError(
            f"{source}: holds more than one network that fits: {', '.join(sorted([first, *others]))}; "
            "save one of them to a file of its own"
        )
    return first
