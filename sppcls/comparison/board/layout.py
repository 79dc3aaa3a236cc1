"""How TensorBoard lays a comparison out: the charts of Custom Scalars, the columns of HParams, what is pinned."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2

from sppcls.comparison.answers import Measure
from sppcls.comparison.board.curves import curve_names, shown_figures
from sppcls.comparison.board.events import HParam
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.runs import Run


def categories(comparison: Comparison) -> list[layout_pb2.Category]:
    """Charts that overlay all groups: each figure at each size, and the axes that it is drawn against.

    Those of the top-1 error are open at first; all at once would take a browser long to draw.
    """
    names = {str(measure): name for measure, name in curve_names(comparison).items()}
    found = []
    for number, (figure, words) in enumerate(shown_figures(comparison).items()):
        bands = [_band(measure, f"seeds_{name}/{figure}") for measure, name in names.items()]
        lines = [
            _lines(f"{measure}, against {axis}", f"{name}{ending}/{figure}")
            for ending, axis in _AXES.items()
            for measure, name in names.items()
        ]
        title = words[0].upper() + words[1:]
        for what, charts in (
            ("means, bands of ± std over the seeds", bands),
            ("every run, and the means", lines),
        ):
            found.append(layout_pb2.Category(title=f"{title}: {what}", chart=charts, closed=number > 0))
    return found


_AXES = {"": "epochs", "_by_pixels": "training pixels seen", "_by_seconds": "seconds of training"}


def _band(title: str, tag: str) -> layout_pb2.Chart:
    series = layout_pb2.MarginChartContent.Series(
        value=f"{tag}_mean", lower=f"{tag}_lower", upper=f"{tag}_upper"
    )
    return layout_pb2.Chart(
        title=f"{title}, against epochs", margin=layout_pb2.MarginChartContent(series=[series])
    )


def _lines(title: str, tag: str) -> layout_pb2.Chart:
    return layout_pb2.Chart(
        title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{re.escape(tag)}$"])
    )


def links(comparison: Comparison) -> dict[str, str]:
    """What to add to TensorBoard's address for each of its pages, so that it opens as meant for this comparison.

    On Time Series: nothing smoothed, runs of a group and their mean in one colour, the errors at every size pinned.
    """
    pinned = [{"plugin": "scalars", "tag": f"{name}/top1_error"} for name in curve_names(comparison).values()]
    query = {
        "smoothing": "0",
        "runColorGroup": r"regex:^[^/]+/(.+?)(?:-seed\d+)?$",
        "pinnedCards": json.dumps(pinned, separators=(",", ":")),
    }
    return {
        "Time Series": f"?{'&'.join(f'{key}={quote(value)}' for key, value in query.items())}#timeseries",
        "Custom Scalars": "#custom_scalars&_smoothingWeight=0",
        "HParams": "#hparams",
        "Images": "#images",
        "Text": "#text",
    }


# --- HParams


def columns(comparison: Comparison) -> list[api_pb2.HParamInfo]:
    """The keys that differ between groups, and the seed; TensorBoard sorts them by name."""
    rows = [hparam_values(comparison, group, seed) for group in comparison.groups for seed in _seeds(group)]
    found = []
    for key, first in rows[0].items():
        info = api_pb2.HParamInfo(name=key, differs=True)
        if isinstance(first, str):
            info.type = api_pb2.DATA_TYPE_STRING
            info.domain_discrete.extend(dict.fromkeys(row[key] for row in rows))
        elif isinstance(first, bool):
            info.type = api_pb2.DATA_TYPE_BOOL
            info.domain_discrete.extend([False, True])
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
            info.domain_interval.min_value = min(float(row[key]) for row in rows)
            info.domain_interval.max_value = max(float(row[key]) for row in rows)
        found.append(info)
    return found


def _seeds(group: Group) -> list[str]:
    return [*map(str, group.seeds), f"mean of {len(group.runs)}"]


def hparam_values(comparison: Comparison, group: Group, seed: str) -> dict[str, HParam]:
    """The row of a run of ``group``. A key is a number or a bool only where it is one in every group."""
    values: dict[str, HParam] = {}
    for key, value in group.values.items():
        kinds = {type(other.values[key]) for other in comparison.groups}
        values[key] = value if kinds <= {int, float} or kinds == {bool} else _text(value)
    return {**values, "seed": seed}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "none" if value is None else str(value)


def final_names(comparison: Comparison) -> dict[str, str]:
    """Tags of the figures after the last epoch, with the words shown for each."""
    figures = {figure: words for figure, words in shown_figures(comparison).items() if figure != "loss"}
    found = {
        _final_tag(measure, figure): f"{words}, {measure}"
        for figure, words in figures.items()
        for measure in comparison.measures
    }
    return {**found, "final/train_minutes": "training minutes", "final/gigapixels": "gigapixels seen"}


def final_figures(run: Run, comparison: Comparison) -> dict[str, float]:
    """Errors of a run after the last epoch and what it cost, by tag; without those that are not known."""
    figures: dict[str, float | None] = {}
    for measure, (top1, top5) in run.errors.items():
        figures[_final_tag(measure, "top1_error")] = top1
        figures[_final_tag(measure, "top5_error")] = (
            None if top5 != top5 else top5
        )  # not a number: not measured
    for tag, key, scale in (
        ("final/train_minutes", "train_seconds", 60.0),
        ("final/gigapixels", "pixels_seen", 1e9),
    ):
        value = run.last(key)
        figures[tag] = None if value is None else value / scale
    shown = final_names(comparison)
    return {tag: value for tag, value in figures.items() if tag in shown and value is not None}


def _final_tag(measure: Measure, figure: str) -> str:
    images = f"{measure.images}_" if measure.images else ""
    return f"final/{figure}_{images}{measure.protocol}_{measure.size}"
