"""Weights of another network into the layers that they fit: the start of a fine-tuning."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sppcls.nn.classifier import SPPClassifier
from sppcls.nn.parts import short_name
from sppcls.nn.weights import below_prefix, load_described, not_compiled

_SCALE = "head.input_scale"


class Taken(NamedTuple):
    """What :func:`load_fitting` has done."""

    taken: list[str]
    """Layers that have the weights of the file."""
    new: dict[str, str]
    """Layers that keep their own start, and why."""
    info: Mapping[str, Any]
    """What a checkpoint of sppcls says of its network; empty for other files."""

    def __str__(self) -> str:
        """One line, such as ``backbone, head.fc6, head.fc7; new: head.last (5 classes there)``."""
        whole = "backbone" if not any(name.startswith("backbone") for name in self.new) else None
        kept = [name for name in self.taken if whole is None or not name.startswith("backbone.")]
        new = ", ".join(f"{name} ({why})" for name, why in self.new.items())
        return ", ".join([*([whole] if whole else []), *kept]) + (
            f"; new: {new}" if new else "; nothing is new"
        )


def load_fitting(
    net: SPPClassifier, path: str | os.PathLike[str], classes: Sequence[str], source: str
) -> Taken:
    """Copy the weights in a file into the layers of ``net`` that they fit; the others keep their start.

    A layer is taken whole or not at all: by name and by the shape of each of its tensors. A head is taken from its first
    layer up to the first one that does not fit, as what follows was trained on the output of the latter, and not at all if
    the uppermost layer of the backbone does not fit; and its last layer only if the file says that it tells the same classes apart.

    Args:
        net: the network.
        path: a checkpoint of sppcls, or a file with a state_dict (:func:`~sppcls.nn.weights.load_file`): of such a network,
            or of a network with the layers of the backbone, such as torchvision's.
        classes: that ``net`` tells apart.
        source: start of the error message, such as ``init_from=RUN/best.ckpt``.

    Raises:
        ValueError: the file cannot be read, or no layer of the backbone fits.
    """
    state, _, info = load_described(path, source)
    wanted = net.state_dict()
    there = _as_named_here(net, state, source)
    same_classes = info.get("classes") == list(classes)
    taken: list[str] = []
    new: dict[str, str] = {}
    uppermost = [layer for layer in _layers(wanted) if layer.startswith("backbone")][-1:]
    for layer, names in _layers(wanted).items():
        if layer == _SCALE:
            continue
        # What the layers of a head that come next were trained on.
        above = next((name for name in new if name.startswith("head.") or name in uppermost), None)
        problem = _problem(names, wanted, there)
        if problem is None and layer.startswith("head.last") and not same_classes:
            problem = "other classes" if "classes" in info else "its classes are not known"
        elif problem is None and layer.startswith("head.") and above is not None:
            problem = f"it was trained on another {above}"
        if problem is None:
            taken.append(layer)
        else:
            new[layer] = problem
    if not any(layer.startswith("backbone") for layer in taken):
        layer, why = next(iter(new.items()))
        raise ValueError(
            f"{source}: no layer of its backbone fits this network ({layer}: {why}); "
            f"take the backbone, width and norm that it was trained with{_described(info)}"
        )
    names = [name for layer, names in _layers(wanted).items() if layer in taken for name in names]
    # The weights of a head's first layer and the number that its input is multiplied by belong together.
    first = next((layer for layer in _layers(wanted) if layer.startswith("head.") and layer != _SCALE), None)
    scale = {_SCALE: there.get(_SCALE, torch.ones(()))} if first in taken and _SCALE in wanted else {}
    net.load_state_dict({**wanted, **scale, **{name: there[name] for name in names if name in there}})
    return Taken(taken, new, info)


def _as_named_here(net: SPPClassifier, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors of a file by the names that a network of sppcls has for them."""
    ours = net.state_dict()
    state = not_compiled(state, ours)
    _, below = below_prefix(state, ours, source)
    if any(name.startswith("backbone.") for name in below):
        return below
    layers = "backbone.layers."
    wanted = [name.removeprefix(layers) for name in ours if name.startswith(layers)]
    return {layers + name: value for name, value in below_prefix(state, wanted, source)[1].items()}


def _layers(names: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Short names of the modules that own tensors, with the names of these; hidden layers of a head as a whole."""
    layers: dict[str, list[str]] = {}
    for name in names:
        layer = short_name(name if name == _SCALE else name.rpartition(".")[0])
        if name.startswith("head.hidden."):
            layer = ".".join(layer.split(".")[:2])
        layers.setdefault(layer, []).append(name)
    return layers


def _problem(names: Sequence[str], wanted: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> str | None:
    """Why a layer does not fit, in a few words; None if it does."""
    for name in names:
        if name not in there:
            # Files older than torch 0.4.1 have no counters of batches; nothing here uses them.
            if not name.endswith("num_batches_tracked"):
                return "not in the file"
        elif there[name].shape != wanted[name].shape:
            return f"{_shape(there[name])} there, {_shape(wanted[name])} here"
    return None


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def _described(info: Mapping[str, Any]) -> str:
    """The backbone of a checkpoint in words that can be typed, where it says something of it."""
    architecture = info.get("architecture")
    backbone = architecture.get("backbone") if isinstance(architecture, Mapping) else None
    if not isinstance(backbone, Mapping):
        return ""
    shown = {
        key: backbone[key] for key in ("name", "model", "width", "norm") if backbone.get(key) is not None
    }
    words = (f"backbone{'' if key == 'name' else f'.{key}'}={str(v)[:40]}" for key, v in shown.items())
    return f": {' '.join(words)}"
