"""Pictures of a comparison: differences, errors of the groups, error against size and against what it cost."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sppcls.comparison.answers import TEST_BEST, Measure
from sppcls.comparison.equal_cost import COSTS
from sppcls.comparison.findings import Finding, Verdict
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.labels import LONGEST
from sppcls.comparison.statistics import mean_and_std
from sppcls.comparison.style import style_of

_BAND = "line: mean, band: ± std over the {}s"
_SHOWN, _NOT_SHOWN = "#111111", "#777777"
DPI = 150


def png(figure: Figure) -> bytes:
    """A picture as a PNG file."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # of names in other scripts
        figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def pictures(comparison: Comparison, found: Sequence[Finding]) -> dict[str, tuple[str, Figure]]:
    """Every picture that the runs give enough for: file name without ending, to caption and figure; ``found`` is what the
    pairs show under the main measure, top-1."""
    each = f"{comparison.unit}s"
    drawn = {
        "differences": (
            f"Each difference with its 95 % interval over the {each}; small dots: {each}. Black: shown. Grey: not shown.",
            differences(found),
        ),
        "error_by_group": (
            f"Dots: {each}. Line: mean ± standard deviation over the {each}.{_guessing_words(comparison)}",
            by_group(comparison),
        ),
        "error_by_size": (
            "Error after the last epoch against the size of the tested images. Dashed: sizes trained at."
            f"{_guessing_words(comparison)}",
            error_by_size(comparison),
        ),
        "error_by_cost": (
            "Error during training against training pixels and against time spent in training steps. Dotted: the cost "
            f"that all groups have reached; there they have cost the same.{_pixels_of_sizes(comparison)}"
            f"{_guessing_words(comparison)}",
            error_by_cost(comparison),
        ),
    }
    return {name: (caption, figure) for name, (caption, figure) in drawn.items() if figure is not None}


# --- differences


def differences(found: Sequence[Finding]) -> Figure | None:
    """A dot and its interval for every finding, the zero line marked; None without findings."""
    if not found:
        return None
    figure = Figure(figsize=(6.5, 1.2 + 0.42 * len(found)), layout="constrained")
    axes = figure.subplots()
    for place, finding in enumerate(found):
        colour = _NOT_SHOWN if finding.verdict == Verdict.NOT_SHOWN else _SHOWN
        seeds, pooled = finding.seeds, len(finding.pairs) > 1
        if seeds.interval is not None:
            axes.plot(seeds.interval, [place, place], color=colour, linewidth=3.2 if pooled else 1.8)
        else:  # or it would look like the surest of all
            axes.annotate("no interval", (max(seeds.by_seed.values()), place), (9, 0),
                          textcoords="offset points", va="center", color=colour)  # fmt: skip
        values = list(seeds.by_seed.values())
        axes.plot(values, [place] * len(values), "o", ms=3.5, color="white", markeredgecolor=colour)
        axes.plot([seeds.mean], [place], "D" if pooled else "o", ms=9 if pooled else 7, color=colour)
    axes.axvline(0, color="black", linewidth=1)
    names = [f.label.replace(", ", "\n", 1) for f in found]
    names = [n.replace(" - ", "\n- ", 1) if len(n.partition("\n")[0]) > LONGEST else n for n in names]
    axes.set_yticks(range(len(found)), names, parse_math=False)
    axes.set_ylim(len(found) - 0.4, -0.6)
    figure.suptitle(f"Differences in {found[0].measure.in_words(found[0].top)}", fontsize="large")
    # Of the whole figure: the axes may be narrow beside long names.
    figure.supxlabel(
        "percentage points, with 95 % intervals\nleft of 0: the first named has fewer errors",
        fontsize="medium",
    )
    _clean(axes, "x")
    return figure


# --- the groups side by side


