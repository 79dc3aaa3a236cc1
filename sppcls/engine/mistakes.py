"""What one validation got wrong: the confusion matrix and the samples with the largest loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from sppcls.nn.model_info import ranked

MAX_CLASSES = 2000  # a confusion matrix of more classes is neither readable nor small
WORST = 16


class Mistake(NamedTuple):
    """One misclassified validation image."""

    image: int
    target: int
    predicted: int
    loss: float


class Mistakes(Metric):
    """Confusion matrix (true x predicted, counts) and the worst mistakes of a validation, over all processes.

    Args:
        num_classes: above ``MAX_CLASSES`` only the worst mistakes are kept; 0: nothing is counted.
    """

    full_state_update = False
    confusion: Tensor
    worst: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        side = num_classes if num_classes <= MAX_CLASSES else 0
        self.add_state("confusion", torch.zeros(side, side, dtype=torch.int64), dist_reduce_fx="sum")
        # Rows of (loss, index, target, predicted); float64 holds every index exactly.
        self.add_state("worst", torch.full((WORST, 4), -1.0, dtype=torch.float64), dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor, loss: Tensor, index: Tensor) -> None:
        """Take one batch: ``logits`` (N, classes) and, per sample, class, loss and position in the data set."""
        predicted = ranked(logits, 1)[:, 0]
        if self.confusion.numel():
            cells = torch.bincount(target * self.num_classes + predicted, minlength=self.num_classes**2)
            self.confusion += cells.view_as(self.confusion)
        wrong = predicted != target
        rows = torch.stack([loss.double(), index.double(), target.double(), predicted.double()], dim=1)[wrong]
        rows = torch.cat([self.worst, rows])
        self.worst = rows[rows[:, 0].argsort(descending=True, stable=True)[:WORST]]

    def compute(self) -> tuple[Tensor, list[Mistake]]:
        """The confusion matrix, (classes, classes) or (0, 0), and the worst mistakes, largest loss first."""
        # Several processes come together as (processes, WORST, 4).
        worst_rows = self.worst.reshape(-1, 4)
        rows = worst_rows[worst_rows[:, 1] >= 0].tolist()
        rows.sort(key=lambda row: (-row[0], row[1]))
        worst = [Mistake(int(row[1]), int(row[2]), int(row[3]), row[0]) for row in rows[:WORST]]
        return self.confusion.cpu(), worst
