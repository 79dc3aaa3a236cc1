"""One CSV row per run folder: what was trained and the errors after the last epoch.

    python results/collect.py runs/flowers5_single/* runs/flowers5_multi/* > results/flowers5.csv

After the last epoch, not the best one: the best epoch is chosen on the images that it is judged by. Also prints, to
standard error, mean and standard deviation over the seeds of every experiment.
"""

from __future__ import annotations

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import yaml


def read(folder: Path) -> dict[str, str]:
    """The row of one run."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-1]
    row = {
        "experiment": config["name"],
        "run": folder.name,
        "seed": str(config["seed"]),
        "epochs": str(len(rows)),
        "images_seen": last["images_seen"],
        "train_minutes": f"{sum(float(r['epoch_seconds']) for r in rows) / 60:.1f}",
    }
    for tag, value in last.items():
        if tag.endswith("/top1_error") and tag.startswith("val"):
            name = (
                f"val_{max(config['sizes']['sizes'])}/top1_error" if tag.startswith("val/") else tag
            )  # version 0.1
            row[name] = f"{float(value):.2f}"
    if len(rows) < config["trainer"]["max_epochs"]:
        sys.exit(f"{folder}: {len(rows)} of {config['trainer']['max_epochs']} epochs; not finished")
    return row


def main() -> None:
    rows = [read(Path(word)) for word in sys.argv[1:]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        for name in names:
            if name.endswith("/top1_error") and row.get(name):
                groups[row["experiment"], name].append(float(row[name]))
    for (experiment, name), values in groups.items():
        spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        print(
            f"{experiment} {name}: {statistics.mean(values):.2f}{spread} (n={len(values)})", file=sys.stderr
        )


if __name__ == "__main__":
    main()
