"""The pictures of the plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from arms import MAIN
from matplotlib.figure import Figure
from rows import ENDINGS, HERE, Measured, Side, crop, mean, over_range

from sppcls.comparison.statistics import mean_and_std

# Okabe and Ito's colours, as in the reports of `sppcls compare`.
BLUE, GREEN, ORANGE, RED, PINK, LIGHT = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#56B4E9"
SMALL = {"frameon": False, "fontsize": "small"}


class Line(NamedTuple):
    """How an arm that was trained at certain sizes is drawn."""

    label: str
    colour: str


FIRST = {
    "single": Line("112", BLUE),
    "pair": Line("90, 112 by epoch", GREEN),
    "wide": Line("56, 80, 112 by epoch", ORANGE),
    "random": Line("48 to 144 by batch", RED),
    "wide_long": Line("56, 80, 112, longer", PINK),
}
LATER = {
    "one": Line("112", BLUE),
    "random": Line("56 to 160 by batch", RED),
    "wide": Line("56, 80, 112 by epoch, longer", ORANGE),
    "growing": Line("64 growing to 140", PINK),
}
FIRST_POOLINGS = {
    "bins1": "global\n(1)", "bins5": "2-1\n(5)", "own": "own last pooling\n(9)", "bins14": "3-2-1\n(14)",
    "bins21": "4-2-1\n(21)", "bins30": "4-3-2-1\n(30)", "single": "6-3-2-1\n(50)",
}  # fmt: skip
POOLINGS = {
    "max1": "max\n1", "mean1": "mean\n1", "bins5": "2-1\n5", "own": "own\n9", "bins14": "3-2-1\n14", "bins21": "4-2-1\n21",
    "bins30": "4-3-2-1\n30", "one": "6-3-2-1\n50", "resnet_own": "ResNet\nmean, 1", "resnet_bins21": "ResNet\n4-2-1, 21",
}  # fmt: skip
RESNETS = {
    "resnet_own": "global mean\n1", "resnet_means21": "4-2-1 of means\n21", "resnet_bins21": "4-2-1 of maxima\n21",
}  # fmt: skip
NO_PYRAMID = ("own", "max1", "mean1", "resnet_own", "both_own", "both_mean1")


def panel(height: float = 3.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    style(axes)
    return figure, axes


def style(axes: Any) -> None:
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, name: str) -> None:
    figure.savefig(HERE / f"{name}.png", dpi=130)


def band(
    axes: Any, sizes: Sequence[int], errors: Sequence[dict[int, float]], colour: str, **style: Any
) -> None:
    stats = [mean_and_std(list(e.values())) for e in errors]
    mean, std = np.array([m for m, _ in stats]), np.array([s or 0 for _, s in stats])
    axes.plot(sizes, mean, color=colour, ms=4, **style)
    axes.fill_between(sizes, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)


def draw_sizes(found: Measured, lines: dict[str, Line], name: str) -> None:
    """Error against the tested size; the first of the lines also with photos resized to its training size."""
    figure, axes = panel(4.0)
    crosses = False
    for arm, line in lines.items():
        sizes = found.sizes("crop", arm)
        if len(sizes) > 1:
            errors = [found.errors[crop(arm, size)] for size in sizes]
            band(axes, sizes, errors, line.colour, marker="o", label=f"trained at {line.label}")
        anew = found.sizes("recalibrated", arm)
        if anew:
            crosses = True
            means = [mean(found.errors[Side(arm, "recalibrated", size)]) for size in anew]
            axes.plot(anew, means, "x", color=line.colour, ms=8, mew=2)
    if crosses:
        axes.plot([], [], "x", color="0.3", label="with batch norm's statistics of that size")
    base, line = next(iter(lines.items()))
    # Beyond its own size a photo is reduced to it, and at that size nothing is done.
    small = found.sizes("enlarged", base)
    shown = [*small, *(size for size in found.sizes("crop", base) if size >= MAIN)]
    resized = [found.errors[Side(base, "enlarged", size)] for size in small]
    resized += [found.errors[crop(base)]] * (len(shown) - len(small))
    label = f"trained at {line.label}, photos resized to {MAIN}"
    band(axes, shown, resized, line.colour, ls="--", marker="s", label=label)
    axes.set(xlabel="size of the photo that is tested, pixels", ylabel="top-1 error, %", xscale="log")
    ticks = found.sizes("crop")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.legend(**SMALL, title="mean ± std over seeds", title_fontsize="small")
    save(figure, name)


def bars(axes: Any, groups: Sequence[tuple[str, dict[int, float], str]]) -> None:
    """A dot for each seed and a line for the mean, by (label, error by seed, colour)."""
    for place, (_, found, colour) in enumerate(groups):
        values = list(found.values())
        axes.plot([place] * len(values), values, "o", color=colour, ms=4, alpha=0.6)
        axes.plot([place - 0.25, place + 0.25], [mean(found)] * 2, color=colour, lw=3)
    axes.set_xticks(range(len(groups)), [label for label, _, _ in groups])
    axes.set(ylabel="top-1 error, %")
    axes.grid(axis="x", visible=False)


def draw_poolings(found: Measured, labels: dict[str, str], name: str, xlabel: str) -> None:
    groups = [
        (label, found.errors[crop(arm)], LIGHT if arm in NO_PYRAMID else BLUE)
        for arm, label in labels.items()
        if found.enough(crop(arm))
    ]
    if not groups:
        return
    figure, axes = panel()
    bars(axes, groups)
    if labels is POOLINGS:
        axes.tick_params(axis="x", labelsize="small")
    axes.set(xlabel=xlabel)
    save(figure, name)


Dots = Sequence[tuple[str, Side, str]]
"""(label, whose errors, colour)."""


def draw_panels(found: Measured, panels: dict[str, Dots], name: str) -> None:
    """Two panels side by side, by title."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    for axes, (title, dots) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        style(axes)
        bars(
            axes, [(label, found.errors[side], colour) for label, side, colour in dots if found.enough(side)]
        )
        axes.set_title(title, fontsize="medium")
        axes.tick_params(axis="x", labelsize="small")
    save(figure, name)


