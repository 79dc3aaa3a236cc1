"""How weights start: as the paper's networks did, or as is usual today."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from sppcls.nn.heads import Head

# Convolutions (counted from 1) whose bias starts at 1 instead of 0: in ZF-5 as in the authors' released
# model, in the other networks as in AlexNet, whose training the paper follows.
_ONES = (2, 4, 5)

_LAST_STD = 0.01

# Inputs of a linear head, for each class, from which on its vector is scaled down. At equal probabilities the curvature
# of the cross-entropy is the squared length of the vector over the number of classes; SGD with a momentum of 0.9 bears
# a rate times curvature of 3.8. Values around 1 and a rate of 0.01 come to 0.5, which leaves room for larger ones.
_INPUTS_PER_CLASS = 50


def init_backbone(layers: nn.Module, init: str) -> None:
    """Initialise the convolutions of one of the paper's networks; batch normalisation keeps torch's start.

    ``paper``: weights N(0, 0.01), biases 0 or 1. ``modern``: He initialisation (fan-in, ReLU), biases 0.
    """
    convs = [module for module in layers.modules() if isinstance(module, nn.Conv2d)]
    for number, conv in enumerate(convs, start=1):
        if init == "paper":
            nn.init.normal_(conv.weight, std=0.01)
        else:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.constant_(conv.bias, 1.0 if init == "paper" and number in _ONES else 0.0)


def init_head(head: Head, init: str, name: str) -> None:
    """Initialise a head.

    ``paper``: weights N(0, 0.01), biases 1 in hidden layers (and in the last one of ZF-5, as in the authors'
    released model), else 0. ``modern``: hidden layers as in the backbone; the last layer N(0, 0.01), so that
    training starts near equal probabilities; and the head's input is scaled by :func:`input_scale`.
    """
    layers = [module for module in head.hidden.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    for layer in layers:
        if init == "paper":
            nn.init.normal_(layer.weight, std=0.01)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        assert layer.bias is not None
        nn.init.constant_(layer.bias, 1.0 if init == "paper" else 0.0)
    last = head.last
    assert isinstance(last, (nn.Linear, nn.Conv2d))
    assert last.bias is not None
    nn.init.normal_(last.weight, std=_LAST_STD)
    nn.init.constant_(last.bias, 1.0 if init == "paper" and name == "zf5" else 0.0)
    inputs = [layer.weight[0].numel() for layer in layers]
    scale = input_scale(inputs, last.weight[0].numel(), last.weight.shape[0])
    head.input_scale.fill_(1.0 if init == "paper" else scale)


def input_scale(hidden: Sequence[int], last: int, num_classes: int) -> float:
    """What a head's input is multiplied by, at most 1: sqrt(50 classes / n), n being the inputs of a linear head.

    Then neither the logits nor their change by a step grow with the number of bins (Jacot et al. 2018, "NTK
    parametrization"; Karras et al. 2018, "equalized learning rate"). He initialisation hands the mean square of
    the values on, so the last of several layers has ``n`` inputs of the same size. What a step in a hidden layer
    does to a logit comes through the last one's weights: there its inputs count times their squared norm.

    Args:
        hidden: number of inputs of each hidden layer.
        last: number of inputs of the last layer.
        num_classes: number of logits.
    """
    through = [inputs * last * _LAST_STD**2 for inputs in hidden]
    return min(1.0, math.sqrt(_INPUTS_PER_CLASS * num_classes / max(last, *through, 1)))
