"""The tables and pictures of the plan's questions, from the rows that run.py and combine.py have written.

    python results/evidence/analyse.py --caltech79 PHOTOS

Prints the tables as Markdown and writes the pictures beside this file. What is compared with what stands in plan.md.
"""

from __future__ import annotations

import argparse
import base64
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sppcls.comparison.statistics import (
    LEVEL,
    SeedDifference,
    bootstrap_over_images,
    holm,
    mean_and_std,
    paired_over_seeds,
)
from sppcls.data.folder import labelled_images

HERE = Path(__file__).resolve().parent
MAIN, FEWEST = 112, 3
# Okabe and Ito's colours, as in the reports of `sppcls compare`.
COLOURS = {
    "single": "#0072B2", "pair": "#009E73", "wide": "#E69F00", "random": "#D55E00", "wide_long": "#CC79A7",
    "own": "#56B4E9", "bins1": "#009E73",
}  # fmt: skip
LABELS = {
    "single": "112", "pair": "90, 112 by epoch", "wide": "56, 80, 112 by epoch", "random": "48 to 144 by batch",
    "wide_long": "56, 80, 112, longer", "own": "own last pooling (9)", "bins1": "global (1)", "bins5": "2-1 (5)",
    "bins14": "3-2-1 (14)", "bins21": "4-2-1 (21)", "bins30": "4-3-2-1 (30)",
}  # fmt: skip


class Side(NamedTuple):
    """What is compared: the networks of an arm in a test."""

    arm: str
    test: str
    size: int


Errors = dict[Side, dict[int, float]]
Right = dict[Side, dict[int, np.ndarray]]


@dataclass(frozen=True)
class Found:
    """Second minus first, in points."""

    first: Side
    second: Side
    seeds: SeedDifference
    images: tuple[float, float]
    corrected: float = 1.0

    @property
    def shown(self) -> bool:
        return self.corrected <= LEVEL and not self.images[0] <= 0 <= self.images[1]


def crop(arm: str, size: int = MAIN) -> Side:
    return Side(arm, "crop", size)


def families() -> dict[str, list[tuple[Side, Side]]]:
    """(first, second) by family, as in the plan."""
    several = ("pair", "wide", "random")
    best_of_single = {56: Side("single", "enlarged", 56), 224: crop("single")}
    whole, warp = "full", "warp"
    two = []
    for arm in ("single", "random"):
        full = Side(arm, whole, 128)
        two += [(crop(arm), full), (Side(arm, warp, 128), full), (Side(arm, warp, MAIN), crop(arm))]
    return {
        "1a": [(crop("single", size), crop(arm, size)) for arm in several for size in (56, MAIN, 224)],
        "1b": [(best_of_single[size], crop(arm, size)) for arm in several for size in (56, 224)],
        "1c": [(crop("single", size), crop("wide_long", size)) for size in (56, MAIN, 224)],
        "2": two,
        "3": [
            *((crop("bins1"), crop(arm)) for arm in ("own", "bins21", "single")),
            *((crop("own"), crop(arm)) for arm in ("bins21", "single")),
        ],
        "3b": [(crop("bins1"), crop(arm)) for arm in ("bins5", "bins14", "bins30")],
    }


def read(name: str) -> list[dict[str, str]]:
    path = HERE / name
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def load(name: str = "errors.csv") -> tuple[Errors, Right]:
    errors: Errors = {}
    right: Right = {}
    for row in read(name):
        side, seed, images = (
            Side(row["arm"], row["test"], int(row["size"])),
            int(row["seed"]),
            int(row["images"]),
        )
        bits = np.unpackbits(np.frombuffer(base64.b85decode(row["right"]), np.uint8), count=images).astype(
            bool
        )
        assert abs(100 * (1 - bits.mean()) - float(row["top1_error"])) < 1e-3
        errors.setdefault(side, {})[seed] = float(row["top1_error"])
        right.setdefault(side, {})[seed] = bits
    return errors, right


def judge(pairs: Sequence[tuple[Side, Side]], errors: Errors, right: Right) -> list[Found]:
    """The comparisons that have seeds enough, corrected as one family."""
    found = []
    for first, second in pairs:
        seeds = paired_over_seeds(errors.get(first, {}), errors.get(second, {}))
        if seeds is None or len(seeds.by_seed) < FEWEST:
            continue
        both = [[right[side][seed] for seed in seeds.by_seed] for side in (first, second)]
        found.append(Found(first, second, seeds, bootstrap_over_images(*both)))
    corrected = holm([1.0 if one.seeds.p is None else one.seeds.p for one in found])
    return [Found(f.first, f.second, f.seeds, f.images, p) for f, p in zip(found, corrected, strict=True)]


