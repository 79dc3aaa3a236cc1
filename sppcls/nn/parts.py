"""Parts of a network by name, such as ``backbone``, ``backbone.conv1`` or ``head.fc6``, and its layers in order.

A part is what stands before a dot in the names of parameters: ``backbone.layer1.0`` is all of the first block of a
ResNet. The two containers ``layers`` (of a backbone) and ``hidden`` (of a head) need not be named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from torch import nn

from sppcls._util.near import suggest

_CONTAINERS = ("backbone.layers.", "head.hidden.")


def short_name(name: str) -> str:
    """The name of a parameter or module without its container: ``head.hidden.fc6.0.bias`` to ``head.fc6.0.bias``."""
    for container in _CONTAINERS:
        if f"{name}.".startswith(container):
            return (container.partition(".")[0] + "." + name[len(container) :]).rstrip(".")
    return name


def is_within(name: str, part: str) -> bool:
    """Whether a parameter or module, by its short or full name, belongs to a part."""
    return f"{short_name(name)}.".startswith(f"{short_name(part)}.")


def check_parts(net: nn.Module, parts: Iterable[str], key: str) -> None:
    """Raise ValueError, its message beginning with ``key``, for a part that has no parameters."""
    names = [name for name, _ in net.named_parameters()]
    for part in parts:
        if not any(is_within(name, part) for name in names):
            known = _nearest_parts(names)
            hint = suggest(part, known) or f"; choose from {', '.join(known[:12])}"
            raise ValueError(f"{key}={part}: no such part with weights in this network{hint}")


def _nearest_parts(names: Iterable[str]) -> list[str]:
    """The first two levels of the names of parameters."""
    parts: dict[str, None] = {}
    for name in names:
        words = short_name(name).split(".")
        parts.update(dict.fromkeys([words[0], ".".join(words[:2])]))
    return list(parts)


class Frozen:
    """Parts of a network that can be kept as they are: their weights, and the statistics of their normalisation layers.

    Args:
        net: the network.
        parts: names, such as ``["backbone", "head.fc6"]``.

    Raises:
        ValueError: a part that is not there, or nothing that could be trained is left. The message begins with
            ``freeze``.
    """

    def __init__(self, net: nn.Module, parts: Collection[str]) -> None:
        check_parts(net, parts, "freeze")

        def chosen(name: str) -> bool:
            return any(is_within(name, part) for part in parts)

        self.parameters = [parameter for name, parameter in net.named_parameters() if chosen(name)]
        # Dropout and the like have nothing to keep, and go on as before.
        self.modules = [
            module
            for name, module in net.named_modules()
            if chosen(name) and any(True for _ in (*module.parameters(False), *module.buffers(False)))
        ]
        if len(self.parameters) == len(list(net.parameters())):
            raise ValueError(f"freeze=[{','.join(parts)}]: nothing is left to train; leave out a part")

    def __len__(self) -> int:
        """How many numbers are frozen."""
        return sum(parameter.numel() for parameter in self.parameters)

    def require_gradients(self, required: bool) -> None:
        """Whether the weights get gradients."""
        for parameter in self.parameters:
            parameter.requires_grad_(required)

    def train(self, training: bool) -> None:
        """Whether normalisation layers go by the batch and gather statistics, or keep those that they have."""
        for module in self.modules:
            module.training = training


class Group(NamedTuple):
    """Parameters that share a learning rate and a weight decay."""

    name: str
    """The part or layer that they belong to; empty where the whole network has one rate."""
    scale: float
    """Their learning rate over the base rate."""
    vectors: bool
    """Whether they are biases and normalisation parameters, instead of weights."""
    parameters: list[nn.Parameter]


def parameter_groups(
    net: nn.Module, factors: Mapping[str, float] | None = None, layer_decay: float | None = None
) -> list[Group]:
    """The parameters of a network by what their learning rate is multiplied by.

    Args:
        net: the network.
        factors: parts and their factors; the longest name that fits a parameter counts, and without one the factor is 1.
        layer_decay: factor from each layer of the backbone to the one below it; the head's is 1 and the last layer's of
            the backbone ``layer_decay``, as in BEiT and timm.
    """
    factors = factors or {}
    layers = layer_names(net) if layer_decay is not None else {}
    order = [*dict.fromkeys(layers.values())]
    groups: dict[tuple[str, float, bool], Group] = {}
    for name, parameter in net.named_parameters():
        part = max((part for part in factors if is_within(name, part)), key=len, default="")
        scale = factors.get(part, 1.0)
        layer = layers.get(name, "")
        if layer_decay is not None and layer:
            scale *= layer_decay ** (len(order) - order.index(layer))
        rest = "others" if factors and layer_decay is None else "head" if layers else ""
        label = max(short_name(part), layer, key=len) or rest
        # Biases, and scale and shift of normalisation layers, are the vectors; everything else is a weight.
        vector = parameter.ndim <= 1
        # A part and a layer as timm counts them may overlap without one being within the other.
        group = groups.setdefault((label, scale, vector), Group(label, scale, vector, []))
        group.parameters.append(parameter)
    # Weights first, so that one rate for all gives the two groups that it always gave.
    return sorted(groups.values(), key=lambda group: group.vectors)


def layer_names(net: nn.Module) -> dict[str, str]:
    """Full names of the backbone's parameters, in order, to the layer that they belong to.

    A layer is a block (a residual block, an inverted residual), or a layer with weights and what follows it up to the
    next one. Containers are entered; a norm belongs to the layer before it. timm's networks say their layers themselves.
    """
    backbone = net.get_submodule("backbone")
    grouped = getattr(backbone, "layer_names", None)
    if grouped is not None:
        return {f"backbone.{name}": layer for name, layer in grouped().items()}
    found: dict[str, str] = {}
    layer = ""
    for prefix, module in blocks(backbone.get_submodule("layers"), "backbone.layers"):
        own = list(module.named_parameters(prefix))
        if any(parameter.ndim > 1 for _, parameter in own) or (own and not layer):
            layer = short_name(prefix)
        found.update(dict.fromkeys((name for name, _ in own), layer))
    return found


def blocks(module: nn.Module, prefix: str) -> list[tuple[str, nn.Module]]:
    """(name, module) of what a network consists of: its children, those that are sequences by their own."""
    children = list(module.named_children())
    if not children:
        return [(prefix, module)]
    found = []
    for name, child in children:
        sequence = type(child).forward is nn.Sequential.forward or isinstance(child, nn.ModuleList)
        if sequence:
            found += blocks(child, f"{prefix}.{name}") if len(child) else []  # type: ignore[arg-type]
        else:
            found.append((f"{prefix}.{name}", child))
    return found
