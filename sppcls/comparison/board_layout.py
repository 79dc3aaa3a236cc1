"""What TensorBoard's Custom Scalars and HParams pages show of a comparison: which charts, which columns."""

from __future__ import annotations

import re
from typing import Any

from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2

from sppcls.comparison.board_events import HParam
from sppcls.comparison.groups import Comparison, Group

_FIGURES = {"top1_error": "Top-1 error in %", "top5_error": "Top-5 error in %", "loss": "Loss"}


def charts(comparison: Comparison) -> dict[str, list[layout_pb2.Chart]]:
    """Charts that overlay all groups, by category: the figures, and the axes that they are drawn against."""
    sizes = _sizes(comparison)
    found: dict[str, list[layout_pb2.Chart]] = {}
    for figure, title in _FIGURES.items():
        if figure == "top5_error" and not _has_top5(comparison):
            continue
        found[f"{title}: mean of the seeds, lowest to highest"] = [
            _band(f"at {size}, against epochs", f"seeds_at_{size}/{figure}") for size in sizes
        ]
        found[f"{title}: every run and the means"] = [
            _lines(f"at {size}, against {words}", f"at_{size}{ending}/{figure}")
            for ending, words in (
                ("", "epochs"),
                ("_by_pixels", "training pixels seen"),
                ("_by_seconds", "seconds of training"),
            )
            for size in sizes
        ]
    return found


def _band(title: str, tag: str) -> layout_pb2.Chart:
    series = layout_pb2.MarginChartContent.Series(
        value=f"{tag}_mean", lower=f"{tag}_lowest", upper=f"{tag}_highest"
    )
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))


def _lines(title: str, tag: str) -> layout_pb2.Chart:
    return layout_pb2.Chart(
        title=title, multiline=layout_pb2.MultilineChartContent(tag=[f"^{re.escape(tag)}$"])
    )


def _sizes(comparison: Comparison) -> list[str]:
    """Sizes at which some run was validated while it was trained."""
    runs = [run for group in comparison.groups for run in group.runs]
    return list(dict.fromkeys(m.size for m in comparison.measures if any(run.column(m) for run in runs)))


def _has_top5(comparison: Comparison) -> bool:
    """Whether the top-5 error says anything: with at most five classes it is 0."""
    runs = [run for group in comparison.groups for run in group.runs]
    return any(top5 > 0 for run in runs for _, top5 in run.errors.values())


# --- HParams


def columns(comparison: Comparison) -> list[api_pb2.HParamInfo]:
    """The group, the keys that differ between groups, and the seed. TensorBoard sorts them by name."""
    rows = [hparam_values(comparison, group, str(seed)) for group in comparison.groups for seed in group.seeds]
    found = []
    for key in rows[0]:
        info = api_pb2.HParamInfo(name=key, differs=True)
        if isinstance(rows[0][key], str):
            info.type = api_pb2.DATA_TYPE_STRING
            info.domain_discrete.extend(dict.fromkeys(row[key] for row in rows))
        elif isinstance(rows[0][key], bool):
            info.type = api_pb2.DATA_TYPE_BOOL
            info.domain_discrete.extend([False, True])
        else:
            info.type = api_pb2.DATA_TYPE_FLOAT64
            info.domain_interval.min_value = min(float(row[key]) for row in rows)
            info.domain_interval.max_value = max(float(row[key]) for row in rows)
        found.append(info)
    return found


def hparam_values(comparison: Comparison, group: Group, seed: str) -> dict[str, HParam]:
    """The row of a run of ``group``. A key is a number or a bool only where it is one in every group."""
    values: dict[str, HParam] = {"group": group.label}
    for key, value in group.values.items():
        kinds = {type(other.values[key]) for other in comparison.groups}
        if kinds <= {int, float} or kinds == {bool}:
            values[key] = value
        else:
            values[key] = _text(value)
    return {**values, "seed": seed}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "none" if value is None else str(value)


def metric_names(comparison: Comparison) -> dict[str, str]:
    """Tags of the final figures, with the words shown for each."""
    found = {}
    figures = {"top1_error": "top-1 error", "top5_error": "top-5 error"}
    for figure, words in figures.items():
        if figure == "top5_error" and not _has_top5(comparison):
            continue
        for measure in comparison.measures:
            found[f"final/{measure.protocol}_{measure.size}_{figure}"] = f"{words} {measure}"
    return {**found, "final/train_minutes": "minutes of training", "final/gigapixels": "gigapixels seen"}
