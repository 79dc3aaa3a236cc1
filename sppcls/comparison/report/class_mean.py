"""Figures beside the top-1 and top-5 errors: means of the groups, and paired differences of the class-mean error."""

from __future__ import annotations

from sppcls._util.figures import FIGURES, MULTI_LABEL
from sppcls.comparison.answers import Measure
from sppcls.comparison.findings import p_text, signed, span
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.report.tables import Cell, Spread, Table
from sppcls.comparison.statistics import holm, paired_over_seeds

CLASS_MEAN = "class_mean_error"

# Points by which the class-mean error has to differ from the top-1 error to be shown beside it.
_DIFFERS = 0.005


def figures_of(comparison: Comparison) -> dict[str, str]:
    """Figures with their words that say something besides the errors at the main measure.

    With as many images of each class, the class-mean error is the top-1 error.
    """
    names = {name: FIGURES[name].words for name in (CLASS_MEAN, "f1", "ece", *MULTI_LABEL.validation[2:])}
    main = comparison.main
    pairs = [(run.figure(main, CLASS_MEAN), run.figure(main, "top1_error")) for run in comparison.runs]
    if not any(a is not None and b is not None and abs(a - b) > _DIFFERS for a, b in pairs):
        del names[CLASS_MEAN]
    return names


def by_seed(group: Group, measure: Measure, figure: str) -> dict[int, float]:
    """A figure of each run of a group that has it."""
    found = {run.seed: run.figure(measure, figure) for run in group.runs}
    return {seed: value for seed, value in found.items() if value is not None}


def figure_cells(comparison: Comparison, group: Group) -> list[Cell]:
    """Mean and spread of each of :func:`figures_of` at the main measure; None where it was not measured."""
    main, figures = comparison.main, figures_of(comparison)
    return [Spread.of(by_seed(group, main, figure).values()) for figure in figures]


def class_mean_table(comparison: Comparison) -> Table | None:
    """A row for each pair: the difference in class-mean error, paired by seed; None where it is the top-1 error."""
    if CLASS_MEAN not in figures_of(comparison):
        return None
    errors = {group.label: by_seed(group, comparison.main, CLASS_MEAN) for group in comparison.groups}
    paired = [(p, paired_over_seeds(errors[p.first.label], errors[p.second.label])) for p in comparison.pairs]
    found = [(pair, difference) for pair, difference in paired if difference is not None]
    corrected = iter(holm([d.p for _, d in found if d.p is not None]))
    rows: list[list[Cell]] = [
        [
            f"{pair.second.label} - {pair.first.label}",
            signed(d.mean),
            str(len(d.by_seed)),
            None if d.interval is None else span(*d.interval),
            None if d.p is None else p_text(d.p),
            None if d.p is None else p_text(next(corrected)),
        ]
        for pair, d in found
    ]
    each = comparison.unit
    header = ["A - B", "A - B, points", f"{each}s", f"95 % over {each}s", "p", "p, corrected"]
    title = f"Differences in {comparison.name_of(comparison.main)}/{CLASS_MEAN}"
    return Table(title, header, rows).used() if rows else None
