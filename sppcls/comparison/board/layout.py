"""How TensorBoard lays a comparison out: the charts of Custom Scalars, the columns of HParams, what is pinned."""

from __future__ import annotations

import re
from itertools import product
from urllib.parse import quote

from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2

from sppcls._util.tensorboard import time_series
from sppcls.comparison.board.curves import shown_figures
from sppcls.comparison.conclusions import Conclusion
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.report.class_mean import figures_of
from sppcls.comparison.report.content import Content, errors_cell
from sppcls.comparison.runs import Run
from sppcls.runs.names import MEAN

# First part of the tag of the errors behind the answer: after that of the columns of HParams, before that of all curves.
BY_GROUP = "final_by_group"


def in_tag(found: Conclusion) -> str:
    """A question and its answer, as a part of a tag."""
    return f"{found.question.replace('/', ' ')} {found.answer}"


def first_answer(comparison: Comparison) -> str:
    """The first question and its answer; empty if there is none."""
    return next(map(in_tag, Content.of(comparison).conclusions), "")


def categories(comparison: Comparison) -> list[layout_pb2.Category]:
    """Charts that overlay all groups: first the error at the main size, headed by the answer, then each figure at each
    size.

    Those of the top-1 error are open at first; all at once would take a browser long to draw.
    """
    found = []
    for number, (figure, words) in enumerate(shown_figures(comparison).items()):
        level = figure == comparison.main.figure() and comparison.guessing is not None
        bands, lines = [], []
        for measure, (ending, axis) in product(comparison.validated, AXES.items()):
            title = f"{measure.in_words().replace(measure.error(), words)}, by {axis}"
            tag = f"{comparison.name_of(measure)}{ending}/{figure}"
            guessing = guessing_tag(comparison, ending) if level else None
            bands.append(_band(title, f"seeds_{tag}", guessing))
            lines.append(_lines(title, tag, guessing))
        subject = words[0].upper() + words[1:]
        heading = f"{subject}:" if number else f"{first_answer(comparison) or 'Every group'} ({words}):"
        # TensorBoard 2.21 shows charts with bands, and only these, in the reverse of their order.
        for title, charts in (
            (f"{heading} means, bands of ± std over the seeds", bands[::-1]),
            (f"{subject}: every run, and the means", lines),
        ):
            found.append(layout_pb2.Category(title=title, chart=charts, closed=number > 0))
    return found


AXES = {"": "epoch", "_by_pixels": "training pixels", "_by_seconds": "seconds of training"}


def guessing_tag(comparison: Comparison, ending: str) -> str:
    """Tag of the level of guessing along an axis, one of :data:`AXES`."""
    return f"guessing{ending}/{comparison.main.figure()}"


def _band(title: str, tag: str, level: str | None) -> layout_pb2.Chart:
    series_of = layout_pb2.MarginChartContent.Series
    series = [series_of(value=f"{tag}_mean", lower=f"{tag}_lower", upper=f"{tag}_upper")]
    if level is not None:
        series.append(series_of(value=level, lower=level, upper=level))
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=series))


def _lines(title: str, tag: str, level: str | None) -> layout_pb2.Chart:
    tags = [f"^{re.escape(name)}$" for name in (tag, level) if name is not None]
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))


def _time_series(comparison: Comparison, answer: str | None, **more: str) -> str:
    main, figure = comparison.name_of(comparison.main), comparison.main.figure()
    curves = [f"{main}/{figure}", f"{main}_by_pixels/{figure}"]
    return time_series(curves, ("comparison", answer) if answer else None, **more)


