"""Four ways to train on uneven classes, on photos cut to 310, 155, 78, 39 and 20 of a class.

    python benchmarks/imbalance.py PHOTOS [--seeds 0 1 2] [--epochs 15] [--size 64]

PHOTOS has train/CLASS and val/CLASS. Of the first class all training photos are kept, of each further one about half as many;
which ones, a hash of their names decides. The validation photos stay as they are. Two errors of the last epoch: the class-mean
error, and the top-1 error where classes are as frequent as in training. Differences are paired by seed, with 95 % t intervals,
corrected for their number (Holm). Runs are kept in ``--out``, so the same command goes on after a kill; ``imbalance.csv``
there has the figures of every run.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from common import machine, write_csv

import sppcls
from sppcls._util.console import table
from sppcls.comparison.statistics import holm, mean_and_std, paired_over_seeds
from sppcls.data.seeding import derive
from sppcls.runs.folder import has_finished
from sppcls.runs.result import read_result

COUNTS = (310, 155, 78, 39, 20)
WAYS: dict[str, list[str]] = {
    "plain": [],
    "balanced sampler": ["data.sampler=balanced"],
    "class weights": ["loss.class_weights=balanced"],
    "logit adjustment": ["loss=logit_adjusted"],
}


def cut(photos: Path, out: Path) -> tuple[Path, dict[str, int]]:
    """A folder of links to fewer training photos, and how many there are of each class."""
    place, kept = out / "photos", {}
    for number, folder in enumerate(sorted((photos / "train").iterdir())):
        names = sorted(os.listdir(folder), key=lambda name: derive("imbalance", name))
        chosen = names[: COUNTS[min(number, len(COUNTS) - 1)]]
        kept[folder.name] = len(chosen)
        (place / "train" / folder.name).mkdir(parents=True, exist_ok=True)
        for name in chosen:
            link = place / "train" / folder.name / name
            if not link.exists():
                link.symlink_to((folder / name).resolve())
    if not (place / "val").exists():
        (place / "val").symlink_to((photos / "val").resolve())
    return place, kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("runs/imbalance"))
    args = parser.parse_args()
    place, kept = cut(args.photos, args.out)
    common = [
        *("data=folder", f"data.root={place}", "data.cache=disk", "data.workers=0", "sizes=single_224"),
        *(f"sizes.sizes=[{args.size}]", "augment=anywhere", "pyramid=l321", "trainer.accelerator=cpu"),
        *(f"trainer.max_epochs={args.epochs}", "trainer.threads=1", "log.images=false", "logger={}"),
    ]
    errors: dict[str, dict[str, dict[int, float]]] = {"class-mean": {}, "as in training": {}}
    by_class: dict[str, dict[str, list[float]]] = {}
    for seed in args.seeds:
        for way, words in WAYS.items():
            name = f"{way.replace(' ', '_')}-seed{seed}"
            folder = args.out / "runs" / name
            if not has_finished(folder, args.epochs):
                begun = time.monotonic()
                more = [*words, f"seed={seed}", f"runs_dir={args.out}", "name=runs", f"run_name={name}"]
                if (folder / "last.ckpt").exists():
                    more.append(f"ckpt_path={folder}")
                sppcls.train(sppcls.compose([*common, *more]))
                print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
            result = read_result(folder)
            assert result is not None
            of_class = result["class_top1_error"]
            usual = sum(of_class[label] * count for label, count in kept.items()) / sum(kept.values())
            errors["class-mean"].setdefault(way, {})[seed] = result["last"][
                f"val_{args.size}/class_mean_error"
            ]
            errors["as in training"].setdefault(way, {})[seed] = usual
            for label in kept:
                by_class.setdefault(way, {}).setdefault(label, []).append(of_class[label])
    print(f"\n{machine()}\n")
    rows = []
    for way in WAYS:
        cells = [way]
        for figure in errors.values():
            mean, std = mean_and_std(list(figure[way].values()))
            cells.append(f"{mean:.1f}" + (f" ± {std:.1f}" if std is not None else ""))
        rows.append([*cells, *(f"{mean_and_std(by_class[way][label])[0]:.1f}" for label in kept)])
    header = ["training", "class-mean error %", "top-1 error %, classes as frequent as in training"]
    print(table(rows, [*header, *(f"{label} ({count})" for label, count in kept.items())]))
    print()
    runs = [
        [way, seed, *(f"{errors[figure][way][seed]:.4f}" for figure in errors),
         *(f"{by_class[way][label][number]:.4f}" for label in kept)]
        for way in WAYS
        for number, seed in enumerate(args.seeds)
    ]  # fmt: skip
    columns = [
        "way",
        "seed",
        "class_mean_error",
        "top1_error_as_in_training",
        *(f"error_{label}" for label in kept),
    ]
    write_csv(args.out / "imbalance.csv", columns, runs)
    for shown, found in errors.items():
        others = [way for way in WAYS if way != "plain"]
        paired = [paired_over_seeds(found["plain"], found[way]) for way in others]
        corrected = holm([p.p if p is not None and p.p is not None else 1.0 for p in paired])
        for way, difference, p in zip(others, paired, corrected, strict=True):
            if difference is None or difference.interval is None:
                continue
            low, high = difference.interval
            print(
                f"{shown}: {way} - plain: {difference.mean:+.1f} points "
                f"({low:+.1f} to {high:+.1f}), p = {p:.3f} corrected"
            )


if __name__ == "__main__":
    main()
