"""Losses beside plain cross-entropy, as parts of the group ``loss`` (:mod:`sppcls.registry`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

    multi_label = False
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


@register("loss", "bce")
class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of each class, summed over the classes: for images with several labels, or none.

    The gradient of a logit is its probability minus its target, as with cross-entropy, so learning rates carry over.
    In evaluation mode no class is weighted.

    Args:
        class_weights: what a label counts more than its absence: balanced (images without it over images with it), numbers
            in the order of the classes, or {class: number}; null: as much.

    Raises:
        ConfigError: ``class_weights`` that are no numbers > 0.
    """

    multi_label = True

    def __init__(self, class_weights: Any = None) -> None:
        super().__init__()
        self.pos_weight: Tensor | None
        self.register_buffer("pos_weight", None if class_weights is None else torch.tensor(class_weights))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of each image (N,), of logits and targets in 0..1, both (N, classes)."""
        weight = self.pos_weight if self.training else None
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), target.float(), pos_weight=weight, reduction="none"
        )
        return losses.sum(1)


@register("loss", "asymmetric")
class Asymmetric(nn.Module):
    """Asymmetric loss (Ridnik et al. 2021, eq. 7), summed over the classes: for images with few of many labels.

    Classes that an image does not have, and that are easily told so, count less: with p the probability of a class, a
    label costs ``-(1 - p)^gamma_pos log p``, and its absence ``-q^gamma_neg log(1 - q)`` with ``q = max(p - clip, 0)``.
    In evaluation mode it is binary cross-entropy, so validation losses compare.

    Args:
        gamma_neg: focus on classes that are missing and hard; 0 is binary cross-entropy, but for the clip.
        gamma_pos: focus on labels that are hard.
        clip: probability up to which a missing class costs nothing.

    Raises:
        ConfigError: a gamma < 0, or a ``clip`` outside of [0, 1).
    """

    multi_label = True

    def __init__(self, gamma_neg: float = 4.0, gamma_pos: float = 0.0, clip: float = 0.05) -> None:
        super().__init__()
        for name, gamma in (("gamma_neg", gamma_neg), ("gamma_pos", gamma_pos)):
            if gamma < 0:
                raise ConfigError(f"loss.{name}={gamma:g}: must be >= 0")
        if not 0 <= clip < 1:
            raise ConfigError(f"loss.clip={clip:g}: must be >= 0 and < 1")
        self.gamma_neg, self.gamma_pos, self.clip = gamma_neg, gamma_pos, clip

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of each image (N,), of logits and targets in 0..1, both (N, classes)."""
        logits, target = logits.float(), target.float()
        if not self.training:
            return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
        # Not quite 0, where a power below 1 has no finite slope.
        missed = torch.sigmoid(-logits).clamp(min=_TINY)
        taken = (torch.sigmoid(logits) - self.clip).clamp(min=_TINY)
        absent = torch.log1p(-taken) if self.clip else F.logsigmoid(-logits)
        present = missed**self.gamma_pos * F.logsigmoid(logits)
        return -(target * present + (1 - target) * taken**self.gamma_neg * absent).sum(1)


_TINY = 1e-8
