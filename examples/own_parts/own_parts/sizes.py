"""A size schedule: ``training_sizes``, and a pure function of epoch and step."""

from __future__ import annotations

from sppcls.registry import register


@register("sizes")
class Zigzag:
    """Up from ``low`` to ``high`` and down again, one step of ``step`` pixels an epoch.

    Args:
        low: smallest side in pixels.
        high: largest side in pixels.
        step: change from one epoch to the next.
    """

    changes_within_epoch = False

    def __init__(self, low: int = 64, high: int = 96, step: int = 16) -> None:
        sizes = list(range(low, high + 1, step))
        self.training_sizes = sizes
        self._turn = sizes + sizes[-2:0:-1]

    def at(self, epoch: int, step: int = 0) -> int:
        return self._turn[epoch % len(self._turn)]
