"""What is trained and tested: the arms of plan.md, and what all plans share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sppcls.data.geometry import default_shorter_side, resize
from sppcls.data.stream import resize_whole
from sppcls.evaluation import Protocol, Views

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
    trained_on: str = "caltech79"
    """The photos: caltech79, flowers5, both, or half, which is every second training photo of caltech79."""

    def photos(self, args: argparse.Namespace) -> Path:
        """Folder of what it is trained on."""
        given = {"caltech79": args.caltech79, "flowers5": args.flowers5}
        return Path(given.get(self.trained_on) or args.work / self.trained_on)

    def overrides(self, seed: int, args: argparse.Namespace) -> list[str]:
        place = [
            f"data.root={self.photos(args)}",
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


class Test(NamedTuple):
    """One test of a trained network."""

    name: str
    protocol: str | Protocol
    size: int
    """What the network gets."""
    shown: int
    """What stands in the table."""
    change: Callable[[Any], Any] | None = None
    """What is done to a photo before."""
    recalibrated: bool = False
    """Whether there is a second row, with batch-norm statistics taken anew at the size."""


class Transfer(NamedTuple):
    """Features of other photos, judged by ten random splits."""

    arms: tuple[str, ...]
    """Whose networks give them."""
    photos: str
    layers: tuple[str, ...]
    per_class: int
    """Photos of a class to train on."""


class Plan(NamedTuple):
    """The arms of a plan in their order, and where their rows go."""

    blocks: tuple[tuple[Sequence[int], tuple[Arm, ...]], ...]
    """Seeds, and the arms that are run with each of them."""
    tests: Callable[[Arm], Iterator[Test]]
    files: str
    """Ending of the names of its files."""
    transfer: Transfer | None = None


def equal_head(bins: int, channels: int = CHANNELS) -> tuple[str, ...]:
    """fc6 so wide that the head has the parameters of 256-256 on the 50 bins of 6-3-2-1."""

    def parameters(inputs: int, width: int) -> int:
        return (inputs + 1) * width + (width + 1) * HIDDEN

    wanted = parameters(50 * CHANNELS, HIDDEN)
    width = min(range(1, 20 * HIDDEN), key=lambda w: abs(parameters(bins * channels, w) - wanted))
    return (f"head.hidden=[{width},{HIDDEN}]",)


def one_pooling(levels: str, bins: int) -> tuple[str, ...]:
    return (*ONE_SIZE, levels, *equal_head(bins))


def warped(size: int) -> Protocol:
    """The whole photo as a square of ``size``, given that it is one already."""
    return Protocol("warp", (Views("crop", (size,), ("center",), (False,)),), (size, size))


def enlarged(size: int) -> Test:
    """A thumbnail, made larger for the network."""
    side = default_shorter_side((size, size))
    return Test("enlarged", "center", MAIN, size, lambda image: resize_whole(image, side))


def first_tests(arm: Arm) -> Iterator[Test]:
    for size in SIZES if arm.any_size else (MAIN,):
        yield Test("crop", "center", size, size)
    whole = default_shorter_side((MAIN, MAIN))
    for size in (MAIN, whole) if arm.any_size else (MAIN,):
        yield Test("warp", warped(size), size, size, partial(resize, size=(size, size)))
    if arm.any_size:
        yield Test("full", "full", MAIN, whole)
        yield from map(enlarged, ENLARGED)


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
TRANSFER = Transfer(("single", "random"), "flowers5", ("spp", "fc6", "fc7"), 30)
FIRST = Plan(tuple((SEEDS, block) for block in BLOCKS), first_tests, "", TRANSFER)
