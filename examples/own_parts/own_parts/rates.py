"""A learning-rate schedule: a pure function of the step, so that a resumed run cannot disagree with it."""

from __future__ import annotations

import math

from sppcls.registry import register


@register("scheduler")
def warm_restarts(step: int, steps_per_epoch: int, epochs: int, period: int = 2) -> float:
    """Cosine from 1 to 0, over and over (Loshchilov and Hutter 2017).

    Args:
        period: epochs between restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * (step / (period * steps_per_epoch) % 1)))
