"""Losses beside plain cross-entropy, as parts of the group ``loss`` (:mod:`sppcls.registry`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sppcls.errors import ConfigError
from sppcls.registry import register


@register("loss", "logit_adjusted")
class LogitAdjusted(nn.Module):
    """Cross-entropy of logits that are raised by the log frequency of each class in training (Menon et al. 2021, eq. 10).

    A network that learns this way is right for all classes alike: its own logits minimise the class-mean error. In
    evaluation mode nothing is raised, so validation losses compare with those of plain cross-entropy.

    Args:
        class_counts: training images of each class, at least 1.
        tau: strength; 1 is the loss whose optimum has the lowest class-mean error, 0 is plain cross-entropy.
        label_smoothing: share of the target spread over all classes.

    Raises:
        ConfigError: ``tau`` < 0, ``label_smoothing`` outside of [0, 1), or a class without a training image.
    """

    log_prior: Tensor

    def __init__(self, class_counts: Sequence[int], tau: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if tau < 0:
            raise ConfigError(f"loss.tau={tau:g}: must be >= 0")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"loss.label_smoothing={label_smoothing:g}: must be >= 0 and < 1")
        if not all(class_counts):
            raise ConfigError("loss=logit_adjusted: a class has no training image, so it has no frequency")
        counts = torch.tensor(class_counts, dtype=torch.float64)
        self.tau, self.label_smoothing = tau, label_smoothing
        self.register_buffer("log_prior", (counts / counts.sum()).log().float())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of each image (N,), of logits (N, classes) and class numbers (N,) or shares (N, classes)."""
        logits = logits.float()
        if not self.training:
            return F.cross_entropy(logits, target, reduction="none")
        adjusted = logits + self.tau * self.log_prior
        return F.cross_entropy(adjusted, target, label_smoothing=self.label_smoothing, reduction="none")
