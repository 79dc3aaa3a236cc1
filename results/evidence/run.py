"""The runs of plan.md, one after the other: train, test, and write a row for each.

    python results/evidence/run.py --caltech79 PHOTOS --flowers5 PHOTOS --work FOLDER

Rows go to runs.csv (one for each run), errors.csv (one for each test of it) and transfer.csv beside this file. A run that
stands there is not repeated, and one that was stopped goes on, so that the same command always continues.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sppcls
from sppcls.data.files import Source
from sppcls.data.folder import labelled_images
from sppcls.data.geometry import default_shorter_side, resize
from sppcls.data.stream import resize_whole
from sppcls.evaluation import Protocol, Views

HERE = Path(__file__).resolve().parent
MAIN, SMALL, LARGE = 112, 56, 144
SIZES = (32, 48, 56, 64, 80, 96, 112, 144, 180, 224)
ENLARGED = (32, 48, 56, 80)
CLASSES, CHANNELS, HIDDEN, EPOCHS, SEEDS = 79, 64, 256, 12, range(5)
COMMON = (
    "data=folder augment=anywhere backbone=zf5_small head=fc_small optimizer=sgd optimizer.lr=0.01 scheduler=cosine "
    "data.batch_size=32 data.cache=disk data.workers=0 trainer.accelerator=cpu trainer.threads=1 log.images=false "
    f"logger=[] ckpt_path=auto sizes.val_sizes=[{MAIN}]"
).split()
ONE_SIZE = ("sizes=single_224", f"sizes.sizes=[{MAIN}]")
PYRAMID = ("pyramid=l6321",)


@dataclass(frozen=True)
class Arm:
    """One way to train, with every seed."""

    name: str
    words: tuple[str, ...]
    epochs: int = EPOCHS
    any_size: bool = False
    """Whether it is tested at every size, and with enlarged and whole photos."""

    def overrides(self, seed: int, args: argparse.Namespace) -> list[str]:
        place = [
            f"data.root={args.caltech79}",
            f"data.cache_dir={args.work}/cache",
            f"runs_dir={args.work}/runs",
        ]
        length = [f"trainer.max_epochs={self.epochs}", f"trainer.val_every={self.epochs}"]
        return [
            *COMMON,
            *place,
            "name=evidence",
            f"run_name={self.name}-seed{seed}",
            f"seed={seed}",
            *length,
            *self.words,
        ]


def equal_head(bins: int) -> tuple[str, ...]:
    """fc6 so wide that the head has the parameters of 256-256 on the 50 bins of 6-3-2-1."""

    def parameters(bins: int, width: int) -> int:
        return (CHANNELS * bins + 1) * width + (width + 1) * HIDDEN

    wanted = parameters(50, HIDDEN)
    width = min(range(1, 20 * HIDDEN), key=lambda w: abs(parameters(bins, w) - wanted))
    return (f"head.hidden=[{width},{HIDDEN}]",)


def one_pooling(levels: str, bins: int) -> tuple[str, ...]:
    return (*ONE_SIZE, levels, *equal_head(bins))


WIDE = ("sizes=multi_224_180", f"sizes.sizes=[{SMALL},80,{MAIN}]")
BLOCKS: tuple[tuple[Arm, ...], ...] = (
    (
        Arm("single", (*PYRAMID, *ONE_SIZE), any_size=True),
        Arm(
            "random",
            (*PYRAMID, "sizes=random_batch_180_224", f"sizes.sizes=[48,{LARGE}]", "sizes.step=8"),
            any_size=True,
        ),
    ),
    (Arm("wide", (*PYRAMID, *WIDE), any_size=True),),
    (
        Arm("own", one_pooling("pyramid=none", 9)),  # 3 x 3 of a map of 6 x 6
        Arm("bins1", one_pooling("pyramid=l1", 1), any_size=True),
    ),
    (Arm("pair", (*PYRAMID, "sizes=multi_224_180", f"sizes.sizes=[90,{MAIN}]"), any_size=True),),
    (Arm("bins21", one_pooling("pyramid=l421", 21)),),
    (Arm("wide_long", (*PYRAMID, *WIDE), epochs=21, any_size=True),),
    (
        Arm("bins5", one_pooling("pyramid.levels=[2,1]", 5)),
        Arm("bins14", one_pooling("pyramid=l321", 14)),
        Arm("bins30", one_pooling("pyramid=l4321", 30)),
    ),
)
TRANSFERRED = ("single", "random")


class Photos:
    """The images of a source, decoded once, each through ``change``."""

    def __init__(self, images: list[Tensor], source: Source, change: Any = None) -> None:
        self.images, self.source, self.change = images, source, change
        self.classes, self.targets = source.classes, source.targets

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.source.name(index)

    def image(self, index: int) -> Tensor:
        image = self.images[index]
        return image if self.change is None else self.change(image)


def warped(size: int) -> Protocol:
    """The whole photo as a square of ``size``, given that it is one already."""
    return Protocol("warp", (Views("crop", (size,), ("center",), (False,)),), (size, size))


def tests(arm: Arm) -> Iterator[tuple[str, str | Protocol, int, int, Any]]:
    """(name, protocol, size that the network gets, size in the table, what is done to a photo before)."""
    for size in SIZES if arm.any_size else (MAIN,):
        yield "crop", "center", size, size, None
    whole = default_shorter_side((MAIN, MAIN))
    for size in (MAIN, whole) if arm.any_size else (MAIN,):
        yield "warp", warped(size), size, size, lambda image, size=size: resize(image, (size, size))
    if arm.any_size:
        yield "full", "full", MAIN, whole, None
        for size in ENLARGED:  # a thumbnail, made larger for the network
            side = default_shorter_side((size, size))
            yield "enlarged", "center", MAIN, size, lambda image, side=side: resize_whole(image, side)


def test(net: Any, arm: Arm, seed: int, photos: Photos) -> list[dict[str, object]]:
    """A row for each test."""
    rows = []
    for name, protocol, size, shown, change in tests(arm):
        source = Photos(photos.images, photos.source, change)
        found = sppcls.evaluate(net, source, [protocol], sizes=[size])[0].predictions
        assert len(found) == len(photos)
        right = base64.b85encode(np.packbits(found.hits(1)).tobytes()).decode()
        rows.append(
            {
                "arm": arm.name, "seed": seed, "test": name, "size": shown, "images": len(found),
                "top1_error": f"{found.top1_error:.4f}", "right": right,
            }
        )  # fmt: skip
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def one_run(arm: Arm, seed: int, args: argparse.Namespace, photos: Photos) -> None:
    started = time.process_time()
    outcome = sppcls.train(sppcls.compose(arm.overrides(seed, args)))
    trained = time.process_time()
    net = sppcls.load_classifier(outcome["last_checkpoint"])
    net = net.to(memory_format=torch.channels_last)
    rows = test(net, arm, seed, photos)
    done = read(args.out / "runs.csv")
    known = {(row["arm"], row["seed"]) for row in done}
    kept = [row for row in read(args.out / "errors.csv") if (row["arm"], row["seed"]) in known]
    write(args.out / "errors.csv", [*kept, *rows])
    result = json.loads(Path(outcome["folder"], "result.json").read_text())
    run = {
        "arm": arm.name,
        "seed": seed,
        "epochs": outcome["epochs"],
        "schedule": " ".join(word for word in arm.words if word.startswith("sizes.")),
        "parameters": sum(p.numel() for p in net.parameters()),
        "head_parameters": sum(p.numel() for p in net.head.parameters()),
        "training_gigapixels": f"{result['pixels_seen'] / 1e9:.4f}",
        "top1_error": next(row["top1_error"] for row in rows if (row["test"], row["size"]) == ("crop", MAIN)),
        "train_cpu_s": f"{trained - started:.1f}",
        "test_cpu_s": f"{time.process_time() - trained:.1f}",
    }
    write(args.out / "runs.csv", [*done, run])


def transferred(arm: str, seed: int, args: argparse.Namespace) -> None:
    """Question 4: rows for the network of an arm."""
    path = args.out / "transfer.csv"
    done = read(path)
    if (arm, str(seed)) in {(row["arm"], row["seed"]) for row in done}:
        return
    started = time.process_time()
    net = sppcls.load_classifier(args.work / "runs/evidence" / f"{arm}-seed{seed}" / "last.ckpt")
    table = sppcls.transfer(net, args.flowers5, ["spp", "fc6", "fc7"], view=["full", "crop"], per_class=30)
    seconds = f"{time.process_time() - started:.1f}"
    rows = []
    for score in table.scores:
        errors = score.measured.overall["top-1 error"]
        rows.append(
            {
                "arm": arm, "seed": seed, "layer": score.layer, "view": score.view.kind, "splits": len(errors),
                "top1_error": f"{np.mean(errors):.4f}", "std_of_splits": f"{np.std(errors, ddof=1):.4f}", "cpu_s": seconds,
            }
        )  # fmt: skip
    write(path, [*done, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--caltech79", required=True, help="folder with train/ and val/ of the 79 classes")
    parser.add_argument("--flowers5", required=True, help="folder with train/ and val/ of the five flowers")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and caches")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the rows (that of this file)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", help="only these")
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = labelled_images(args.caltech79, sorted(p.name for p in Path(args.caltech79, "val").iterdir()))
    photos = Photos([source.image(i) for i in range(len(source))], source)
    assert len(source.classes) == CLASSES
    for number, block in enumerate(BLOCKS):
        if number == 3 and args.arms is None:
            for seed, arm in product(args.seeds, TRANSFERRED):
                transferred(arm, seed, args)
        for seed in args.seeds:
            for arm in block:
                done = {(row["arm"], int(row["seed"])) for row in read(args.out / "runs.csv")}
                if (arm.name, seed) not in done and arm.name in (args.arms or [arm.name]):
                    one_run(arm, seed, args, photos)


if __name__ == "__main__":
    main()
