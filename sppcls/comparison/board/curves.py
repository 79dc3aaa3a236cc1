"""What TensorBoard draws of a run or of the mean of several: figures of every epoch, under tags that name the size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sppcls.comparison.answers import DETECTION, Measure
from sppcls.comparison.groups import Comparison
from sppcls.comparison.report.class_mean import figures_of
from sppcls.comparison.runs import Run
from sppcls.comparison.statistics import mean_and_std


@dataclass
class Curves:
    """What is drawn of one run, or of the mean of several.

    Attributes:
        end: time of the last epoch, in seconds since 1970.
        epochs, pixels, seconds: one for each epoch done, the latter two from the start; None where not known.
        values: by tag, one for each epoch, None where it was not validated. such as ``val_224/loss``.
    """

    end: float
    epochs: list[int]
    pixels: list[float | None]
    seconds: list[float | None]
    values: dict[str, list[float | None]] = field(default_factory=dict)

    def times(self) -> list[float]:
        """When each epoch was done, in seconds since 1970; as if the training had never been stopped."""
        last = self.seconds[-1]
        return [self.end if s is None or last is None else self.end - last + s for s in self.seconds]

    def by_size(self) -> dict[str, list[float | None]]:
        """Only the tags that name a size."""
        return {tag: values for tag, values in self.values.items() if tag.startswith("val_")}


def curve_names(comparison: Comparison) -> dict[Measure, str]:
    """A first part of tags for everything that was validated during training: ``val_224``, the main size first."""
    return {measure: comparison.name_of(measure) for measure in comparison.validated}


def shown_figures(comparison: Comparison) -> dict[str, str]:
    """Figures of a validation, with the words for each; the top-5 error only if it says anything."""
    if comparison.main.protocol == DETECTION:
        return {comparison.main.figure(): f"{comparison.main.error()}, %"}
    main = comparison.main
    figures = {main.figure(top): f"{main.error(top)}, %" for top in comparison.tops}
    for name, words in figures_of(comparison).items():
        if any(run.figure(comparison.main, name) is not None for run in comparison.runs):
            figures[name] = f"{words}, %"
    return {**figures, "loss": "loss"}


def curves_of(run: Run, comparison: Comparison) -> Curves:
    """Every figure that a run wrote down after its epochs, and those of the validation also by the size."""
    tags = list(dict.fromkeys(tag for row in run.rows for tag in row if "/" in tag))
    curves = Curves(
        end=run.written.st_mtime,
        epochs=[int(row["epoch"] or 0) for row in run.rows],
        pixels=[row.get("pixels_seen") for row in run.rows],
        seconds=[row.get("train_seconds") for row in run.rows],
        values={tag: [row.get(tag) for row in run.rows] for tag in tags},
    )
    for measure, name in curve_names(comparison).items():
        column = run.column(measure)
        for figure in shown_figures(comparison):
            own = f"{column.partition('/')[0]}/{figure}" if column else ""
            if own in curves.values:
                curves.values[f"{name}/{figure}"] = curves.values[own]
    return curves


@dataclass
class Mean:
    """Mean of several runs at every epoch that all of them have, and the mean minus and plus one standard deviation."""

    mean: Curves
    lower: Curves
    upper: Curves


def mean_of(runs: Sequence[Curves]) -> Mean:
    """Mean and band of runs that differ in their seed; with one run they are all the same."""
    epochs = [epoch for epoch in runs[0].epochs if all(epoch in run.epochs for run in runs)]

    def across(series: Sequence[list[float | None]]) -> list[list[float] | None]:
        """Of every epoch the figures of all runs; None where one has none."""
        found: list[list[float] | None] = []
        for epoch in epochs:
            row = [values[run.epochs.index(epoch)] for run, values in zip(runs, series, strict=True)]
            known = [value for value in row if value is not None]
            found.append(known if len(known) == len(row) else None)
        return found

    def means(series: Sequence[list[float | None]]) -> list[float | None]:
        return [None if row is None else fmean(row) for row in across(series)]

    pixels, seconds = means([run.pixels for run in runs]), means([run.seconds for run in runs])
    end = max(run.end for run in runs)
    result = Mean(*(Curves(end, epochs, pixels, seconds) for _ in range(3)))
    for tag in runs[0].values:
        if not all(tag in run.values for run in runs):
            continue
        rows = [
            None if row is None else mean_and_std(row) for row in across([run.values[tag] for run in runs])
        ]
        for curves, sign in ((result.mean, 0), (result.lower, -1), (result.upper, 1)):
            curves.values[tag] = [None if row is None else row[0] + sign * (row[1] or 0) for row in rows]
    return result
