"""Quicker fully-connected layers: each as two thin ones, by truncated singular value decomposition (Girshick 2015, sec. 3.1).

With thousands of windows an image, fc6 and fc7 take most of the time.
"""

from __future__ import annotations

import torch
from torch import nn

from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier


def compress_fc(net: SPPClassifier, rank: int) -> list[str]:
    """Replace hidden layers, in place, by the nearest ones of a rank; those that would not become smaller stay.

    Args:
        net: a network; its weights can no longer be saved as those of its architecture.
        rank: numbers between the two layers that a layer becomes.

    Returns:
        names of the layers that were replaced.

    Raises:
        ConfigError: the rank is below 1.
    """
    if rank < 1:
        raise ConfigError(f"svd {rank}: must be at least 1")
    replaced = []
    for name, block in net.head.hidden.named_children():
        assert isinstance(block, nn.Sequential)
        whole = block[0]
        if not isinstance(whole, nn.Linear):
            continue
        rows, columns = whole.weight.shape
        if rank * (rows + columns) >= rows * columns or rank >= rows:
            continue
        # The left singular vectors, from a matrix that is as small as the layer's output.
        weight = whole.weight.detach().double()
        left = torch.linalg.eigh(weight @ weight.T)[1][:, -rank:]
        first = nn.Linear(columns, rank, bias=False, device=whole.weight.device)
        second = nn.Linear(rank, rows, device=whole.weight.device)
        with torch.no_grad():
            first.weight.copy_(left.T @ weight)
            second.weight.copy_(left)
            second.bias.copy_(whole.bias)
        block[0] = nn.Sequential(first, second)
        replaced.append(name)
    return replaced
