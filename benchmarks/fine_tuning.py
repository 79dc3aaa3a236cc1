"""Fine-tuning against training from scratch: caltech79 to flowers5 with few photos a class.

    nice -n 19 python benchmarks/fine_tuning.py --caltech CALTECH79 --flowers FLOWERS5 --out RUNS

A small ZF-5 with a {3,2,1} pyramid is trained on caltech79 at 64 pixels, once. Then, on 10, 30 and 100 photos
a class of flowers5, drawn anew for each seed and the same for every way of training, it is trained

- ``scratch``: from its random start;
- ``all layers``: from the network of caltech79 (``init_from``), all layers at one rate;
- ``backbone x 0.1``: the same with ``optimizer.lr_factors={backbone: 0.1}``;
- ``frozen``: the backbone frozen throughout.

Every way has the same photos, epochs, batches and rate. The figure is the top-1 error on all validation photos after the last
epoch; nothing is chosen by it. ``RUNS/results.json`` keeps what is done, so that the same command goes on where it was
stopped; ``--table`` prints the table of what is there. ``RUNS/fine_tuning.csv`` has the figure of every run.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import torch
from common import machine, write_csv

from sppcls import compose, train
from sppcls.comparison.statistics import interval_half_width, mean_and_std, paired_over_seeds

SEEDS = (0, 1, 2)
# Photos a class: epochs.
EPOCHS = {10: 40, 30: 25, 100: 12}
PRETRAINED_EPOCHS = 20
COMMON = [
    "data=folder", "data.workers=0", "sizes=single_224", "sizes.sizes=[64]", "augment=anywhere", "augment.lighting=0",
    "backbone=zf5_small", "pyramid=l321", "head=fc_small", "optimizer.lr=0.01", "trainer.accelerator=cpu",
    "trainer.threads=1", "log.images=false", "logger=[]", "data.cache=disk", "log.progress=lines",
]  # fmt: skip


def ways(start: str) -> dict[str, list[str]]:
    """The words of each way of training."""
    return {
        "scratch": [],
        "all layers": [f"init_from={start}"],
        "backbone x 0.1": [f"init_from={start}", "optimizer.lr_factors={backbone: 0.1}"],
        "frozen": [f"init_from={start}", "freeze=[backbone]"],
    }


def draw_photos(flowers: Path, count: int, seed: int, place: Path) -> Path:
    """A folder of links to ``count`` training photos a class and to all validation photos."""
    for split in ("train", "val"):
        for folder in sorted((flowers / split).iterdir()):
            photos = sorted(folder.iterdir())
            if split == "train":
                photos = random.Random(f"{seed}/{folder.name}").sample(photos, 100)[:count]
            target = place / split / folder.name
            target.mkdir(parents=True, exist_ok=True)
            for photo in photos:
                link = target / photo.name
                if not link.is_symlink():
                    link.symlink_to(photo.resolve())
    return place


def error_of(words: list[str]) -> float:
    """Top-1 error of the last epoch, in per cent."""
    last = train(compose(words))["last"]
    return float(next(value for name, value in last.items() if name.endswith("/top1_error")))


def table(found: dict[str, float]) -> str:
    """Mean, spread and 95 % t interval of each way, and of its difference from ``scratch``."""
    lines = [
        "| photos a class | way | top-1 error, % | 95 % interval | minus scratch | 95 % interval |",
        "|---|---|---|---|---|---|",
    ]
    for count in EPOCHS:
        of_way = {
            way: {seed: found[key] for seed in SEEDS if (key := f"{count}/{way}/{seed}") in found}
            for way in ways("")
        }
        for way, errors in of_way.items():
            mean, std = mean_and_std([*errors.values()]) if errors else (float("nan"), None)
            if std is None:
                continue
            half = interval_half_width(len(errors)) * std
            cells = [f"{mean:.1f} ± {std:.1f}", f"{mean - half:.1f} to {mean + half:.1f}", "", ""]
            paired = None if way == "scratch" else paired_over_seeds(of_way["scratch"], errors)
            if paired is not None and paired.interval is not None:
                cells[2:] = [f"{paired.mean:+.1f}", "{:+.1f} to {:+.1f}".format(*paired.interval)]
            lines.append(f"| {count} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--caltech", type=Path, required=True)
    parser.add_argument("--flowers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print the table of what is done, train nothing")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = args.out / "results.json"
    found: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}

    def once(key: str, words: list[str]) -> None:
        if key not in found:
            begun = time.perf_counter()
            found[key] = error_of([*COMMON, f"runs_dir={args.out / 'runs'}", *words])
            args.out.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{key}: {found[key]:.2f} %, {time.perf_counter() - begun:.0f} s", flush=True)

    if not args.table:
        length = [f"trainer.max_epochs={PRETRAINED_EPOCHS}", f"trainer.val_every={PRETRAINED_EPOCHS}"]
        once("caltech/0", [f"data.root={args.caltech}", "run_name=caltech-0", *length])
    start = str(args.out / "runs" / "folder" / "caltech-0" / "last.ckpt")
    for seed in () if args.table else SEEDS:
        for count, epochs in EPOCHS.items():
            photos = draw_photos(args.flowers, count, seed, args.out / "photos" / f"{count}-{seed}")
            length = [f"trainer.max_epochs={epochs}", f"trainer.val_every={epochs}"]
            for way, words in ways(start).items():
                name = f"run_name={count}-{way.replace(' ', '_')}-{seed}"
                more = [f"data.root={photos}", "data.batch_size=25", name, f"seed={seed}", *length, *words]
                once(f"{count}/{way}/{seed}", more)
    print(f"\n{machine()}\n\n{table(found)}")
    rows = [
        [count, way, seed, f"{found[key]:.4f}"]
        for count in EPOCHS
        for way in ways("")
        for seed in SEEDS
        if (key := f"{count}/{way}/{seed}") in found
    ]
    write_csv(args.out / "fine_tuning.csv", ["photos_per_class", "way", "seed", "top1_error"], rows)


if __name__ == "__main__":
    main()
