"""The tables and pictures of plan2.md, from the rows that ``run.py --plan 2`` has written.

    python results/evidence/analyse2.py

Prints the tables as Markdown and writes the pictures beside this file.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from analyse import (
    COLOURS,
    FEWEST,
    HERE,
    LABELS,
    MAIN,
    Errors,
    Right,
    Side,
    band,
    bars,
    comparisons,
    crop,
    curves,
    flat,
    judge,
    load,
    markdown,
    panel,
    read,
    spread,
)

RANGE = (56, 80, MAIN, 160, 224)
SEVERAL = ("random", "wide", "growing")
COLOURS |= {"one": COLOURS["single"], "growing": "#CC79A7"}
LABELS |= {
    "one": "112", "random": "56 to 160 by batch", "wide": "56, 80, 112 by epoch, longer", "growing": "64 growing to 140",
}  # fmt: skip


def over_range(arm: str) -> Side:
    """The mean over the five sizes."""
    return Side(arm, f"mean of {RANGE[0]} to", RANGE[-1])


def gain(first: Side, second: Side) -> Side:
    """How much the second is worse than the first."""
    return Side(f"{second.arm} minus {first.arm}", second.test, second.size)


HALVED = (
    (crop("own"), crop("one"), crop("half_own"), crop("half_one")),
    (over_range("one"), over_range("random"), over_range("half_one"), over_range("half_random")),
)


def add_means(errors: Errors, right: Right) -> None:
    """The means over the five sizes, and the differences that question 9 compares."""
    for arm in {side.arm for side in errors}:
        found = [crop(arm, size) for size in RANGE]
        if all(side in errors for side in found):
            side = over_range(arm)
            errors[side] = {
                seed: float(np.mean([errors[one][seed] for one in found])) for seed in errors[found[0]]
            }
            right[side] = {
                seed: np.mean([right[one][seed] for one in found], axis=0) for seed in errors[side]
            }
    for pairs in HALVED:
        for first, second in (pairs[:2], pairs[2:]):
            if first in errors and second in errors:
                side, seeds = gain(first, second), errors[first].keys() & errors[second].keys()
                errors[side] = {seed: errors[second][seed] - errors[first][seed] for seed in seeds}
                # Rights count as 1, so that less error is more of them.
                right[side] = {
                    seed: right[second][seed].astype(float) - right[first][seed].astype(float)
                    for seed in seeds
                }


def families() -> dict[str, list[tuple[Side, Side]]]:
    """(first, second) by family, as in the plan."""
    best_of_one = {56: Side("one", "enlarged", 56), 224: crop("one")}
    ends = (56, 224)
    anew = {arm: [Side(arm, "recalibrated", size) for size in ends] for arm in ("one", "random")}
    return {
        "6a": [(over_range("one"), over_range(arm)) for arm in SEVERAL],
        "6b": [(crop("one", size), crop(arm, size)) for arm in SEVERAL for size in (56, MAIN, 224)],
        "6c": [(best_of_one[size], crop(arm, size)) for arm in SEVERAL for size in ends],
        "6d": [
            *((crop("one", size), side) for size, side in zip(ends, anew["one"], strict=True)),
            *zip(anew["one"], anew["random"], strict=True),
        ],
        "7": [
            *((crop("mean1"), crop(arm)) for arm in ("own", "one")),
            (crop("own"), crop("one")),
        ],
        "7b": [(crop("mean1"), crop(arm)) for arm in ("bins5", "bins14", "bins21", "bins30", "max1")],
        "8": [(crop("resnet_own"), crop("resnet_bins21"))],
        "9": [
            (crop("half_own"), crop("half_one")),
            (over_range("half_one"), over_range("half_random")),
            *((gain(*pairs[:2]), gain(*pairs[2:])) for pairs in HALVED),
        ],
    }


def draw_sizes(errors: Errors) -> None:
    figure, axes = panel(4.0)
    sizes = sorted({side.size for side in errors if side.test == "crop"})
    for arm in ("one", *SEVERAL):
        found = [errors.get(crop(arm, size), {}) for size in sizes]
        if all(len(e) >= FEWEST for e in found):
            band(axes, sizes, found, arm, marker="o", label=f"trained at {LABELS[arm]}")
            ends = [errors.get(Side(arm, "recalibrated", size), {}) for size in (RANGE[0], RANGE[-1])]
            if all(len(e) >= FEWEST for e in ends):
                means = [np.mean(list(e.values())) for e in ends]
                axes.plot((RANGE[0], RANGE[-1]), means, "x", color=COLOURS[arm], ms=8, mew=2)
    axes.plot([], [], "x", color="0.3", label="with batch norm's statistics of that size")
    small = [side for side in sorted(errors) if side[:2] == ("one", "enlarged")]
    shown = [*(side.size for side in small), *(size for size in sizes if size >= MAIN)]
    resized = [errors[side] for side in small] + [errors[crop("one")]] * (len(shown) - len(small))
    band(axes, shown, resized, "one", ls="--", marker="s", label="trained at 112, photos resized to 112")
    axes.set(xlabel="size of the photo that is tested, pixels", ylabel="top-1 error, %", xscale="log")
    axes.set_xticks(sizes, map(str, sizes))
    axes.minorticks_off()
    axes.legend(frameon=False, title="mean ± std over seeds", title_fontsize="small", fontsize="small")
    figure.savefig(HERE / "sizes2.png", dpi=130)


def draw_poolings(errors: Errors) -> None:
    arms = (
        "max1",
        "mean1",
        "bins5",
        "own",
        "bins14",
        "bins21",
        "bins30",
        "one",
        "resnet_own",
        "resnet_bins21",
    )
    names = {
        "max1": "max\n1", "mean1": "mean\n1", "bins5": "2-1\n5", "own": "own\n9", "bins14": "3-2-1\n14", "bins21": "4-2-1\n21",
        "bins30": "4-3-2-1\n30", "one": "6-3-2-1\n50", "resnet_own": "ResNet\nmean, 1", "resnet_bins21": "ResNet\n4-2-1, 21",
    }  # fmt: skip
    groups = []
    for arm in arms:
        found = errors.get(crop(arm), {})
        if len(found) >= FEWEST:
            colour = COLOURS["own" if arm in ("own", "mean1", "resnet_own") else "one"]
            groups.append((names[arm], found, colour))
    if len(groups) < 2:
        return
    figure, axes = panel()
    bars(axes, groups)
    axes.tick_params(axis="x", labelsize="small")
    axes.set(xlabel="last pooling and its bins; all heads have 0.9 million parameters")
    figure.savefig(HERE / "pyramids2.png", dpi=130)


def main() -> None:
    errors, right = load("errors2.csv")
    arms = list(dict.fromkeys(side.arm for side in errors))
    add_means(errors, right)
    any_size = [arm for arm in arms if over_range(arm) in errors]
    rows: list[list[object]] = [
        ["arm", "seeds", "10⁹ training pixels", "head, million", "at 112, %", "mean of the five sizes, %"]
    ]
    runs = read("runs2.csv")
    for arm in arms:
        mine = [row for row in runs if row["arm"] == arm]
        pixels = [float(row["training_gigapixels"]) for row in mine]
        mean = spread(list(errors[over_range(arm)].values())) if arm in any_size else ""
        rows.append(
            [
                f"`{arm}`", len(mine), f"{min(pixels):.3f} to {max(pixels):.3f}", f"{int(mine[0]['head_parameters']) / 1e6:.3f}",
                spread(list(errors[crop(arm)].values())), mean,
            ]
        )  # fmt: skip
    print(markdown(rows))
    for test in ("crop", "enlarged", "recalibrated"):
        print(f"{test}:\n\n{curves(errors, test, any_size)}")
    for arm in any_size:
        print(f"- `{arm}` is within 3 points of its best at {flat(errors, arm)}")
    for name, pairs in families().items():
        found = judge(pairs, errors, right)
        if found:
            print(f"\n### Family {name}\n\n{comparisons(found)}")
    seconds = sum(float(row["train_cpu_s"]) + float(row["test_cpu_s"]) for row in runs)
    print(f"{len(runs)} runs, {seconds / 60:.1f} CPU minutes: {dict(Counter(row['arm'] for row in runs))}")
    draw_sizes(errors)
    draw_poolings(errors)


if __name__ == "__main__":
    main()