def halved() -> dict[str, Dots]:
    """All photos beside half of them: two poolings at one size, and two ways to train over all sizes."""
    shares = (("", "all"), ("half_", "half"))
    pools = {"own": ("own, 9", LIGHT), "one": ("6-3-2-1", BLUE)}
    sizes = {"one": ("one size", BLUE), "random": ("many", RED)}
    return {
        title: [
            (f"{label}\n{share}", figure_of(prefix + arm), colour)
            for arm, (label, colour) in arms.items()
            for prefix, share in shares
        ]
        for title, figure_of, arms in (
            ("error at 112", crop, pools),
            ("mean error of five sizes", over_range, sizes),
        )
    }


BOTH: dict[str, Dots] = {
    "error at 112": [("own, 9", crop("both_own"), LIGHT), ("6-3-2-1", crop("both_one"), BLUE)],
    "mean error of five sizes": [
        ("global mean", over_range("both_mean1"), LIGHT),
        ("6-3-2-1", over_range("both_one"), BLUE),
        ("6-3-2-1,\n56, 80, 112", over_range("both_wide"), ORANGE),
    ],
}


def draw_two_arms(
    found: Measured,
    arms: dict[str, Line],
    tests: dict[str, tuple[str, int]],
    name: str,
    *,
    above: float = 0.0,
) -> None:
    """One arm beside another in several tests, by label."""
    groups = [
        (label, found.errors[Side(arm, *test)], line.colour)
        for arm, line in arms.items()
        for label, test in tests.items()
        if found.enough(Side(arm, *test))
    ]
    if not groups:
        return
    figure, axes = panel()
    bars(axes, groups)
    for line in arms.values():
        axes.plot([], [], color=line.colour, lw=3, label=f"trained at {line.label}")
    axes.tick_params(axis="x", labelsize="small")
    if above:
        axes.set_ylim(top=axes.get_ylim()[1] + above)
        axes.legend(**SMALL, loc="upper left", ncols=2)
    else:
        axes.legend(**SMALL)
    save(figure, name)


def draw_ensembles(rows: Sequence[dict[str, str]]) -> None:
    figure, axes = panel()
    kinds = {
        "single": ("o", BLUE, "trained at 112"),
        "random": ("s", RED, "trained at 48 to 144"),
        "mixed": ("^", GREEN, "half of each"),
    }
    for kind, (marker, colour, label) in kinds.items():
        mine = [row for row in rows if row["kind"] == kind]
        k, error = [int(row["k"]) for row in mine], [float(row["mean_error"]) for row in mine]
        axes.plot(k, error, marker=marker, color=colour, label=label)
    axes.set(xlabel="networks whose scores are averaged", ylabel="top-1 error, %")
    axes.set_xticks(sorted({int(row["k"]) for row in rows}))
    axes.legend(**SMALL)
    save(figure, "ensembles")


def layers(*names: str) -> dict[str, tuple[str, int]]:
    return {f"{layer}\n{view}": (f"{layer} {view}", 0) for layer in names for view in ("crop", "full")}


def draw(plan: int, found: Measured, transfer: Measured, ensembles: Sequence[dict[str, str]]) -> None:
    """The pictures of a plan; ``ensembles`` are of the first."""
    heads = "all heads have 0.9 million parameters"
    if plan < 5:
        draw_sizes(found, FIRST if plan == 1 else LATER, f"sizes{ENDINGS[plan]}")
    labels = {1: FIRST_POOLINGS, 4: RESNETS, 5: RESNETS}.get(plan, POOLINGS)
    bins = "pooling of a narrow ResNet-18" if plan >= 4 else "last pooling"
    draw_poolings(found, labels, f"pyramids{ENDINGS[plan]}", f"{bins} and its bins; {heads}")
    if plan == 1:
        two = {arm: FIRST[arm] for arm in ("single", "random")}
        views = {"crop\n112": ("crop", 112), "whole\n128": ("full", 128), "warped\n128": ("warp", 128), "warped\n112": ("warp", 112)}  # fmt: skip
        draw_two_arms(found, two, views, "views")
        draw_two_arms(transfer, two, layers("spp", "fc6", "fc7"), "transfer", above=1.0)
        draw_ensembles(ensembles)
    elif plan == 3:
        draw_panels(found, halved(), "halves3")
    elif plan == 4:
        draw_panels(found, BOTH, "both4")
    if plan >= 4:
        two = {f"flowers_{arm}": LATER[arm] for arm in ("one", "wide")}
        draw_two_arms(transfer, two, layers("spp", "fc6"), f"transfer{ENDINGS[plan]}", above=1.0)
