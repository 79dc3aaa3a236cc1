"""Config keys of the network: backbone, pyramid and head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sppcls.config.key import documented, key
from sppcls.registry import BACKBONES, BIN_RULES, HEADS, NORMS, POOL_MODES


@documented
@dataclass
class BackboneConfig:
    """Convolutional layers up to the last one before pooling.

    Args:
        name: network
        width: multiplier of the number of channels (paper's networks)
        norm: normalisation (paper's networks)
        weights: null, DEFAULT (torchvision's or timm's own), or a state_dict or .ckpt file
        model: timm model name (backbone=timm)
        drop_path_rate: stochastic depth at the last block (convnext, efficientnet, timm); null: the network's own
    """

    name: str = key(choices=BACKBONES, changes="state")
    width: float | None = key(None, above=0, changes="state")
    norm: str | None = key(None, choices=(*NORMS, None), changes="state")
    weights: str | None = key(None)
    model: str | None = key(None, changes="state")
    drop_path_rate: float | None = key(None, low=0, high=0.99)


@documented
@dataclass
class PyramidConfig:
    """The spatial pyramid pooling layer (He et al. 2015, sec. 2.2).

    Args:
        levels: bins per side of each level, N or [h, w]; null: no SPP, the net's own last pooling
        mode: what a bin keeps
        bin_rule: rule that divides the map into bins
    """

    levels: list[Any] | None = key(changes="state")
    mode: str = key("max", choices=POOL_MODES, changes="state")
    bin_rule: str = key("adaptive", choices=BIN_RULES, changes="state")


@documented
@dataclass
class HeadConfig:
    """From pooled vector to class scores.

    Args:
        name: classifier
        hidden: widths of the hidden layers (fc6, fc7)
        dropout: dropout on every hidden layer
    """

    name: str = key(choices=HEADS, changes="state")
    hidden: list[int] = key([], changes="state")
    dropout: float = key(0.0, low=0, high=0.99)
