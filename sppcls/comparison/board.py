"""A comparison as a TensorBoard log folder: curves of runs and of seed means, HParams, text and pictures."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from sppcls.comparison.board_events import NAME, EventFile
from sppcls.comparison.board_layout import charts, columns, hparam_values, metric_names
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.runs import METRICS, Run
from sppcls.console import printable
from sppcls.errors import ConfigError

# TensorBoard runs, and folders below the log folder. In this order on every page.
COMPARISON, MEAN, RUNS = "comparison", "mean", "runs"


@dataclass
class Curves:
    """What is drawn of one run, or of the mean of several.

    Attributes:
        start: time of the first training step, in seconds since 1970.
        epochs, pixels, seconds: one for each epoch done; pixels and seconds None where they are not known.
        values: by tag, one for each epoch, None where it was not validated.
    """

    start: float
    epochs: list[int]
    pixels: list[float | None]
    seconds: list[float | None]
    values: dict[str, list[float | None]] = field(default_factory=dict)


def write_board(
    comparison: Comparison,
    folder: Path,
    texts: Mapping[str, str] | None = None,
    pictures: Mapping[str, bytes] | None = None,
) -> Path:
    """Write what TensorBoard shows of a comparison.

    ``comparison`` is the TensorBoard run with the layout, the texts and the pictures; ``mean/<group>`` has the mean over
    the seeds of a group, and ``runs/<group>-seed<seed>`` is a run: its own events, linked to, and its curves under
    tags that name the size (``at_224/top1_error``), since a run's own ``val`` is whatever its largest size is.

    Args:
        comparison: of runs that have finished.
        folder: to write to: a new one, an empty one, or one that this function wrote before. Event files of the runs
            are linked to, not copied.
        texts: Markdown by name.
        pictures: PNG files by name.

    Raises:
        ConfigError: the folder cannot be written, or holds something else.
    """
    try:
        _clear(folder)
        groups = [(group, [curves_of(run, comparison) for run in group.runs]) for group in comparison.groups]
        with EventFile(folder / COMPARISON, max(c.start for _, found in groups for c in found)) as events:
            events.layout(charts(comparison))
            events.experiment(columns(comparison), metric_names(comparison))
            for name, markdown in (texts or {}).items():
                events.text(f"{COMPARISON}/{name}", markdown)
            for name, png in (pictures or {}).items():
                events.image(f"{COMPARISON}/{name}", png)
        for group, found in groups:
            mean, low, high = mean_of(found)
            name = f"{MEAN}/{_file_name(group.label)}"
            with EventFile(folder / name, mean.start) as events:
                seeds = f"mean of {len(found)}" if len(found) > 1 else f"only {group.seeds[0]}"
                events.hparams(hparam_values(comparison, group, seeds), name)
                _write_curves(events, mean)
                _write_band(events, mean, low, high)
                _write_final(events, mean, _mean_final([_final(run, comparison) for run in group.runs]))
            for run, curves in zip(group.runs, found, strict=True):
                name = f"{RUNS}/{_file_name(group.label)}-seed{run.seed}"
                with EventFile(folder / name, curves.start) as events:
                    events.hparams(hparam_values(comparison, group, str(run.seed)), name)
                    own = {tag: v for tag, v in curves.values.items() if tag.startswith("at_")}
                    _write_curves(events, Curves(curves.start, curves.epochs, curves.pixels, curves.seconds, own))
                    _write_final(events, curves, _final(run, comparison))
                for path in sorted(run.folder.glob("events.out.tfevents.*")):
                    (folder / name / path.name).symlink_to(path.resolve())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from None
    return folder


def curves_of(run: Run, comparison: Comparison) -> Curves:
    """Every figure of an epoch that a run wrote down, and those of the validation also by the size."""
    seconds = [row.get("train_seconds") for row in run.rows]
    end = (run.folder / METRICS).stat().st_mtime
    curves = Curves(
        start=end - (seconds[-1] or 0.0),
        epochs=[int(row["epoch"] or 0) for row in run.rows],
        pixels=[row.get("pixels_seen") for row in run.rows],
        seconds=seconds,
        values={tag: [row[tag] for row in run.rows] for tag in run.rows[-1] if "/" in tag},
    )
    for measure in comparison.measures:
        column = run.column(measure)
        if column is not None:
            prefix = column.partition("/")[0]
            own = {tag: values for tag, values in curves.values.items() if tag.startswith(f"{prefix}/")}
            for tag, values in own.items():
                curves.values[f"at_{measure.size}/{tag.partition('/')[2]}"] = values
    return curves


def mean_of(runs: Sequence[Curves]) -> tuple[Curves, Curves, Curves]:
    """Mean, lowest and highest of the seeds at every epoch that all of them have."""
    epochs = [epoch for epoch in runs[0].epochs if all(epoch in run.epochs for run in runs)]
    where = [[run.epochs.index(epoch) for epoch in epochs] for run in runs]

    def across(series: Sequence[Sequence[float | None]]) -> list[list[float] | None]:
        """Of every epoch the figures of all runs; None where one has none."""
        rows = [[values[i] for values, i in zip(series, at, strict=True)] for at in zip(*where, strict=True)]
        return [None if None in row else [value for value in row if value is not None] for row in rows]

    tags = [tag for tag in runs[0].values if all(tag in run.values for run in runs)]
    found = {tag: across([run.values[tag] for run in runs]) for tag in tags}
    pixels, seconds = across([run.pixels for run in runs]), across([run.seconds for run in runs])
    results = []
    for figure in (fmean, min, max):
        results.append(
            Curves(
                start=max(run.start for run in runs),
                epochs=epochs,
                pixels=[None if row is None else fmean(row) for row in pixels],
                seconds=[None if row is None else fmean(row) for row in seconds],
                values={tag: [None if r is None else figure(r) for r in rows] for tag, rows in found.items()},
            )
        )
    return results[0], results[1], results[2]


def _write_curves(events: EventFile, curves: Curves) -> None:
    for tag, values in curves.values.items():
        figure, _, name = tag.partition("/")
        for i, value in enumerate(values):
            if value is None:
                continue
            time = curves.start + (curves.seconds[i] or 0.0)
            events.scalar(tag, value, curves.epochs[i], time)
            if not tag.startswith("at_"):
                continue
            for axis, along in (("pixels", curves.pixels[i]), ("seconds", curves.seconds[i])):
                if along is not None:
                    events.scalar(f"{figure}_by_{axis}/{name}", value, round(along), time)


def _write_band(events: EventFile, mean: Curves, low: Curves, high: Curves) -> None:
    """Mean, lowest and highest seed: what a chart with a margin is made of."""
    for part, curves in (("mean", mean), ("lowest", low), ("highest", high)):
        for tag, values in curves.values.items():
            for i, value in enumerate(values):
                if tag.startswith("at_") and value is not None:
                    events.scalar(f"seeds_{tag}_{part}", value, curves.epochs[i], mean.start + (mean.seconds[i] or 0.0))


def _write_final(events: EventFile, curves: Curves, figures: Mapping[str, float]) -> None:
    for tag, value in figures.items():
        events.scalar(tag, value, curves.epochs[-1], curves.start + (curves.seconds[-1] or 0.0))


def _final(run: Run, comparison: Comparison) -> dict[str, float]:
    """What HParams shows of a run: its errors after the last epoch, and what it cost, by tag."""
    figures = {}
    for measure in comparison.measures:
        top1, top5 = run.errors.get(measure, (math.nan, math.nan))
        figures[f"final/{measure.protocol}_{measure.size}_top1_error"] = top1
        figures[f"final/{measure.protocol}_{measure.size}_top5_error"] = top5
    pixels, seconds = run.last("pixels_seen"), run.last("train_seconds")
    figures["final/gigapixels"] = math.nan if pixels is None else pixels / 1e9
    figures["final/train_minutes"] = math.nan if seconds is None else seconds / 60
    known = metric_names(comparison)
    return {tag: value for tag, value in figures.items() if tag in known and math.isfinite(value)}


def _mean_final(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    tags = [tag for tag in figures[0] if all(tag in found for found in figures)]
    return {tag: fmean(found[tag] for found in figures) for tag in tags}


def _file_name(label: str) -> str:
    """A label as a name of a folder."""
    return printable(label).replace("/", "_").strip(".") or "_"


def _clear(folder: Path) -> None:
    """Remove what was written before."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / COMPARISON / NAME).is_file():
        raise ConfigError(f"{folder}: holds something else; name a new folder")
    for name in (COMPARISON, MEAN, RUNS):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
