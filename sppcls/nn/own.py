"""Parts of a network that do not come with sppcls (:mod:`sppcls.registry`), and what is asked of them.

A backbone is a module that maps images (N, 3, H, W) of any size to feature maps (N, C, h, w). A pooling, in the config
group ``pyramid``, maps those to vectors (N, length); it may take ``in_channels``. A head maps the vectors to logits; it
takes ``in_features`` and ``num_classes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sppcls._util.reason import reason_with_line
from sppcls.nn.backbones import Backbone, as_backbone
from sppcls.nn.heads import Head, OwnHead
from sppcls.nn.init import input_scale
from sppcls.nn.weights import load_weights
from sppcls.registry import build, find, target_of


def own_backbone(settings: Mapping[str, Any]) -> Backbone:
    """A backbone of one's own, with the weights that ``weights`` names.

    Raises:
        ValueError: it gives no maps, takes only some sizes of images, or its weights do not fit.
    """
    module, what = _module("backbone", settings)
    trunk = as_backbone(module)
    weights = settings.get("weights")
    if weights == "DEFAULT":
        raise ValueError(f"backbone.weights='DEFAULT': {what} has no published weights; use null or a path")
    if weights is not None:
        trunk.weights = load_weights(trunk.layers, weights, f"backbone.weights={weights!r}")
    return trunk


def own_pooling(
    settings: Mapping[str, Any], trunk: Backbone, size: tuple[int, int]
) -> tuple[nn.Module, int, bool]:
    """A pooling of one's own, the length of its vector, and whether images of every size have that length.

    Raises:
        ValueError: it does not pool the map of an image of ``size`` to a vector.
    """
    pool, what = _module("pyramid", settings, in_channels=trunk.out_channels)
    rows, columns = trunk.feature_size(*size)
    if min(rows, columns) < 1:
        raise ValueError(f"input_size={size[0]}x{size[1]}: too small for {trunk.name}")
    lengths = []
    for h, w in ((rows, columns), (rows + 1, columns + 2)):
        pooled = _output(pool, torch.zeros(2, trunk.out_channels, h, w), what)
        if pooled.dim() != 2 or len(pooled) != 2:
            raise ValueError(
                f"{what}: must give vectors (N, length) of maps (N, C, h, w), not {tuple(pooled.shape)}"
            )
        lengths.append(int(pooled.shape[1]))
    return pool, lengths[0], lengths[0] == lengths[1]


def own_head(settings: Mapping[str, Any], in_features: int, num_classes: int, init: str) -> Head:
    """A head of one's own. It keeps its start; with ``modern`` its input is scaled as before a linear layer.

    Raises:
        ValueError: it does not give logits of pooled vectors.
    """
    module, what = _module("head", settings, in_features=in_features, num_classes=num_classes)
    logits = _output(module, torch.zeros(2, in_features), what)
    if tuple(logits.shape) != (2, num_classes):
        raise ValueError(
            f"{what}: must give logits (N, {num_classes}) of vectors (N, {in_features}), not {tuple(logits.shape)}"
        )
    head = module if isinstance(module, Head) else OwnHead(module)
    if init == "modern":
        head.input_scale.fill_(input_scale([], in_features, num_classes))
    return head


def _module(group: str, settings: Mapping[str, Any], **given: Any) -> tuple[nn.Module, str]:
    """A part, and what to call it in messages."""
    what = f"{group} {target_of(find(group, settings))}"
    module = build(group, settings, **given)
    if not isinstance(module, nn.Module):
        raise ValueError(f"{what}: gives a {type(module).__name__}, not a torch.nn.Module")
    return module, what


def _output(module: nn.Module, x: Tensor, what: str) -> Tensor:
    """What a module makes of an input, its statistics unchanged."""
    training = module.training
    try:
        with torch.no_grad():
            output = module.eval()(x)
    except Exception as error:  # other people's code
        raise ValueError(f"{what}: fails on {tuple(x.shape)}: {reason_with_line(error)}") from error
    finally:
        module.train(training)
    if not isinstance(output, Tensor):
        raise ValueError(f"{what}: gives a {type(output).__name__} instead of one tensor")
    return output
