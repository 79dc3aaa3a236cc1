"""A comparison as a TensorBoard log folder: curves of runs and of seed means, HParams, text and pictures."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from sppcls._util.console import printable
from sppcls.comparison.board.curves import Curves, curves_of, mean_of
from sppcls.comparison.board.events import EventFile
from sppcls.comparison.board.layout import (
    AXES,
    BY_GROUP,
    categories,
    columns,
    final_figures,
    final_names,
    guessing_tag,
    heading_of,
    hparam_values,
    in_tag,
)
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.report.content import Content, conclusion_table, errors_cell, introduction
from sppcls.comparison.report.notes import reading_notes
from sppcls.comparison.report.tables import bullets
from sppcls.comparison.runs import Run
from sppcls.errors import ConfigError
from sppcls.runs.names import COMPARISON_EVENTS, INPUTS, MEAN, PICTURES

# Folders below the log folder, which are TensorBoard's names of runs; they stand in this order on every page.
COMPARISON = "comparison"
GUESSING = "level of guessing"  # below that of the means
_OURS = re.compile(rf"{COMPARISON}|{MEAN}|seed\d+(_fold\d+)?")


def write_board(comparison: Comparison, folder: str | os.PathLike[str]) -> Path:
    """Write what TensorBoard is to show of a comparison: ``tensorboard --logdir FOLDER --load_fast=false``.

    The TensorBoard run ``comparison`` has the layout, tables and pictures; ``mean/<group>`` the mean over the seeds of a
    group; and ``seed<seed>/<group>`` is a run: its own event files, linked to, and its errors under tags that name the
    size, such as ``val_224/top1_error``.

    Args:
        comparison: from :func:`sppcls.compare`.
        folder: to write to: a new one, an empty one, or one that this function wrote before.

    Returns:
        ``folder``.

    Raises:
        ConfigError: the folder cannot be written, or holds something else.
    """
    folder = Path(folder)
    try:
        _clear(folder)
        _write_comparison(comparison, folder / COMPARISON)
        curves = _write_means(comparison, folder)
        number = len(curves) + 1
        for group, found in zip(comparison.groups, curves, strict=True):
            for run, own in zip(group.runs, found, strict=True):
                number += 1
                _write_run(comparison, group, run, own, folder, number)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from None
    return folder


def write_beside_runs(comparison: Comparison, folder: Path) -> None:
    """Write a comparison for a TensorBoard that shows the runs by itself, as ``tensorboard --logdir`` does.

    The TensorBoard run ``comparison`` has the answers, tables and pictures, ``comparison/mean/<group>`` the means. Its
    HParams are rows among those of the runs.

    Args:
        comparison: from :func:`sppcls.compare`.
        folder: that its report was written to, below the folder that TensorBoard shows.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        shutil.rmtree(folder / MEAN, ignore_errors=True)  # of an earlier report
        _write_comparison(comparison, folder, experiment=False)
        _write_means(comparison, folder, of=folder.resolve().parent.name)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from None


def _write_means(comparison: Comparison, folder: Path, of: str | None = None) -> list[list[Curves]]:
    """The means and the level of guessing; the curves of each group's runs, which they were made of.

    Args:
        of: a sweep, where its means are rows among other runs' on the HParams page: they are called after it there, and
            have no columns but those of the runs.
    """
    curves = [[curves_of(run, comparison) for run in group.runs] for group in comparison.groups]
    for number, (group, found) in enumerate(zip(comparison.groups, curves, strict=True), start=1):
        _write_mean(comparison, group, mean_of(found), folder, number, of)
    _write_guessing(comparison, [run for found in curves for run in found], folder, len(curves) + 1)
    return curves


def _clear(folder: Path) -> None:
    """Remove what was written before; nothing else is touched."""
    if folder.is_dir() and any(folder.iterdir()):
        inside = list(folder.iterdir())
        if (
            any(not _OURS.fullmatch(entry.name) for entry in inside)
            or not (folder / COMPARISON / COMPARISON_EVENTS).is_file()
        ):
            raise ConfigError(f"{folder}: holds something else; name a new or an empty folder")
        for entry in inside:
            shutil.rmtree(entry, ignore_errors=True)  # links are removed, not what they lead to


