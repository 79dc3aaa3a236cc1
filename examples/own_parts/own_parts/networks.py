"""A backbone: images (N, 3, H, W) of any size to maps (N, C, h, w). sppcls measures its channels and its stride."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from sppcls.registry import register


class _Block(nn.Module):
    """Depthwise 7 x 7, then two pointwise layers, around a shortcut (Liu et al. 2022)."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 7, padding=3, groups=width),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 2 * width, 1),
            nn.GELU() if activation == "gelu" else nn.ReLU(),
            nn.Conv2d(2 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


@register("backbone", "small_convnext")
class SmallConvNeXt(nn.Sequential):
    """A small ConvNeXt-like network with a stride of 16.

    Args:
        width: channels of the first stage; the second has twice as many.
        depth: blocks in each stage.
        activation: between the pointwise layers.
    """

    def __init__(self, width: int = 16, depth: int = 1, activation: Literal["gelu", "relu"] = "gelu") -> None:
        super().__init__(
            nn.Conv2d(3, width, 4, stride=4),
            *(_Block(width, activation) for _ in range(depth)),
            nn.Conv2d(width, 2 * width, 4, stride=4),
            *(_Block(2 * width, activation) for _ in range(depth)),
        )
