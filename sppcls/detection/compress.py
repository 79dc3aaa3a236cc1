"""Quicker fully-connected layers: each as two thin ones, by truncated singular value decomposition (Girshick 2015, sec. 3.1).

With thousands of windows an image, fc6 and fc7 take most of the time. Of all layers of a rank, Girshick takes the one
whose *weights* are nearest. Here it is the one whose *outputs* on windows of training images are, for which the detector keeps
their mean and covariance: pooled vectors have far fewer directions than weights have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sppcls.detection.pooled import POOLED
from sppcls.detection.window_set import WindowSet
from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier


@dataclass(frozen=True)
class Thin:
    """A layer that has become two.

    Attributes:
        name: of the layer, such as ``fc6``.
        rank: numbers between the two.
        energy: share of the variance of its outputs that is kept, 0 to 1; without outputs, of the squared singular values
            of its weights.
        faster: multiplications before, over those after.
    """

    name: str
    rank: int
    energy: float
    faster: float

    def __str__(self) -> str:
        return f"{self.name} at rank {self.rank:,}: {100 * self.energy:.1f} % of the energy, {self.faster:.1f} times fewer products"


@dataclass(frozen=True)
class Outputs:
    """What a layer gives for windows of training images, before its ReLU.

    Attributes:
        mean: float32 (n,).
        covariance: float32 (n, n).
    """

    mean: Tensor
    covariance: Tensor


def outputs_of(windows: WindowSet, layer: str, seed: int = 0) -> dict[str, Outputs]:
    """Outputs of the hidden layers up to ``layer``, on a sample of windows."""
    head = windows.regions.net.head
    names = [name for name, _ in head.hidden.named_children()]
    names = names[: names.index(layer) + 1] if layer != POOLED else []
    total = 0
    sums: dict[str, Any] = dict.fromkeys(names, 0.0)
    products: dict[str, Any] = dict.fromkeys(names, 0.0)
    for index, rows in windows.sample(np.random.default_rng([seed, 30])) if names else []:
        x = windows.pooled(index, rows)
        total += len(x)
        with torch.inference_mode():
            x = x * head.input_scale
            for name in names:
                block = head.hidden.get_submodule(name)
                y = block[0](x)  # type: ignore[index]
                sums[name] += y.sum(0).double()
                products[name] += (y.T @ y).double()
                x = block(x)
    found = {}
    for name in names:
        mean = sums[name] / max(1, total)
        covariance = products[name] / max(1, total) - torch.outer(mean, mean)
        found[name] = Outputs(mean.float().cpu(), covariance.float().cpu())
    return found


def compress_fc(net: SPPClassifier, svd: float, outputs: Mapping[str, Outputs] | None = None) -> list[Thin]:
    """Replace hidden layers, in place, by the nearest ones of a rank; those that would not become quicker stay.

    Args:
        net: a network; its weights can no longer be saved as those of its architecture.
        svd: from 1 on the rank; below 1 the share of the energy that every layer keeps, by which it gets a rank of its
            own: see :class:`Thin`.
        outputs: of the layers by name; a layer without any is compressed by its weights alone.

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
        # The left singular vectors of the outputs or of the weights, from a matrix that is as small as the layer's output.
        weight, bias = whole.weight.detach().double(), whole.bias.detach().double()
        known = (outputs or {}).get(name)
        squares = weight @ weight.T if known is None else known.covariance.to(weight)
        mean = bias if known is None else known.mean.to(weight)
        energies, left = torch.linalg.eigh(squares)
        energies, left = energies.flip(0).clamp(min=0), left.flip(1)
        kept = energies.cumsum(0) / energies.sum()
        # A share that rounding keeps from being reached takes all.
        rank = int(svd) if svd >= 1 else min(rows, int((kept < svd).sum()) + 1)
        if rank * (rows + columns) >= rows * columns:
            continue
        first = nn.Linear(columns, rank, bias=False, device=whole.weight.device)
        second = nn.Linear(rank, rows, device=whole.weight.device)
        kept_ones = left[:, :rank]
        with torch.no_grad():
            first.weight.copy_(kept_ones.T @ weight)
            second.weight.copy_(kept_ones)
            # An output becomes its mean, and what of its distance from that lies in the directions kept.
            second.bias.copy_(mean + kept_ones @ (kept_ones.T @ (bias - mean)))
        block[0] = nn.Sequential(first, second)
        faster = rows * columns / (rank * (rows + columns))
        replaced.append(Thin(name, rank, float(kept[rank - 1]), faster))
    if not replaced:
        raise ConfigError(
            f"svd {svd:g}: makes no layer of this network quicker; choose a rank below {most}, or less energy"
        )
    return replaced