def _write_comparison(comparison: Comparison, folder: Path, experiment: bool = True) -> None:
    """Layout, tables and pictures; with ``experiment`` also the columns of HParams, which then are those of all runs."""
    content = Content.of(comparison)
    with EventFile(folder, 0) as events:
        events.layout(categories(comparison))
        if experiment:
            events.experiment(columns(comparison), final_names(comparison))
        for tag, markdown in _texts(content).items():
            events.text(tag, markdown)
        for tag, png in {**_pictures(content), **_inputs(comparison)}.items():
            events.image(tag, png)


def answer_tag(comparison: Comparison) -> str:
    """Tag of the picture of the first question and its answer; empty if there is none."""
    return next((f"answer/{in_tag(found)}" for found in Content.of(comparison).conclusions), "")


def _texts(content: Content) -> dict[str, str]:
    """The tables and sentences in the order of reading, which is that of their tags."""
    comparison, groups = content.comparison, content.tables["groups"]
    summary = []
    for found in content.conclusions:
        title, table = f"### {found.question} {found.answer}", conclusion_table(found)
        summary += [title, found.sentence, table.markdown(), found.outlook]
    summary.append(introduction(comparison))
    # In one table of many columns TensorBoard would break the words.
    errors = [i < 2 or name.endswith("_error") for i, name in enumerate(groups.header)]
    costs = [i == 0 or not error for i, error in enumerate(errors)]
    tables = {name: table.markdown() for name, table in content.tables.items()}
    texts = {
        "answer": "\n\n".join(summary),
        "legend": tables.pop("legend", ""),
        "errors": groups.only(errors).markdown(),
        "costs": groups.only(costs).markdown(),
        "each_pair": bullets(content.sentences),
        **{name: text for name, text in tables.items() if name not in ("groups", "equal_cost", "class_mean")},
        "how_to_read": bullets(reading_notes(comparison)),
        "left_out": bullets(comparison.problems),
    }
    said = [(name, printable(text)) for name, text in texts.items() if text]
    return {f"{COMPARISON}/{i}_{name}": text for i, (name, text) in enumerate(said, start=1)}


def _pictures(content: Content) -> dict[str, bytes]:
    from sppcls.comparison.report.pictures import differences, pictures, png

    figures = {f"answer/{in_tag(found)}": differences(found.findings) for found in content.conclusions}
    drawn = pictures(content.comparison, [])
    figures |= {f"{COMPARISON}/{name}": figure for name, (_, figure) in drawn.items()}
    images = {}
    for tag, figure in figures.items():
        assert figure is not None
        width, height = figure.get_size_inches()
        figure.set_size_inches(0.75 * width, 0.9 * height)  # it is shown small
        images[tag] = png(figure)
    return images


def _inputs(comparison: Comparison) -> dict[str, bytes]:
    """The sheets of first inputs that runs have drawn: of each group's first seed, and each sheet once."""
    sheets: dict[tuple[str, bytes], list[str]] = {}
    for group in comparison.groups:
        for path in sorted((group.runs[0].folder / PICTURES).glob(f"{INPUTS}*.png")):
            sheets.setdefault((path.stem.removeprefix(INPUTS), path.read_bytes()), []).append(group.label)
    found: dict[str, bytes] = {}
    for (size, png), labels in sheets.items():
        alone = sum(other == size for other, _ in sheets) == 1
        of = f"{', '.join(labels[:2])}{f' and {len(labels) - 2} more' if len(labels) > 2 else ''}"
        found[f"inputs/{size}" if alone else f"inputs/{size}, {of}"] = png
    return found


