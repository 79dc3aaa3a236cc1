"""Errors at equal cost: after as many training pixels, or as much time, as all groups have spent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sppcls.comparison.answers import Measure
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.runs import Run


@dataclass(frozen=True)
class Cost:
    """What a run spends: a column of ``metrics.csv``, with its unit.

    Attributes:
        key: the column.
        axis: what an axis says.
        unit: a name for ``scale`` of it.
        scale: how much of the column one unit is.
    """

    key: str
    axis: str
    unit: str
    scale: float

    def common(self, comparison: Comparison) -> float | None:
        """The cost that all runs have reached, in units; None where none was counted."""
        reached = [run.last(self.key) for run in comparison.runs]
        return min((value / self.scale for value in reached if value is not None), default=None)


COSTS = (
    Cost("pixels_seen", "training pixels seen, 10⁹", "gigapixels", 1e9),
    Cost("train_seconds", "time in training steps, minutes", "minutes", 60.0),
)


def error_at(run: Run, measure: Measure, cost: Cost, spent: float) -> float | None:
    """Top-1 error in per cent when a run had spent so much, on the line between the validations before and after.

    None before its first validation, after its last, or where it was not measured.
    """
    column = run.column(measure)
    known = [(row.get(cost.key), row.get(column)) for row in run.rows] if column else []
    points = [(x / cost.scale, y) for x, y in known if x is not None and y is not None]
    if not points or not points[0][0] <= spent <= points[-1][0] * (1 + 1e-9):
        return None
    return float(np.interp(spent, [x for x, _ in points], [y for _, y in points]))


def errors_at(group: Group, measure: Measure, cost: Cost, spent: float) -> list[float]:
    """Those of all seeds; empty if one of them is not known."""
    found = [error_at(run, measure, cost, spent) for run in group.runs]
    known = [error for error in found if error is not None]
    return known if len(known) == len(found) else []


def cost_differs(comparison: Comparison, cost: Cost) -> bool:
    """Whether some runs have cost over 2 % more than others, so that equal cost is not the end of all."""
    known = [spent for run in comparison.runs if (spent := run.last(cost.key))]
    return bool(known) and max(known) > 1.02 * min(known)
