"""The layers of a network whose outputs serve as features, under the names of the paper's Tables 6 and 7.

``conv1``, ``conv2``, ...
    the map of a convolution after its ReLU (the paper's networks); the last one is ``map``.
``map``
    the last feature map.
``level6``, ``level3x4``, ...
    one level of the pyramid: 6 x 6 bins, 3 rows of 4 bins.
``spp``
    the whole pyramid, what the head takes. ``pool`` for a network without a pyramid: its last pooling.
``fc6``, ``fc7``, ...
    hidden layers after their ReLU.
``logits``
    the scores of the classes.

Maps have as many cells as the image makes them, so they are vectors of one length only for images of one size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sppcls.data.sizes import Size
from sppcls.errors import ConfigError
from sppcls.nn import Ensemble, SpatialPyramidPooling2d, SPPClassifier


def layer_names(net: SPPClassifier) -> list[str]:
    """The layers of a network, from the image to the classes.

    Raises:
        ConfigError: it is an ensemble.
    """
    if isinstance(net, Ensemble):
        raise ConfigError("an ensemble has no layers of its own; take one of its networks")
    return [*map_layers(net), *(name for name in _after_map(net) if name not in map_layers(net))]


def map_layers(net: SPPClassifier) -> list[str]:
    """The layers among :func:`layer_names` that are maps: their length follows the size of the image."""
    # A fully-convolutional head has hidden layers, but no vectors before the logits.
    hidden = _hidden(net) if net.head.takes_maps else []
    return [*_convolutions(net), "map", *hidden]


def last_map(net: SPPClassifier) -> str:
    """What the paper would call the last feature map: ``conv5`` of ZF-5; ``map`` of other networks."""
    return ["map", *_convolutions(net)][-1]


def check_layers(net: SPPClassifier, layers: Sequence[str], view: str) -> None:
    """Refuse layers that the network has not, or that have no fixed length.

    Args:
        net: the network.
        layers: names.
        view: ``full`` for images of any size, ``crop`` for images of one.

    Raises:
        ConfigError: naming the layer, the reason and what may be chosen instead.
    """
    names, maps = layer_names(net), map_layers(net)
    for layer in layers:
        if layer not in names:
            raise ConfigError(f"layer {layer!r}: this network has {', '.join(names)}")
        if view == "full" and layer in maps:
            vectors = ", ".join(name for name in names if name not in maps)
            raise ConfigError(
                f"layer {layer!r} of whole images: maps of images of many sizes are vectors of many lengths; take view crop, "
                f"or one of {vectors}"
            )


def repeated_levels(net: SPPClassifier, size: Size) -> str:
    """A line about the levels with more bins than the map of a (height, width) image has cells; empty if none."""
    if not isinstance(net.pool, SpatialPyramidPooling2d):
        return ""
    cells = net.backbone.feature_size(*size)
    larger = ", ".join(dict.fromkeys(map(_level_name, net.pool.pyramid.larger_than(cells))))
    if not larger:
        return ""
    return (
        f"a {size[0]}x{size[1]} image has a map of {cells[0]}x{cells[1]} cells; bins of {larger} repeat cells"
    )


def layer_lengths(net: SPPClassifier, layers: Sequence[str], size: Size) -> dict[str, int]:
    """Length of the vector of each layer, for a (height, width) image."""
    device = next(net.parameters()).device
    with torch.inference_mode():
        outputs = read_layers(net, torch.zeros(1, 3, *size, device=device), layers)
    return {layer: output.shape[1] for layer, output in outputs.items()}


def read_layers(net: SPPClassifier, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Outputs of some layers for images (N, 3, H, W), in one pass: (N, length) each.

    Maps and levels are ordered by channel, row, column. Nothing beyond the last layer asked for is computed.
    """
    with _kept_convolutions(net, layers) as outputs:
        outputs["map"] = feature_map = net.forward_features(x)
    if any(layer in _after_map(net) for layer in layers):
        pooled = net.forward_pool(feature_map)
        outputs |= _levels(net, pooled)
        if any(layer in _head(net) for layer in layers):
            outputs |= net.head.activations(pooled)
    return {layer: outputs[layer].flatten(1) for layer in layers}


@contextmanager
def _kept_convolutions(net: SPPClassifier, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the convolutions among ``layers`` give while the network runs, after their ReLU."""
    outputs: dict[str, Tensor] = {}
    handles = []
    for name in set(layers) & set(_convolutions(net)):
        relu = net.backbone.layers.get_submodule(name.replace("conv", "relu"))

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            outputs[name] = output

        handles.append(relu.register_forward_hook(keep))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _levels(net: SPPClassifier, pooled: Tensor) -> dict[str, Tensor]:
    """The whole pooled vector and, of a pyramid, each level's part of it."""
    if not isinstance(net.pool, SpatialPyramidPooling2d):
        return {"pool": pooled}
    pyramid = net.pool.pyramid
    parts = zip(pyramid.levels, pyramid.level_slices(net.backbone.out_channels), strict=True)
    return {_level_name(level): pooled[:, part] for level, part in parts} | {"spp": pooled}


def _level_name(level: tuple[int, int]) -> str:
    return f"level{level[0]}" if level[0] == level[1] else f"level{level[0]}x{level[1]}"


def _after_map(net: SPPClassifier) -> list[str]:
    if isinstance(net.pool, SpatialPyramidPooling2d):
        # A level that the pyramid has twice is one layer: both are equal.
        return [*dict.fromkeys(map(_level_name, net.pool.pyramid.levels)), "spp", *_head(net)]
    return _head(net) if net.head.takes_maps else ["pool", *_head(net)]


def _head(net: SPPClassifier) -> list[str]:
    return [*_hidden(net), "logits"]


def _hidden(net: SPPClassifier) -> list[str]:
    return [name for name, _ in net.head.hidden.named_children()]


def _convolutions(net: SPPClassifier) -> list[str]:
    """``conv1``, ... of a trunk whose layers are numbered, as those of the paper's networks are."""
    return list(net.backbone.convolutions)
