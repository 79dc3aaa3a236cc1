"""A pooling: maps (N, C, h, w) to vectors (N, length) of one length. It may have weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sppcls.nn import SpatialPyramidPooling2d
from sppcls.registry import register


@register("pyramid", "gem")
class GeMPyramid(nn.Module):
    """Generalised mean (Radenović et al. 2018) over the bins of a pyramid, with a learned power.

    Args:
        levels: bins per side of each level.
        p: power at the start; 1 is the mean, a large one nears the maximum.
    """

    def __init__(self, levels: Sequence[int] = (2, 1), p: float = 3.0) -> None:
        super().__init__()
        self.mean = SpatialPyramidPooling2d(levels, mode="avg")
        self.p = nn.Parameter(torch.tensor(p))

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(x.clamp(min=1e-6) ** self.p) ** (1 / self.p)
