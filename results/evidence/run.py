"""The runs of plan.md and of the later plans, one after the other: train, test, and write a row for each.

    python results/evidence/run.py --caltech79 PHOTOS --flowers5 PHOTOS --work FOLDER
    python results/evidence/run.py --plan 2 --caltech79 PHOTOS --work FOLDER            # 3 likewise
    python results/evidence/run.py --plan 4 --caltech79 PHOTOS --flowers5 PHOTOS --work FOLDER   # 5 likewise

Rows go to runs.csv (one for each run), errors.csv (one for each test of it) and transfer.csv beside this file, those of
the other plans to runs2.csv and errors2.csv, and so on. A run that stands there is not repeated, and one that was stopped goes on,
so that the same command always continues. Several such commands at once divide the runs among them.
"""

from __future__ import annotations

import argparse
import base64
import csv
import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import CLASSES, FIRST, MAIN, Arm, Plan, Transfer
from fifth import FIFTH
from fourth import FOURTH
from second import SECOND
from third import THIRD
from torch import Tensor

import sppcls
from sppcls.data.files import Source
from sppcls.data.folder import labelled_images

HERE = Path(__file__).resolve().parent
PLANS = {1: FIRST, 2: SECOND, 3: THIRD, 4: FOURTH, 5: FIFTH}


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


def test(
    net: Any, arm: Arm, seed: int, plan: Plan, photos: Photos, training: Source
) -> list[dict[str, object]]:
    """A row for each test."""
    rows = []
    for one in plan.tests(arm):
        source = Photos(photos.images, photos.source, one.change)
        anew = training if one.recalibrated else None
        results = sppcls.evaluate(net, source, [one.protocol], sizes=[one.size], recalibrate_on=anew)
        for name, result in zip((one.name, "recalibrated"), results, strict=False):
            found = result.predictions
            assert len(found) == len(photos)
            right = base64.b85encode(np.packbits(found.hits(1)).tobytes()).decode()
            rows.append(
                {
                    "arm": arm.name, "seed": seed, "test": name, "size": one.shown, "images": len(found),
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


@contextmanager
def claimed(path: Path, wait: bool) -> Iterator[bool]:
    """Whether the lock is held meanwhile; without ``wait`` another's is left alone. It ends with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def halve(whole: Path, half: Path) -> None:
    """A copy of the photos with every second one of the training photos of each class."""
    if half.exists():
        return
    temporary = half.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(whole / "val", temporary / "val")
    for folder in sorted((whole / "train").iterdir()):
        (temporary / "train" / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[::2]:
            shutil.copyfile(path, temporary / "train" / folder.name / path.name)
    temporary.rename(half)


def join(first: Path, second: Path, both: Path) -> None:
    """A copy of the photos of two sets of different classes."""
    if both.exists():
        return
    temporary = both.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    for split in ("train", "val"):
        for folder in (*(first / split).iterdir(), *(second / split).iterdir()):
            shutil.copytree(folder, temporary / split / folder.name)
    temporary.rename(both)


def tested(folder: Path) -> Photos:
    """The validation photos of a set, decoded once."""
    source = labelled_images(folder, sorted(path.name for path in Path(folder, "val").iterdir()))
    return Photos([source.image(i) for i in range(len(source))], source)


def one_run(
    arm: Arm, seed: int, plan: Plan, args: argparse.Namespace, known_photos: dict[Path, Photos]
) -> None:
    """Train, test and take features, unless that is done or another process is at it."""
    runs, errors = args.out / f"runs{plan.files}.csv", args.out / f"errors{plan.files}.csv"

    def known() -> set[tuple[str, str]]:
        return {(row["arm"], row["seed"]) for row in read(runs)}

    with claimed(args.work / "claims" / f"{arm.name}-seed{seed}", wait=False) as mine:
        if not mine or (arm.name, str(seed)) in known():
            return
        folder = arm.photos(args)
        with claimed(args.work / "claims" / "photos", wait=True):
            if arm.trained_on == "half":
                halve(args.caltech79, folder)
            elif arm.trained_on == "both":
                join(args.caltech79, args.flowers5, folder)
        if folder not in known_photos:
            known_photos[folder] = tested(folder)
        photos = known_photos[folder]
        started = time.process_time()
        outcome = sppcls.train(sppcls.compose(arm.overrides(seed, args)))
        trained = time.process_time()
        net = sppcls.load_classifier(outcome["last_checkpoint"])
        net = net.to(memory_format=torch.channels_last)
        training = labelled_images(folder / "train", photos.classes)
        rows = test(net, arm, seed, plan, photos, training)
        result = json.loads(Path(outcome["folder"], "result.json").read_text())
        run = {
            "arm": arm.name,
            "seed": seed,
            "epochs": outcome["epochs"],
            "schedule": " ".join(word for word in arm.words if word.startswith("sizes.")),
            "parameters": sum(p.numel() for p in net.parameters()),
            "head_parameters": sum(p.numel() for p in net.head.parameters()),
            "training_gigapixels": f"{result['pixels_seen'] / 1e9:.4f}",
            "top1_error": next(
                row["top1_error"] for row in rows if (row["test"], row["size"]) == ("crop", MAIN)
            ),
            "train_cpu_s": f"{trained - started:.1f}",
            "test_cpu_s": f"{time.process_time() - trained:.1f}",
        }
        if plan.transfer and arm.name in plan.transfer.arms:
            transferred(arm.name, seed, plan.transfer, args.out / f"transfer{plan.files}.csv", args)
        with claimed(args.work / "claims" / "rows", wait=True):
            done = known()
            kept = [row for row in read(errors) if (row["arm"], row["seed"]) in done]
            write(errors, [*kept, *rows])
            write(runs, [*read(runs), run])


def transferred(arm: str, seed: int, asked: Transfer, path: Path, args: argparse.Namespace) -> None:
    """Rows for the features that the network of an arm gives of the other set's photos."""
    if (arm, str(seed)) in {(row["arm"], row["seed"]) for row in read(path)}:
        return
    started = time.process_time()
    net = sppcls.load_classifier(args.work / "runs/evidence" / f"{arm}-seed{seed}" / "last.ckpt")
    photos = getattr(args, asked.photos)
    table = sppcls.transfer(net, photos, asked.layers, view=["full", "crop"], per_class=asked.per_class)
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
    with claimed(args.work / "claims" / "rows", wait=True):
        write(path, [*read(path), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", type=int, choices=PLANS, default=1)
    parser.add_argument(
        "--caltech79", type=Path, required=True, help="folder with train/ and val/ of the 79 classes"
    )
    parser.add_argument("--flowers5", type=Path, help="the same of the five flowers, for plans 1, 4 and 5")
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and caches")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the rows (that of this file)")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these")
    parser.add_argument("--arms", nargs="+", help="only these")
    args = parser.parse_args()
    plan = PLANS[args.plan]
    if plan.transfer and args.flowers5 is None:
        parser.error(f"--plan {args.plan} needs --flowers5")
    torch.set_num_threads(1)
    photos = {args.caltech79: tested(args.caltech79)}
    assert len(photos[args.caltech79].classes) == CLASSES
    for planned, block in plan.blocks:
        for seed, arm in product(args.seeds or planned, block):
            if arm.name in (args.arms or [arm.name]):
                one_run(arm, seed, plan, args, photos)


if __name__ == "__main__":
    main()
