"""A quarter of ResNet-18's channels, as a backbone of sppcls: plugins=[narrow] backbone.name=narrow_resnet18."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock

from sppcls.registry import register


@register("backbone", "narrow_resnet18")
class NarrowResNet18(nn.Sequential):
    """ResNet-18 (He et al. 2016, Table 1) up to its global pooling: stride 32, ``8 * width`` channels.

    Args:
        width: channels of the first stage; ResNet-18 has 64.
    """

    def __init__(self, width: int = 16) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        channels = width
        for stage in range(4):
            wanted, stride = width << stage, 1 if stage == 0 else 2
            shortcut = None
            if stride != 1:
                shortcut = nn.Sequential(
                    nn.Conv2d(channels, wanted, 1, stride=stride, bias=False), nn.BatchNorm2d(wanted)
                )
            layers += [BasicBlock(channels, wanted, stride, shortcut), BasicBlock(wanted, wanted)]
            channels = wanted
        super().__init__(*layers)
