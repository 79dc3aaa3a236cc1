"""Loss and top-1 / top-5 error as exact counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from sppcls._util.figures import BINS, calibration_error, class_mean_error, macro_f1

# Confidences are summed as whole numbers of 2^-32, whose sum does not depend on the order of batches and processes.
_UNIT = 2.0**32


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


class ValidationCounter(ErrorCounter):
    """As :class:`ErrorCounter`, with what is worth knowing of uneven classes: class-mean error, macro F1 and expected
    calibration error.

    Args:
        num_classes: number of classes.
    """

    by_class: Tensor
    by_confidence: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        # Images, those taken for the class, and those of both.
        self.add_state("by_class", torch.zeros(3, num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        # Images, those that are right, and their confidences.
        self.add_state("by_confidence", torch.zeros(3, BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, target: Tensor, loss: Tensor, pixels: int = 0) -> None:
        super().update(logits, target, loss, pixels)
        logits = logits.float()
        # Of equal logits, the one that the top-1 error counts.
        answer = logits.topk(min(5, logits.shape[1]), dim=1).indices[:, 0]
        right = answer == target
        count = self.by_class.shape[1]
        of_class = [torch.bincount(labels, minlength=count) for labels in (target, answer, target[right])]
        self.by_class += torch.stack(of_class)
        confidence = logits.softmax(1).gather(1, answer[:, None])[:, 0].double()
        bins = ((confidence * BINS).ceil().long() - 1).clamp(0, BINS - 1)
        rows = torch.stack([torch.ones_like(bins), right.long(), (confidence * _UNIT).round().long()])
        self.by_confidence.index_add_(1, bins, rows)

    def compute(self) -> dict[str, float]:
        """As of :class:`ErrorCounter`, with ``class_mean_error``, ``f1`` and ``ece``, in per cent."""
        images, predicted, right = self.by_class.cpu().numpy()
        tested, hits, confidence = self.by_confidence.cpu().numpy()
        return {
            **super().compute(),
            "class_mean_error": class_mean_error(images, right),
            "f1": macro_f1(images, predicted, right),
            "ece": calibration_error(tested, hits, confidence / _UNIT),
        }
