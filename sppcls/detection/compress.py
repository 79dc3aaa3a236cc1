"""Quicker fully-connected layers: each as two thin ones, by truncated singular value decomposition (Girshick 2015, sec. 3.1).

With thousands of windows an image, fc6 and fc7 take most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier


@dataclass(frozen=True)
class Thin:
    """A layer that has become two.

    Attributes:
        name: of the layer, such as ``fc6``.
        rank: numbers between the two.
        energy: share of the squared singular values that is kept, 0 to 1.
        faster: multiplications before, over those after.
    """

    name: str
    rank: int
    energy: float
    faster: float

    def __str__(self) -> str:
        return f"{self.name} at rank {self.rank:,}: {100 * self.energy:.1f} % of the energy, {self.faster:.1f} times fewer products"


def compress_fc(net: SPPClassifier, svd: float) -> list[Thin]:
    """Replace hidden layers, in place, by the nearest ones of a rank; those that would not become quicker stay.

    Args:
        net: a network; its weights can no longer be saved as those of its architecture.
        svd: from 1 on the rank; below 1 the share of the energy, the sum of the squared singular values, that every
            layer keeps, by which it gets a rank of its own.

    Raises:
        ConfigError: neither, or no layer becomes quicker.
    """
    if not svd > 0 or (svd >= 1 and svd != int(svd)):
        raise ConfigError(
            f"svd {svd:g}: must be a rank of at least 1, or a share of the energy between 0 and 1"
        )
    replaced, most = [], 0
    for name, block in net.head.hidden.named_children():
        assert isinstance(block, nn.Sequential)
        whole = block[0]
        if not isinstance(whole, nn.Linear):
            continue
        rows, columns = whole.weight.shape
        most = max(most, rows * columns // (rows + columns))
        # The left singular vectors, from a matrix that is as small as the layer's output.
        weight = whole.weight.detach().double()
        energies, left = torch.linalg.eigh(weight @ weight.T)
        energies, left = energies.flip(0).clamp(min=0), left.flip(1)
        kept = energies.cumsum(0) / energies.sum()
        # A share that rounding keeps from being reached takes all.
        rank = int(svd) if svd >= 1 else min(rows, int((kept < svd).sum()) + 1)
        if rank * (rows + columns) >= rows * columns:
            continue
        first = nn.Linear(columns, rank, bias=False, device=whole.weight.device)
        second = nn.Linear(rank, rows, device=whole.weight.device)
        with torch.no_grad():
            first.weight.copy_(left[:, :rank].T @ weight)
            second.weight.copy_(left[:, :rank])
            second.bias.copy_(whole.bias)
        block[0] = nn.Sequential(first, second)
        faster = rows * columns / (rank * (rows + columns))
        replaced.append(Thin(name, rank, float(kept[rank - 1]), faster))
    if not replaced:
        raise ConfigError(
            f"svd {svd:g}: makes no layer of this network quicker; choose a rank below {most}, or less energy"
        )
    return replaced
