"""Loss and top-1 / top-5 error as exact counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class ErrorCounter(Metric):
    """Mean loss and top-1 / top-5 error, in per cent, over all samples (micro average) and all processes.

    Keeps sums, not means of batches, so batches of different sizes and an uneven share per process give the exact
    figure. With at most five classes the top-5 error is 0 by definition. Ties count as ``torch.topk`` breaks them.
    """

    full_state_update = False
    _COUNTS = ("wrong1", "wrong5", "total", "pixels")
    loss_sum: Tensor
    wrong1: Tensor
    wrong5: Tensor
    total: Tensor
    pixels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("loss_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in self._COUNTS:
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor, loss: Tensor, pixels: int = 0) -> None:
        """Count one batch: ``logits`` (N, classes), ``target`` (N,) class numbers, ``loss`` (N,) per sample, and the
        ``pixels`` of one image."""
        ranked = logits.float().topk(min(5, logits.shape[1]), dim=1).indices
        hits = ranked == target[:, None]
        self.wrong1 += (~hits[:, 0]).sum()
        self.wrong5 += (~hits.any(dim=1)).sum()
        self.loss_sum += loss.double().sum()
        self.total += target.numel()
        self.pixels += target.numel() * pixels

    def compute(self) -> dict[str, float]:
        """``{"loss", "top1_error", "top5_error", "images", "pixels"}``; errors in per cent. NaN where nothing was
        counted."""
        total = int(self.total)
        share = 1 / total if total else float("nan")
        return {
            "loss": float(self.loss_sum) * share,
            "top1_error": 100 * int(self.wrong1) * share,
            "top5_error": 100 * int(self.wrong5) * share,
            "images": total,
            "pixels": int(self.pixels),
        }

    def counts(self) -> Tensor:
        """What this process has counted, float64 (5,), to be summed over processes and kept in a checkpoint."""
        return torch.stack([self.loss_sum, *(getattr(self, name).double() for name in self._COUNTS)])

    def set_counts(self, counts: list[float]) -> None:
        """Go on from :meth:`counts`."""
        self.loss_sum = self.loss_sum.new_tensor(counts[0])
        for name, count in zip(self._COUNTS, counts[1:], strict=True):
            setattr(self, name, getattr(self, name).new_tensor(int(count)))
