"""Evaluations of several runs as one CSV, a table of means over the seeds, and a picture of the resolution curves.

    python results/collect_evaluation.py runs/flowers5_single/* runs/flowers5_multi/* \\
        --csv results/flowers5_evaluation.csv --picture results/flowers5_resolution.png

Takes what `sppcls evaluate CKPT --out RUN/evaluation/...` wrote: every errors.csv below a run folder. The table, in
Markdown, goes to standard output: protocols at the main size first, then errors by size.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from pathlib import Path

import yaml
from matplotlib.figure import Figure

Key = tuple[str, str, int]  # experiment, protocol, size
# Columns of the CSV beside experiment, run and seed, and those of errors.csv that they are.
COLUMNS = {
    "protocol": "protocol",
    "size": "size",
    "views": "views",
    "images": "images",
    "top1_error": "top1_error",
    "low": "top1_error_low",
    "high": "top1_error_high",
}
COLOURS = {0: "#1f5fa8", 1: "#c8501e", 2: "#2e8540"}


def read(folder: Path) -> list[dict[str, str]]:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    rows = []
    for path in sorted(folder.glob("evaluation*/**/errors.csv")):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if row["recalibrated_on"] == "0":
                    run = {"experiment": config["name"], "run": folder.name, "seed": str(config["seed"])}
                    rows.append(run | {column: row[name] for column, name in COLUMNS.items()})
    return rows


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f}" + (
        f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    )


def markdown(groups: dict[Key, list[float]], main: int) -> str:
    experiments = list(dict.fromkeys(experiment for experiment, _, _ in groups))
    lines = [
        "| protocol | size | " + " | ".join(experiments) + " |",
        "|---|---|" + "---|" * len(experiments),
    ]
    places = list(dict.fromkeys((protocol, size) for _, protocol, size in groups))
    places.sort(key=lambda place: (place[1] != main, place[0] if place[1] != main else "", place[1]))
    for protocol, size in places:
        cells = [
            spread(groups[e, protocol, size]) if (e, protocol, size) in groups else "" for e in experiments
        ]
        lines.append(f"| {protocol} | {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(groups: dict[Key, list[float]], path: str) -> None:
    """Mean error against size, a line for each experiment and a panel for each protocol; bands are +- one std."""
    protocols = [p for p in ("center", "full") if sum(key[1] == p for key in groups) > 4]
    experiments = list(dict.fromkeys(experiment for experiment, _, _ in groups))
    figure = Figure(figsize=(5.2 * len(protocols), 4.2), layout="constrained")
    panels = figure.subplots(1, len(protocols), sharey=True, squeeze=False)[0]
    for axes, protocol in zip(panels, protocols, strict=True):
        for number, experiment in enumerate(experiments):
            sizes = sorted(size for e, p, size in groups if (e, p) == (experiment, protocol))
            values = [groups[experiment, protocol, size] for size in sizes]
            mean = [statistics.mean(v) for v in values]
            std = [statistics.stdev(v) if len(v) > 1 else 0 for v in values]
            colour = COLOURS[number % 3]
            axes.plot(sizes, mean, "o-", ms=4, color=colour, label=f"{experiment} (n={len(values[0])})")
            low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
            axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0)
        for size in (180, 224):
            axes.axvline(size, color="0.75", linewidth=1, linestyle="--", zorder=0)
        title = "centre crop" if protocol == "center" else "whole image, aspect kept"
        axes.set(title=title, xlabel="test size, pixels")
        axes.grid(color="0.92")
    panels[0].set_ylabel("top-1 error, %")
    panels[0].legend(frameon=False, title="mean ± std over seeds", title_fontsize="small")
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--csv")
    parser.add_argument("--picture")
    args = parser.parse_args()
    rows = [row for folder in args.runs for row in read(folder)]
    groups: dict[Key, list[float]] = defaultdict(list)
    seen = set()
    for row in rows:
        key = (row["experiment"], row["protocol"], int(row["size"]))
        if (*key, row["run"]) not in seen:  # a protocol may be in several evaluations of a run
            seen.add((*key, row["run"]))
            groups[key].append(float(row["top1_error"]))
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    print(markdown(groups, main=224))
    if args.picture:
        picture(groups, args.picture)


if __name__ == "__main__":
    main()
