"""Loss and top-1 / top-5 error as exact counts."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from sppcls._util.figures import BINS, calibration_error, class_mean_error, macro_f1, of_label_sets
from sppcls.nn.model_info import ranked

# Confidences are summed as whole numbers of 2^-32, whose sum does not depend on the order of batches and processes.
_UNIT = 2.0**32


class ErrorCounter(Metric):
    """Mean loss and top-1 / top-5 error, in per cent, over all samples (micro average) and all processes.

    Keeps sums, not means of batches, so batches of different sizes and an uneven share per process give the exact
    figure. With at most five classes the top-5 error is 0 by definition. Ties count as :func:`~sppcls.nn.model_info.ranked` breaks them.
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
        self._count(logits, target)
        self.loss_sum += loss.double().sum()
        self.total += len(target)
        self.pixels += len(target) * pixels

    def _count(self, logits: Tensor, target: Tensor) -> None:
        hits = ranked(logits.float(), 5) == target[:, None]
        self.wrong1 += (~hits[:, 0]).sum()
        self.wrong5 += (~hits.any(dim=1)).sum()

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
        answer = ranked(logits, 1)[:, 0]
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


class LabelCounter(ErrorCounter):
    """As :class:`ErrorCounter`, of images with several labels: mean loss, exact-match error and label error, in per cent.

    Targets are (N, classes). ``wrong1`` counts images with a wrong answer in any class, ``wrong5`` wrong answers.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def _count(self, logits: Tensor, target: Tensor) -> None:
        # Of mixed images, what has the larger share; a logit of 0 is a probability of THRESHOLD.
        wrong = (logits >= 0) != (target >= 0.5)
        self.wrong1 += wrong.any(dim=1).sum()
        self.wrong5 += wrong.sum()

    def compute(self) -> dict[str, float]:
        """``{"loss", "exact_match_error", "label_error", "images", "pixels"}``; NaN where nothing was counted."""
        found = super().compute()
        return {
            "loss": found["loss"],
            "exact_match_error": found["top1_error"],
            "label_error": found["top5_error"] / self.num_classes,
            "images": found["images"],
            "pixels": found["pixels"],
        }


class LabelValidationCounter(LabelCounter):
    """As :class:`LabelCounter`, with the mean average precision, for which every score is kept until it is reset, and the
    macro and micro F1: see :func:`~sppcls._util.figures.of_label_sets`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self._rows: list[tuple[np.ndarray, np.ndarray]] = []

    def update(self, logits: Tensor, target: Tensor, loss: Tensor, pixels: int = 0) -> None:
        super().update(logits, target, loss, pixels)
        self._rows.append((logits.float().cpu().numpy(), target.cpu().numpy() >= 0.5))

    def compute(self) -> dict[str, float]:
        """As of :class:`LabelCounter`, with ``map_error``, ``f1`` and ``micro_f1``, in per cent."""
        empty = np.zeros((0, self.num_classes))
        scores, truth = (
            np.concatenate([empty, *(row[place] for row in self._all_rows())]) for place in range(2)
        )
        return {**super().compute(), **of_label_sets(scores, truth.astype(bool))}

    def reset(self) -> None:
        super().reset()
        self._rows = []

    def _all_rows(self) -> list[tuple[np.ndarray, np.ndarray]]:
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return self._rows
        parts: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(parts, self._rows)
        return [row for part in parts for row in part]