def _write_mean(
    comparison: Comparison, group: Group, mean: Curves, folder: Path, number: int, of: str | None
) -> None:
    name = f"{MEAN}/{_file_name(group.label)}"
    finals = [final_figures(run, comparison) for run in group.runs]
    common = [tag for tag in finals[0] if all(tag in found for found in finals)]
    means = {tag: fmean(found[tag] for found in finals) for tag in common}
    error = errors_cell(group, comparison.main)
    if of is not None:
        main = f"final/{comparison.name_of(comparison.main, 1)}"
        means = {tag: value for tag, value in means.items() if tag == main}
    else:
        std = None if error is None else error.std
        means |= {"final/seeds": float(len(group.runs)), **({} if std is None else {"final/std": std})}
    with EventFile(folder / name, number) as events:
        row = name if of is None else f"{group.label}, mean of {of}"
        events.hparams(hparam_values(comparison, group, MEAN), row)
        _write_curves(events, mean, mean.values)
        _write_final(events, mean, means)
        if (heading := heading_of(comparison)) and error is not None:
            # A bar of ± one standard deviation at the place of the group. Its ends are there so often that the axis has room
            # for them, and the mean so often that smoothing leaves the last point where it is.
            for sign in (0, *(-1, 1) * 6, *(0,) * 6):
                value = error.mean + sign * (error.std or 0)
                events.scalar(f"{BY_GROUP}/{heading}", value, number, mean.end)


def _write_guessing(comparison: Comparison, runs: Sequence[Curves], folder: Path, number: int) -> None:
    """The error of guessing as a level line, for the charts of Custom Scalars."""
    if comparison.guessing is None:
        return
    # As many points as the curves have: TensorBoard leaves what few points say out of the axes.
    points = max(len(curves.epochs) for curves in runs)
    with EventFile(folder / MEAN / GUESSING, number) as events:
        for ending in AXES:
            series = ending.removeprefix("_by_") or "epochs"
            end = round(max(np.nan_to_num(getattr(curves, series)[-1]) for curves in runs))
            for step in sorted({round(end * i / points) for i in range(points + 1)}):
                events.scalar(guessing_tag(comparison, ending), comparison.guessing, step, runs[0].end)


def _write_run(
    comparison: Comparison, group: Group, run: Run, curves: Curves, folder: Path, number: int
) -> None:
    name = f"seed{run.seed}/{_file_name(group.label)}"
    own_events = sorted(run.folder.glob("events.out.tfevents.*"))
    with EventFile(folder / name, number) as events:
        events.hparams(hparam_values(comparison, group, str(run.seed)), name)
        _write_curves(events, curves, curves.by_size(), run.tags if own_events else ())
        _write_final(events, curves, final_figures(run, comparison))
    for path in own_events:
        (folder / name / path.name).symlink_to(path.resolve())


def _write_curves(
    events: EventFile, curves: Curves, values: Mapping[str, np.ndarray], known: Collection[str] = ()
) -> None:
    """By epoch, unless the run's own events have the tag (``known``); errors by size also by the pixels and seconds."""
    times = curves.times()
    for tag, series in values.items():
        prefix, _, figure = tag.partition("/")
        for i in np.flatnonzero(~np.isnan(series)):
            value, time = series[i], times[i]
            if tag not in known:
                events.scalar(tag, value, curves.epochs[i], time)
            for axis, along in (("pixels", curves.pixels[i]), ("seconds", curves.seconds[i])):
                if prefix.startswith(("val_", "seeds_val_")) and not np.isnan(along):
                    events.scalar(f"{prefix}_by_{axis}/{figure}", value, round(along), time)


def _write_final(events: EventFile, curves: Curves, figures: Mapping[str, float]) -> None:
    for tag, value in figures.items():
        events.scalar(tag, value, curves.epochs[-1], curves.end)


def _file_name(label: str) -> str:
    """A label as the name of a folder; a long one is cut, and kept apart from others by a digest."""
    name = re.sub(r"[/\0]+", "_", printable(label)).strip(".") or "_"
    if len(name.encode()) <= 180:
        return name
    return f"{name.encode()[:160].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
