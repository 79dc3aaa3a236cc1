"""What follows the pooling: fully-connected layers, one linear layer, or 1x1 convolutions on the map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """Named layers in order, hidden ones first.

    Attributes:
        hidden: (name, block) of each hidden layer with its ReLU and dropout; ``fc6``, ``fc7``, ...
        last: the layer that gives the logits.
        input_scale: a fixed number () that the input is multiplied by; 1 unless :func:`~sppcls.nn.init.init_head`
            sets another. It is saved with the weights, and 1 where a file has none.
        takes_maps: whether the input is a feature map (N, C, h, w), with ``logits_map``, instead of a vector.
    """

    input_scale: Tensor
    takes_maps = False

    def __init__(self, hidden: Sequence[nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            OrderedDict((f"fc{number}", block) for number, block in enumerate(hidden, start=6))
        )
        self.last = last
        self.register_buffer("input_scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Pooled vectors (N, length) to logits (N, classes)."""
        return self.last(self.hidden(x * self.input_scale))

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        """The output of every hidden layer by name (after ReLU and dropout), then ``logits``."""
        outputs: dict[str, Tensor] = {}
        x = x * self.input_scale
        for name, block in self.hidden.named_children():
            x = outputs[name] = block(x)
        outputs["logits"] = self.last(x)
        return outputs

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # Of a head that was saved before there was a scale; a backbone alone says nothing of the head's.
        if any(name.startswith((f"{prefix}hidden.", f"{prefix}last.")) for name in state_dict):
            state_dict.setdefault(f"{prefix}input_scale", torch.ones(()))
        super()._load_from_state_dict(state_dict, prefix, *args)


class FCHead(Head):
    """fc6, fc7, ... each with ReLU and dropout, then the classes (He et al. 2015, sec. 3.1).

    Without hidden layers it is one linear layer.

    Args:
        in_features: length of the pooled vector.
        hidden: widths of the hidden layers; the paper has [4096, 4096].
        num_classes: number of logits.
        dropout: probability to drop a hidden unit while training.
    """

    def __init__(
        self, in_features: int, hidden: Sequence[int], num_classes: int, dropout: float = 0.5
    ) -> None:
        widths = [in_features, *hidden]
        blocks = [
            nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU(inplace=True), nn.Dropout(dropout))
            for n_in, n_out in zip(widths, hidden, strict=False)
        ]
        super().__init__(blocks, nn.Linear(widths[-1], num_classes))


class OwnHead(Head):
    """Any module as a head: pooled vectors (N, length) to logits (N, classes), without hidden layers to look into.

    Args:
        module: the layers, with a start of their own.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__([], module)


class ConvHead(Head):
    """The same layers as 1x1 convolutions on the map (N, C, h, w); logits are averaged over its positions.

    Takes a map of any size without pooling it first: the fully-convolutional alternative to a pyramid.
    """

    takes_maps = True

    def __init__(
        self, in_channels: int, hidden: Sequence[int], num_classes: int, dropout: float = 0.5
    ) -> None:
        widths = [in_channels, *hidden]
        blocks = [
            nn.Sequential(nn.Conv2d(n_in, n_out, 1), nn.ReLU(inplace=True), nn.Dropout(dropout))
            for n_in, n_out in zip(widths, hidden, strict=False)
        ]
        super().__init__(blocks, nn.Conv2d(widths[-1], num_classes, 1))

    def logits_map(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to logits at each position (N, classes, h, w)."""
        return super().forward(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to logits (N, classes)."""
        return self.logits_map(x).mean((2, 3))

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        """As for every head; hidden outputs are maps."""
        outputs = super().activations(x)
        outputs["logits"] = outputs["logits"].mean((2, 3))
        return outputs
