"""Several networks as one, whose probabilities are the mean of theirs (He et al. 2015, Table 5: eleven networks)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from sppcls.nn.backbones import Backbone
from sppcls.nn.classifier import SPPClassifier
from sppcls.nn.heads import OwnHead


@dataclass(frozen=True)
class Reading:
    """How the ensemble's input and classes become those of a member.

    Attributes:
        scale, shift: three numbers each; the member's input is ``x * scale + shift``.
        order: the member's number of each class of the ensemble.
    """

    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)
    order: tuple[int, ...] | None = None

    def input(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) as the member wants them normalised."""
        if self == Reading(order=self.order):
            return x
        scale, shift = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (self.scale, self.shift))
        return x * scale + shift

    def scores(self, scores: Tensor) -> Tensor:
        """(N, classes) in the ensemble's order."""
        return scores if self.order is None else scores[:, list(self.order)]


class Ensemble(SPPClassifier):
    """The mean of several networks' probabilities; its logits are the logarithms of these means.

    It is used as a network is: predicted with, tested with crops and whole images, exported. The members keep what they
    are; there is no feature map that they share, so windows and layers belong to each alone.

    Args:
        members: networks of the same classes, in any order.
        readings: for each member; None: inputs and classes are the same for all.
        fixed_size: the only (height, width) of images, where a member takes no other; None if any size will do.
        multi_label: whether an image may have several labels: probabilities are the sigmoid of each logit, not softmax.
    """

    def __init__(
        self,
        members: Sequence[SPPClassifier],
        readings: Sequence[Reading] | None = None,
        fixed_size: tuple[int, int] | None = None,
        multi_label: bool = False,
    ) -> None:
        name = f"ensemble of {len(members)}"
        stride = max(member.backbone.stride for member in members)
        trunk = Backbone(name, nn.ModuleList(members), 0, stride, nn.Identity())
        super().__init__(trunk, nn.Identity(), OwnHead(nn.Identity()), fixed_size)
        self.multi_label = multi_label
        self.readings = [Reading()] * len(members) if readings is None else list(readings)

    @property
    def members(self) -> list[SPPClassifier]:
        """The networks."""
        return [cast(SPPClassifier, member) for member in cast(nn.ModuleList, self.backbone.layers)]

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, classes): pooling and head are the members' own."""
        logits = [
            reading.scores(member(reading.input(x)))
            for member, reading in zip(self.members, self.readings, strict=True)
        ]
        return logit_mean_sigmoid(logits) if self.multi_label else log_mean_softmax(logits)

    def _problem(self, height: int, width: int) -> str | None:
        if self.fixed_size is not None and (height, width) != self.fixed_size:
            return super()._problem(height, width)
        return next(filter(None, (member._problem(height, width) for member in self.members)), None)


def log_mean_softmax(logits: Sequence[Tensor]) -> Tensor:
    """Logarithm of the mean of the softmax of several logits (N, classes), without underflow."""
    return torch.stack([one.log_softmax(1) for one in logits]).logsumexp(0) - math.log(len(logits))


def logit_mean_sigmoid(logits: Sequence[Tensor]) -> Tensor:
    """Logit of the mean of the sigmoid of several logits (N, classes), without underflow."""
    stacked = torch.stack(list(logits))
    return nn.functional.logsigmoid(stacked).logsumexp(0) - nn.functional.logsigmoid(-stacked).logsumexp(0)
