"""Exponential moving average of the weights, for :class:`torch.optim.swa_utils.AveragedModel`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def ema_with_warmup(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Averaging rule with a decay of ``min(decay, (1 + n) / (10 + n))`` after ``n`` updates.

    Without the warm-up a short run would mostly average its own beginning: 0.999 over 500 steps leaves 60 % of it.
    """

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        n = int(updates)
        weight = min(decay, (1 + n) / (10 + n))
        if not averaged.is_floating_point():
            return current  # counters, such as batch norm's
        return averaged + (current - averaged) * (1 - weight)  # exactly what it was where nothing changes

    return average
