"""Gradient checkpointing: less memory in training for a second forward pass through the backbone (Chen et al. 2016)."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sppcls.nn.backbones import Backbone
from sppcls.nn.parts import blocks


def recompute_backbone(backbone: Backbone) -> None:
    """Let a backbone keep only the inputs of its blocks in training, and compute the rest again for the gradient.

    Loss, gradients and statistics stay the same, bit for bit: batch normalisation counts a batch once, and dropout draws
    again what it drew. timm's networks do it in their own way.

    Raises:
        ValueError: its layers are no sequence, or they are timm's and cannot do it, or would count each batch twice.
    """
    key = "gradient_checkpointing=true"
    layers = backbone.layers
    if type(layers).forward is nn.Sequential.forward:
        backbone.segments = _segments(layers)
        return
    switch = getattr(layers, "set_grad_checkpointing", None)
    if switch is None:
        raise ValueError(f"{key}: the layers of {backbone.name} are no sequence; type false")
    if any(isinstance(module, _BatchNorm) for module in layers.modules()):
        raise ValueError(
            f"{key}: timm would count each batch twice in the batch norm of {backbone.name}; type false"
        )
    try:
        switch(True)
    except (AssertionError, AttributeError, TypeError) as error:
        raise ValueError(f"{key}: timm cannot do it for {backbone.name}; type false") from error


def _segments(layers: nn.Module) -> list[list[nn.Module]]:
    """The blocks of a sequence, each with what follows it up to the next one with weights."""
    segments: list[list[nn.Module]] = [[]]
    for _, module in blocks(layers, ""):
        if segments[-1] and any(parameter.ndim > 1 for parameter in module.parameters()):
            segments.append([])
        segments[-1].append(module)
    return segments