def links(comparison: Comparison, answer: str | None) -> dict[str, str]:
    """What to add to TensorBoard's address for each of its pages, so that it opens as meant for this comparison.

    Only the means are shown at first, nothing is smoothed, and the pages begin with the answer. On Time Series the
    picture of the answer and the error at the main size by epoch and by pixels are pinned; runs of a group and their
    mean have one colour.

    Args:
        comparison: what is shown.
        answer: tag of the picture of the answer, if there is one.
    """
    curves = f"{re.escape(comparison.name_of(comparison.main))}(_by_pixels)?/{comparison.main.figure()}$"
    scalars = quote(f"^({BY_GROUP}/|{curves})")
    return {
        "Time Series": _time_series(
            comparison, answer, runColorGroup=r"regex:^[^/]+/(.+)$", runFilter="^(mean|comparison)"
        ),
        "Scalars": f"#scalars&_smoothingWeight=0&regexInput=%5Emean&tagFilter={scalars}",
        "Custom Scalars": "#custom_scalars&_smoothingWeight=0&regexInput=%5Emean",
        "HParams": "#hparams",
        "Images": "#images&regexInput=%5Ecomparison",
        "Text": "#text&regexInput=%5Ecomparison",
    }


# --- HParams


def columns(comparison: Comparison) -> list[api_pb2.HParamInfo]:
    """The answer, the config groups that were varied, in the words that were typed, and the seed.

    TensorBoard sorts them by name: the answer, with its capital letter, comes first.
    """
    rows = [
        hparam_values(comparison, group, seed)
        for group in comparison.groups
        for seed in (*map(str, group.seeds), MEAN)
    ]
    found = []
    for key in dict.fromkeys(key for row in rows for key in row):
        info = api_pb2.HParamInfo(name=key, differs=True, type=api_pb2.DATA_TYPE_STRING)
        info.domain_discrete.extend(dict.fromkeys(row[key] for row in rows if key in row))
        found.append(info)
    return found


def heading_of(comparison: Comparison) -> str:
    """What heads the errors of the groups: the answer, and what the numbers are; empty without an answer."""
    answer = first_answer(comparison)
    return f"{answer} ({comparison.main.error()}, %)" if answer else ""


def hparam_values(comparison: Comparison, group: Group, seed: str) -> dict[str, str]:
    """The row of a run of ``group``, or of its mean, which has the error of the group under :func:`heading_of`."""
    heading = heading_of(comparison)
    error = errors_cell(group, comparison.main) if heading and seed == MEAN else None
    # TensorBoard shows what is not ASCII as a code.
    answer = {} if error is None else {heading: str(error).replace("±", "+/-")}
    return {**answer, **group.levels, "seed": seed}


def final_names(comparison: Comparison) -> dict[str, str]:
    """Tags of the figures after the last epoch, with the words shown for each: the main ones first.

    TensorBoard shows the first few at the start.
    """
    found: dict[str, str] = {}
    for figure, measure in product(shown_figures(comparison), comparison.measures):
        known = figure.startswith("top") or any(
            run.figure(measure, figure) is not None for run in comparison.runs
        )
        if figure == "loss" or not known:
            continue
        name = f"{comparison.name_of(measure)}/{figure}"
        found[f"final/{name}"] = name
        if measure == comparison.main and figure == measure.figure():
            found |= {"final/std": "std over seeds", "final/seeds": "seeds"}
    return {**found, "final/train_minutes": "training minutes", "final/gigapixels": "gigapixels seen"}


def final_figures(run: Run, comparison: Comparison) -> dict[str, float]:
    """Errors of a run after the last epoch and what it cost, by tag; without those that are not known."""
    figures: dict[str, float | None] = {}
    for measure, (top1, top5) in run.errors.items():
        tag = f"final/{comparison.name_of(measure)}"
        figures[f"{tag}/{measure.figure()}"] = top1
        figures[f"{tag}/top5_error"] = None if top5 != top5 else top5  # not a number: not measured
        for figure in figures_of(comparison):
            figures[f"{tag}/{figure}"] = run.figure(measure, figure)
    for tag, key, scale in (
        ("final/train_minutes", "train_seconds", 60.0),
        ("final/gigapixels", "pixels_seen", 1e9),
    ):
        value = run.last(key)
        figures[tag] = None if value is None else value / scale
    shown = final_names(comparison)
    return {tag: value for tag, value in figures.items() if tag in shown and value is not None}
