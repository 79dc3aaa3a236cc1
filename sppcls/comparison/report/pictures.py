"""Pictures of a comparison: error against size, error against what it cost, and the groups side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sppcls.comparison.answers import TEST_BEST, Measure
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.statistics import mean_and_std

_COLOURS = ("#1f5fa8", "#c8501e", "#2e8540", "#7a3e9d", "#8c6d1f", "#444444", "#c2185b", "#00838f")
_MARKERS = "os^Dv<>P"
_BAND = "line: mean, band: ± std over the seeds"


def pictures(comparison: Comparison) -> dict[str, tuple[str, Figure]]:
    """Every picture that the runs give enough for: file name without ending, to caption and figure."""
    found = {
        "error_by_group": (_bars_caption(comparison), bars(comparison)),
        "error_by_size": (
            "Top-1 error after the last epoch against the size of the test images. Dashed: sizes trained at.",
            error_by_size(comparison),
        ),
        "error_by_cost": (
            "Top-1 error during training, at the main size, against training pixels and against time spent in "
            f"training steps.{_pixels_of_sizes(comparison)}",
            error_by_cost(comparison),
        ),
    }
    return {name: (caption, figure) for name, (caption, figure) in found.items() if figure is not None}


# --- the groups side by side


def bars(comparison: Comparison) -> Figure:
    """Mean error under the main measure: a bar for each group, its std, and a dot for every seed."""
    groups = _in_order(comparison)
    names = [_bar_label(group, comparison) for group in groups]
    height = 1.3 + 0.5 * len(groups)
    figure = Figure(figsize=(7.5, height), layout="constrained")
    axes = figure.subplots()
    for place, group in enumerate(groups):
        values = list(group.errors(comparison.main).values())
        if not values:
            continue
        mean, std = mean_and_std(values)
        colour = _colour(comparison, group)
        axes.barh(place, mean, 0.62, color=colour, alpha=0.35, linewidth=0)
        axes.errorbar(mean, place, xerr=std or 0, color=colour, capsize=5, linewidth=1.6)
        spread = [
            place + 0.16 * (i - (len(values) - 1) / 2) / max(1, len(values) - 1) for i in range(len(values))
        ]
        axes.plot(values, spread, "o", ms=4, color=colour, markeredgecolor="white", markeredgewidth=0.5)
        text = f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")
        axes.annotate(
            text, (max(*values, mean + (std or 0)), place), (7, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(groups)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, axes.get_xlim()[1] * 1.12)
    axes.set_xlabel(f"top-1 error, %, {comparison.main} (bar: mean, whisker: ± std, dots: seeds)")
    _clean(axes, "x")
    return figure


def _bars_caption(comparison: Comparison) -> str:
    text = f"Top-1 error after the last epoch, {comparison.main}"
    return f"{text}, from few bins of the pyramid to many." if _is_ablation(comparison) else f"{text}."


def _is_ablation(comparison: Comparison) -> bool:
    return "pyramid.levels" in comparison.factors.get("pyramid", [])


def _in_order(comparison: Comparison) -> list[Group]:
    """A pyramid ablation by number of bins, the network without SPP first; anything else as it came."""
    if not _is_ablation(comparison):
        return comparison.groups
    return sorted(comparison.groups, key=lambda group: _bins(group) or 0)


def _bins(group: Group) -> int | None:
    levels = group.values.get("pyramid.levels")
    if not isinstance(levels, list):
        return None
    return sum(n * n if isinstance(n, int) else n[0] * n[1] for n in levels)


def _bar_label(group: Group, comparison: Comparison) -> str:
    if not _is_ablation(comparison):
        return group.label
    bins = _bins(group)
    return f"{group.label}\n{'no pyramid' if bins is None else f'{bins} bin' + 's' * (bins != 1)}"


# --- error against size


def error_by_size(comparison: Comparison) -> Figure | None:
    """A panel for each protocol that was tested at two sizes or more, a line for each group; None if there is none."""
    after_last = [m for m in comparison.measures if m.side and m.images != TEST_BEST]
    sizes: dict[str, set[int]] = {}
    for group in comparison.groups:
        for measure in after_last:
            if group.errors(measure):
                sizes.setdefault(measure.view, set()).add(measure.side)
    views = [view for view, found in sizes.items() if len(found) > 1]
    if not views:
        return None
    figure = Figure(figsize=(max(7.5, 4.7 * len(views)), 4.4), layout="constrained")
    panels = figure.subplots(1, len(views), sharey=True, squeeze=False)[0]
    for axes, view in zip(panels, views, strict=True):
        for size in _trained_sizes(comparison):
            axes.axvline(size, color="0.7", linewidth=1, linestyle="--", zorder=0)
        for group in comparison.groups:
            measures = sorted(
                (m for m in after_last if m.view == view and group.errors(m)),
                key=lambda m: m.side,
            )
            errors = [list(group.errors(m).values()) for m in measures]
            _line(axes, comparison, group, [float(m.side) for m in measures], errors)
        axes.set(title=view, xlabel="test size, pixels")
        _clean(axes, "both")
    panels[0].set_ylabel("top-1 error, %")
    _legend(figure, panels[0], comparison)
    return figure


def _trained_sizes(comparison: Comparison) -> list[int]:
    found = set()
    for group in comparison.groups:
        for size in group.runs[0].config["sizes"]["sizes"]:
            found.add(size if isinstance(size, int) else min(size))
    return sorted(found)


# --- error against what it cost


def _pixels_of_sizes(comparison: Comparison) -> str:
    sizes = _trained_sizes(comparison)
    if len(sizes) < 2:
        return ""
    share = 100 * (sizes[0] / sizes[-1]) ** 2
    return f" An epoch at {sizes[0]} has {share:.0f} % of the pixels of one at {sizes[-1]}."


def error_by_cost(comparison: Comparison) -> Figure | None:
    """Learning curves against pixels and against time; None if nothing was counted."""
    costs: list[tuple[str, str, float]] = [
        ("pixels_seen", "training pixels seen, 10⁹", 1e9),
        ("train_seconds", "time in training steps, minutes", 60),
    ]
    runs = [run for group in comparison.groups for run in group.runs]
    known = [cost for cost in costs if any(run.last(cost[0]) is not None for run in runs)]
    if not known:
        return None
    figure = Figure(figsize=(max(7.5, 5 * len(known)), 4.4), layout="constrained")
    panels = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for axes, (key, label, scale) in zip(panels, known, strict=True):
        for group in comparison.groups:
            x, errors = _learning_curve(group, comparison.main, key, scale)
            _line(axes, comparison, group, x, errors, ms=3)
        axes.set(xlabel=label)
        axes.set_xlim(left=0)
        _clean(axes, "both")
    panels[0].set_ylabel(f"top-1 error, %, {comparison.main}")
    _legend(figure, panels[0], comparison)
    return figure


def _learning_curve(
    group: Group, measure: Measure, key: str, scale: float
) -> tuple[list[float], list[list[float]]]:
    """Cost (mean over the seeds) and errors of every seed, by validated epoch."""
    runs = [run for run in group.runs if run.column(measure) and run.last(key) is not None]
    x, errors = [], []
    for rows in zip(*(run.rows for run in runs), strict=False):
        columns = [run.column(measure) or "" for run in runs]
        found = [row[column] for row, column in zip(rows, columns, strict=True)]
        spent = [row[key] for row in rows]
        known = [
            (cost, error)
            for cost, error in zip(spent, found, strict=True)
            if cost is not None and error is not None
        ]
        if known and len(known) == len(runs):
            x.append(math.fsum(cost for cost, _ in known) / len(known) / scale)
            errors.append([error for _, error in known])
    return x, errors


# --- drawing


def _line(
    axes: Axes,
    comparison: Comparison,
    group: Group,
    x: Sequence[float],
    errors: Sequence[list[float]],
    ms: float = 4.5,
) -> None:
    if not x:
        return
    spread = [mean_and_std(values) for values in errors]
    colour, number = _colour(comparison, group), comparison.groups.index(group)
    mean = [m for m, _ in spread]
    axes.plot(
        x,
        mean,
        color=colour,
        marker=_MARKERS[number % len(_MARKERS)],
        ms=ms,
        linewidth=1.5,
        label=group.label,
    )
    low, high = [m - (s or 0) for m, s in spread], [m + (s or 0) for m, s in spread]
    if len(x) == 1:  # a band has no width there
        axes.vlines(x, low, high, color=colour, alpha=0.5, linewidth=2.5)
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)


def _colour(comparison: Comparison, group: Group) -> str:
    return _COLOURS[comparison.groups.index(group) % len(_COLOURS)]


def _legend(figure: Figure, axes: Axes, comparison: Comparison) -> None:
    """Below the panels, where no line can pass behind it."""
    handles = {}
    for panel in figure.axes:
        lines, names = panel.get_legend_handles_labels()
        handles.update(dict(zip(names, lines, strict=True)))
    seeds = {group.label: len(group.runs) for group in comparison.groups}
    shown = [group.label for group in comparison.groups if group.label in handles]
    figure.legend(
        [handles[name] for name in shown],
        [f"{name} ({seeds[name]} seed{'s' * (seeds[name] != 1)})" for name in shown],
        loc="outside lower center",
        ncols=min(3, len(shown)),
        frameon=False,
        title=_BAND,
        title_fontsize="small",
    )


def _clean(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="0.92")  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
