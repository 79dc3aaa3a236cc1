"""What TensorBoard draws of a run or of the mean of several: figures of every epoch, under tags that name the size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sppcls.comparison.answers import DETECTION
from sppcls.comparison.groups import Comparison
from sppcls.comparison.report.class_mean import figures_of
from sppcls.comparison.runs import Run


@dataclass
class Curves:
    """What is drawn of one run, or of the mean of several. NaN stands for what is not known.

    Attributes:
        end: time of the last epoch, in seconds since 1970.
        epochs: those done.
        pixels, seconds: (epochs,), from the start.
        values: (epochs,) by tag, such as ``val_224/loss``; NaN where an epoch was not validated.
    """

    end: float
    epochs: list[int]
    pixels: np.ndarray
    seconds: np.ndarray
    values: dict[str, np.ndarray]

    def times(self) -> np.ndarray:
        """When each epoch was done, in seconds since 1970; as if the training had never been stopped."""
        return np.nan_to_num(self.end - self.seconds[-1] + self.seconds, nan=self.end)

    def by_size(self) -> dict[str, np.ndarray]:
        """Only the tags that name a size."""
        return {tag: values for tag, values in self.values.items() if tag.startswith("val_")}


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

    def series(key: str) -> np.ndarray:
        return np.array([row.get(key) for row in run.rows], float)

    values = {tag: series(tag) for row in run.rows for tag in row if "/" in tag}
    for measure in comparison.validated:
        column = run.column(measure)
        for figure in shown_figures(comparison):
            own = f"{column.partition('/')[0]}/{figure}" if column else ""
            if own in values:
                values[f"{comparison.name_of(measure)}/{figure}"] = values[own]
    epochs = [int(row["epoch"] or 0) for row in run.rows]
    return Curves(run.written.st_mtime, epochs, series("pixels_seen"), series("train_seconds"), values)


def mean_of(runs: Sequence[Curves]) -> Curves:
    """Mean of runs that differ in their seed, at every epoch that all of them have.

    Each figure that names a size has its mean, and that minus and plus one standard deviation, also under
    ``seeds_<tag>_mean``, ``_lower`` and ``_upper``; with one run they are all the same.
    """
    epochs = [epoch for epoch in runs[0].epochs if all(epoch in run.epochs for run in runs)]
    places = [[run.epochs.index(epoch) for epoch in epochs] for run in runs]

    def rows(series: Iterable[np.ndarray]) -> np.ndarray:
        """(runs, epochs)."""
        return np.stack([values[place] for values, place in zip(series, places, strict=True)])

    pixels, seconds = (
        rows(series).mean(0) for series in zip(*((r.pixels, r.seconds) for r in runs), strict=True)
    )
    mean = Curves(max(run.end for run in runs), epochs, pixels, seconds, {})
    common = [tag for tag in runs[0].values if all(tag in run.values for run in runs)]
    by_tag = {tag: rows(run.values[tag] for run in runs) for tag in common}
    mean.values |= {tag: found.mean(0) for tag, found in by_tag.items()}
    for tag, centre in mean.by_size().items():
        std = by_tag[tag].std(0, ddof=1) if len(runs) > 1 else 0.0
        for part, curve in (("mean", centre), ("lower", centre - std), ("upper", centre + std)):
            mean.values[f"seeds_{tag}_{part}"] = curve
    return mean