def spread(values: Sequence[float]) -> str:
    mean, std = mean_and_std(values)
    return f"{mean:.1f}" + ("" if std is None else f" ± {std:.1f}")


def markdown(rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def named(side: Side) -> str:
    return f"`{side.arm}`, {side.test} {side.size}"


def comparisons(found: Sequence[Found]) -> str:
    rows: list[list[object]] = [
        ["first", "second", "seeds", "second - first, points", "95 % over seeds", "95 % over photos", "p", f"p, as one of {len(found)}", "shown"]
    ]  # fmt: skip
    for one in found:
        s = one.seeds
        over = "" if s.interval is None else "{:+.1f} to {:+.1f}".format(*s.interval)
        rows.append(
            [
                named(one.first), named(one.second), len(s.by_seed), f"{s.mean:+.1f}", over,
                f"{one.images[0]:+.1f} to {one.images[1]:+.1f}", "" if s.p is None else f"{s.p:.2g}",
                f"{one.corrected:.2g}", "yes" if one.shown else "no",
            ]
        )  # fmt: skip
    return markdown(rows)


def curves(errors: Errors, test: str, arms: Sequence[str]) -> str:
    sizes = sorted({side.size for side in errors if side.test == test})
    rows: list[list[object]] = [["arm", "seeds", *sizes]]
    for arm in arms:
        cells = [errors.get(Side(arm, test, size), {}) for size in sizes]
        if any(cells):
            rows.append(
                [f"`{arm}`", max(map(len, cells)), *(spread(list(c.values())) if c else "" for c in cells)]
            )
    return markdown(rows)


def flat(errors: Errors, arm: str, within: float = 3.0) -> str:
    """The tested sizes at which an arm's mean error is within so many points of its best."""
    means = {
        s.size: mean_and_std(list(e.values()))[0]
        for s, e in errors.items()
        if s.arm == arm and s.test == "crop"
    }
    good = sorted(size for size, mean in means.items() if mean <= min(means.values()) + within)
    return ", ".join(map(str, good))


def elongated(folder: str) -> np.ndarray:
    """bool for each of the photos that were tested: whether its aspect is outside 2:3 to 3:2."""
    classes = sorted(path.name for path in Path(folder, "val").iterdir())
    source = labelled_images(folder, classes)
    sizes = [Image.open(source.root / source.name(i)).size for i in range(len(source))]
    return np.array([max(size) > 1.5 * min(size) for size in sizes])


def views_of(errors: Errors, right: Right, chosen: np.ndarray) -> str:
    """Errors by view, of all photos and of those ``chosen``."""
    rows: list[list[object]] = [["arm", "view", "all photos, %", f"the {chosen.sum()} elongated ones, %"]]
    for side, found in errors.items():
        if side.size in (MAIN, 128) and side.test != "enlarged" and len(found) >= FEWEST:
            few = [100 * (1 - bits[chosen].mean()) for bits in right[side].values()]
            rows.append(
                [f"`{side.arm}`", f"{side.test} {side.size}", spread(list(found.values())), spread(few)]
            )
    return markdown(rows)


# -- pictures ----------------------------------------------------------------------------------------------------------


def panel(height: float = 3.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def band(axes: Any, sizes: Sequence[int], errors: Sequence[dict[int, float]], arm: str, **style: Any) -> None:
    stats = [mean_and_std(list(e.values())) for e in errors]
    mean, std = np.array([m for m, _ in stats]), np.array([s or 0 for _, s in stats])
    axes.plot(sizes, mean, color=COLOURS[arm], ms=4, **style)
    axes.fill_between(sizes, mean - std, mean + std, color=COLOURS[arm], alpha=0.18, linewidth=0)


def draw_sizes(errors: Errors) -> None:
    figure, axes = panel(4.0)
    sizes = sorted({side.size for side in errors if side.test == "crop"})
    for arm in ("single", "pair", "wide", "random", "wide_long"):
        found = [errors.get(crop(arm, size), {}) for size in sizes]
        if all(len(e) >= FEWEST for e in found):
            band(axes, sizes, found, arm, marker="o", label=f"trained at {LABELS[arm]}")
    small = sorted({side.size for side in errors if side[:2] == ("single", "enlarged")})
    # Beyond its own size a photo is reduced to it, and at that size nothing is done.
    shown = [*small, MAIN, *(size for size in sizes if size > MAIN)]
    resized = [errors[Side("single", "enlarged", size)] for size in small]
    resized += [errors[crop("single")]] * (len(shown) - len(small))
    band(axes, shown, resized, "single", ls="--", marker="s", label="trained at 112, photos resized to 112")
    axes.set(xlabel="size of the photo that is tested, pixels", ylabel="top-1 error, %", xscale="log")
    axes.set_xticks(sizes, map(str, sizes))
    axes.minorticks_off()
    axes.legend(frameon=False, title="mean ± std over seeds", title_fontsize="small", fontsize="small")
    figure.savefig(HERE / "sizes.png", dpi=130)


def bars(axes: Any, groups: Sequence[tuple[str, dict[int, float], str]]) -> None:
    """A dot for each seed and a line for the mean, by (label, error by seed, colour)."""
    for place, (_, found, colour) in enumerate(groups):
        values = list(found.values())
        axes.plot([place] * len(values), values, "o", color=colour, ms=4, alpha=0.6)
        axes.plot([place - 0.25, place + 0.25], [mean_and_std(values)[0]] * 2, color=colour, lw=3)
    axes.set_xticks(range(len(groups)), [label for label, _, _ in groups])
    axes.set(ylabel="top-1 error, %")
    axes.grid(axis="x", visible=False)


def draw_views(errors: Errors) -> None:
    tests = [("crop", 112), ("full", 128), ("warp", 128), ("warp", 112)]
    words = {"crop": "crop", "full": "whole", "warp": "warped"}
    groups = []
    for arm in ("single", "random"):
        for test, size in tests:
            found = errors.get(Side(arm, test, size), {})
            if len(found) >= FEWEST:
                groups.append((f"{words[test]}\n{size}", found, COLOURS[arm]))
    if not groups:
        return
    figure, axes = panel()
    bars(axes, groups)
    for arm in ("single", "random"):
        axes.plot([], [], color=COLOURS[arm], lw=3, label=f"trained at {LABELS[arm]}")
    axes.tick_params(axis="x", labelsize="small")
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(HERE / "views.png", dpi=130)


def draw_pyramids(errors: Errors) -> None:
    arms = ("bins1", "bins5", "own", "bins14", "bins21", "bins30", "single")
    names = {**LABELS, "single": "6-3-2-1 (50)"}
    groups = []
    for arm in arms:
        found = errors.get(crop(arm), {})
        if len(found) >= FEWEST:
            groups.append(
                (names[arm].replace(" (", "\n("), found, COLOURS["own" if arm == "own" else "single"])
            )
    if len(groups) < 2:
        return
    figure, axes = panel()
    bars(axes, groups)
    axes.set(xlabel="last pooling (bins); all heads have 0.9 million parameters")
    figure.savefig(HERE / "pyramids.png", dpi=130)


def draw_ensembles(rows: Sequence[dict[str, str]]) -> None:
    figure, axes = panel()
    markers = {"single": "o", "random": "s", "mixed": "^"}
    colours = {"single": COLOURS["single"], "random": COLOURS["random"], "mixed": COLOURS["bins1"]}
    words = {"single": "trained at 112", "random": "trained at 48 to 144", "mixed": "half of each"}
    for kind, marker in markers.items():
        mine = [row for row in rows if row["kind"] == kind]
        if mine:
            k, error = [int(row["k"]) for row in mine], [float(row["mean_error"]) for row in mine]
            axes.plot(k, error, marker=marker, color=colours[kind], label=words[kind])
    axes.set(xlabel="networks whose scores are averaged", ylabel="top-1 error, %")
    axes.set_xticks(sorted({int(row["k"]) for row in rows}))
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(HERE / "ensembles.png", dpi=130)


# -- transfer ----------------------------------------------------------------------------------------------------------


def transfer_errors() -> Errors:
    """Mean error of the ten splits; the layer stands where the test does, and there is no size."""
    found: Errors = {}
    for row in read("transfer.csv"):
        side = Side(row["arm"], f"{row['layer']} {row['view']}", MAIN)
        found.setdefault(side, {})[int(row["seed"])] = float(row["top1_error"])
    return found


def judge_transfer(found: Errors) -> list[tuple[Side, Side, SeedDifference, float]]:
    """Family 4, over the seeds alone: the splits share their photos."""
    pairs = [
        (Side("single", f"{layer} full", MAIN), Side("random", f"{layer} full", MAIN))
        for layer in ("fc6", "spp")
    ]
    pairs += [(Side(arm, "spp crop", MAIN), Side(arm, "spp full", MAIN)) for arm in ("single", "random")]
    results = []
    for first, second in pairs:
        seeds = paired_over_seeds(found.get(first, {}), found.get(second, {}))
        if seeds is not None and len(seeds.by_seed) >= FEWEST:
            results.append((first, second, seeds))
    corrected = holm([1.0 if seeds.p is None else seeds.p for _, _, seeds in results])
    return [(*one, p) for one, p in zip(results, corrected, strict=True)]


def draw_transfer(found: Errors) -> None:
    groups = [
        (f"{layer}\n{view}", e, COLOURS[arm])
        for arm in ("single", "random")
        for layer in ("spp", "fc6", "fc7")
        for view in ("crop", "full")
        if len(e := found.get(Side(arm, f"{layer} {view}", MAIN), {})) >= FEWEST
    ]
    figure, axes = panel()
    bars(axes, groups)
    for arm in ("single", "random"):
        axes.plot([], [], color=COLOURS[arm], lw=3, label=f"trained at {LABELS[arm]}")
    axes.tick_params(axis="x", labelsize="small")
    axes.set_ylim(top=axes.get_ylim()[1] + 1)
    axes.legend(frameon=False, fontsize="small", loc="upper left", ncols=2)
    figure.savefig(HERE / "transfer.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--caltech79", required=True, help="folder with val/ of the 79 classes, for the aspects"
    )
    args = parser.parse_args()
    errors, right = load()
    arms = list(dict.fromkeys(side.arm for side in errors))
    print("## Error against the size of the photo\n")
    print(curves(errors, "crop", [arm for arm in arms if crop(arm, 56) in errors]))
    print("Enlarged to 112 before:\n")
    print(curves(errors, "enlarged", arms))
    for arm in arms:
        if crop(arm, 56) in errors:
            print(f"- `{arm}` is within 3 points of its best at {flat(errors, arm)}")
    print(f"\n## Views\n\n{views_of(errors, right, elongated(args.caltech79))}")
    print("## Pooling, at 112\n")
    print(markdown([["arm", "seeds", "top-1 error, %"], *([f"`{arm}`", len(errors[crop(arm)]), spread(list(errors[crop(arm)].values()))] for arm in arms)]))  # fmt: skip
    for name, pairs in families().items():
        found = judge(pairs, errors, right)
        if found:
            print(f"### Family {name}\n\n{comparisons(found)}")
    moved = transfer_errors()
    if moved:
        rows: list[list[object]] = [["arm", "layer and view", "seeds", "top-1 error, %"]]
        rows += [[f"`{side.arm}`", side.test, len(e), spread(list(e.values()))] for side, e in moved.items()]
        print(f"## Transfer\n\n{markdown(rows)}")
        rows = [
            ["first", "second", "seeds", "second - first, points", "95 % over seeds", "p", "p, corrected"]
        ]
        for first, second, seeds, p in judge_transfer(moved):
            over = "" if seeds.interval is None else "{:+.1f} to {:+.1f}".format(*seeds.interval)
            known = "" if seeds.p is None else f"{seeds.p:.2g}"
            rows.append([f"`{first.arm}`, {first.test}", f"`{second.arm}`, {second.test}", len(seeds.by_seed), f"{seeds.mean:+.1f}", over, known, f"{p:.2g}"])  # fmt: skip
        print(f"### Family 4\n\n{markdown(rows)}")
        draw_transfer(moved)
    runs = read("runs.csv")
    seconds = sum(float(row["train_cpu_s"]) + float(row["test_cpu_s"]) for row in runs)
    print(f"{len(runs)} runs, {seconds / 60:.1f} CPU minutes")
    draw_sizes(errors)
    draw_views(errors)
    draw_pyramids(errors)
    together = read("ensembles.csv")
    if together:
        print(f"\n## Ensembles\n\n{markdown([list(together[0]), *(list(row.values()) for row in together)])}")
        draw_ensembles(together)


if __name__ == "__main__":
    main()