def by_group(comparison: Comparison) -> Figure:
    """Error under the main measure: a dot for every seed, and mean ± std of every group, in the order of the tables."""
    groups = comparison.groups
    figure = Figure(figsize=(7.5, 1.2 + 0.42 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for place, group in enumerate(groups):
        values = list(group.errors(comparison.main).values())
        if not values:
            continue
        mean, std = mean_and_std(values)
        colour, marker, _ = style_of(comparison, group)
        axes.plot(values, [place] * len(values), "o", ms=4, color=colour, alpha=0.45, linewidth=0)
        axes.errorbar(mean, place, xerr=std or 0, fmt=marker, ms=8, color=colour, capsize=5, linewidth=2)
        text = f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")
        right = max(*values, mean + (std or 0))
        axes.annotate(text, (right, place), (9, 0), textcoords="offset points", va="center")
    pyramids = "pyramid" in comparison.factors
    names = [_with_bins(group) if pyramids else group.label for group in groups]
    axes.set_yticks(range(len(groups)), names, parse_math=False)
    axes.invert_yaxis()
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.25 * (high - low))
    _guessing_line(axes, comparison, across=False)
    axes.margins(y=0.15)
    figure.suptitle(f"After the last epoch: {comparison.main.in_words()}", fontsize="large")
    axes.set_xlabel("%")
    _clean(axes, "x")
    return figure


def _with_bins(group: Group) -> str:
    count = group.runs[0].bins
    return f"{group.label}\n{'no pyramid' if count is None else f'{count} bin' + 's' * (count != 1)}"


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
            tested = (m for m in after_last if m.view == view and group.errors(m))
            measures = sorted(tested, key=lambda measure: measure.side)
            errors = [list(group.errors(m).values()) for m in measures]
            _line(axes, comparison, group, [float(m.side) for m in measures], errors)
        error = comparison.main.error()
        title = f"{error[0].upper()}{error[1:]}, {'centre view' if view == 'center' else view}"
        axes.set(title=title, xlabel="test size, pixels")
        _guessing_line(axes, comparison)
        _clean(axes, "both")
    panels[0].set_ylabel(f"{comparison.main.error()}, %")
    _legend(figure, comparison)
    return figure


def _trained_sizes(comparison: Comparison) -> list[int]:
    sizes = (size for group in comparison.groups for size in group.runs[0].sizes)
    return sorted({size if isinstance(size, int) else min(size) for size in sizes})


# --- error against what it cost


def _pixels_of_sizes(comparison: Comparison) -> str:
    sizes = _trained_sizes(comparison)
    if len(sizes) < 2:
        return ""
    share = 100 * (sizes[0] / sizes[-1]) ** 2
    return f" An epoch at {sizes[0]} has {share:.0f} % of the pixels of one at {sizes[-1]}."


def error_by_cost(comparison: Comparison) -> Figure | None:
    """Learning curves against pixels and against time; None if nothing was counted."""
    known = [cost for cost in COSTS if cost.common(comparison) is not None]
    if not known:
        return None
    figure = Figure(figsize=(max(7.5, 5 * len(known)), 4.4), layout="constrained")
    panels = figure.subplots(1, len(known), sharey=True, squeeze=False)[0]
    for axes, cost in zip(panels, known, strict=True):
        for group in comparison.groups:
            x, errors = _learning_curve(group, comparison.main, cost.key, cost.scale)
            _line(axes, comparison, group, x, errors, ms=3)
        axes.axvline(cost.common(comparison) or 0, color="0.6", linewidth=1, linestyle=":", zorder=0)
        axes.set(xlabel=cost.axis)
        _guessing_line(axes, comparison)
        axes.set_xlim(left=0)
        _clean(axes, "both")
    panels[0].set_ylabel(f"{comparison.main.error()}, %")
    figure.suptitle(comparison.main.in_words().capitalize(), fontsize="medium")
    _legend(figure, comparison)
    return figure


def _learning_curve(
    group: Group, measure: Measure, key: str, scale: float
) -> tuple[list[float], list[list[float]]]:
    """Cost (mean over the seeds) and errors of every seed, by validated epoch."""
    runs = [run for run in group.runs if run.column(measure) and run.last(key) is not None]
    x, errors = [], []
    for rows in zip(*(run.rows for run in runs), strict=False):
        columns = [run.column(measure) or "" for run in runs]
        points = [(row[key], row[column]) for row, column in zip(rows, columns, strict=True)]
        known = [(cost, error) for cost, error in points if cost is not None and error is not None]
        if known and len(known) == len(runs):
            x.append(fmean(cost for cost, _ in known) / scale)
            errors.append([error for _, error in known])
    return x, errors


# --- drawing


def _guessing_words(comparison: Comparison) -> str:
    level = comparison.guessing
    how = (
        "the same scores for every image" if comparison.main.multi_label else "always the most frequent class"
    )
    return "" if level is None else f" Guessing, {how}: {level:.1f} %."


def _guessing_line(axes: Axes, comparison: Comparison, across: bool = True) -> None:
    """The level of guessing, where the data leave it on the axes: they are not stretched for it."""
    level = comparison.guessing
    limits = axes.get_ylim() if across else axes.get_xlim()
    room = 0.1 * abs(limits[1] - limits[0])
    if level is None or not min(limits) - room <= level <= max(limits) + room:
        return
    draw = axes.axhline if across else axes.axvline
    draw(level, color="0.45", linewidth=1, linestyle=(0, (1, 2)), zorder=0)
    x, y, transform = (1.0, level, axes.get_yaxis_transform())
    if not across:
        x, y, transform = (level, 0.0, axes.get_xaxis_transform())
    axes.text(
        x, y, "guessing", transform=transform, rotation=0 if across else 90, color="0.4", fontsize="small",
        ha="right", va="bottom",
    )  # fmt: skip


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
    colour, marker, line = style_of(comparison, group)
    mean = [m for m, _ in spread]
    axes.plot(x, mean, color=colour, marker=marker, ms=ms, linestyle=line, linewidth=1.5, label=group.label)
    low, high = [m - (s or 0) for m, s in spread], [m + (s or 0) for m, s in spread]
    if len(x) == 1:  # a band has no width there
        axes.vlines(x, low, high, color=colour, alpha=0.5, linewidth=2.5)
    axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)


def _legend(figure: Figure, comparison: Comparison) -> None:
    """Below the panels, where no line can pass behind it."""
    handles = {}
    for panel in figure.axes:
        lines, names = panel.get_legend_handles_labels()
        handles.update(dict(zip(names, lines, strict=True)))
    seeds = {group.label: len(group.runs) for group in comparison.groups}
    shown = [group.label for group in comparison.groups if group.label in handles]
    names = [f"{name} ({seeds[name]} {comparison.unit}{'s' * (seeds[name] != 1)})" for name in shown]
    across = int(12 * figure.get_size_inches()[0] / (6 + max(map(len, names), default=0)))
    figure.legend(
        [handles[name] for name in shown],
        names,
        loc="outside lower center",
        ncols=max(1, min(3, len(shown), across)),
        frameon=False,
        title=_BAND.format(comparison.unit),
        title_fontsize="small",
    )


def _clean(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="0.92")  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
