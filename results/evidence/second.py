"""The arms of plan2.md and their tests."""

from __future__ import annotations

from collections.abc import Iterator

from arms import MAIN, ONE_SIZE, PYRAMID, Arm, Plan, Test, enlarged, equal_head, one_pooling

SMALL, LARGE = 56, 224
RANGE = (SMALL, 80, MAIN, 160, LARGE)
"""Sizes a factor of about the root of 2 apart; the mean error over them is the primary figure of question 6."""
LOW, HIGH = 56, 160
EPOCHS, LONG = 24, 42
BF16 = ("trainer.precision=bf16-mixed",)


def arm(
    name: str, *words: str, epochs: int = EPOCHS, any_size: bool = False, trained_on: str = "caltech79"
) -> Arm:
    return Arm(name, (*BF16, *words), epochs, any_size, trained_on)


def pooled(
    name: str, levels: str, bins: int, *words: str, epochs: int = EPOCHS, trained_on: str = "caltech79"
) -> Arm:
    return arm(name, *one_pooling(levels, bins), *words, epochs=epochs, trained_on=trained_on)


def resnet(name: str, levels: str, bins: int, *words: str) -> Arm:
    return arm(
        name,
        "plugins=[narrow]",
        "backbone=resnet18",
        "backbone.name=narrow_resnet18",
        *ONE_SIZE,
        levels,
        *equal_head(bins, 128),
        *words,
    )


ONE = (*PYRAMID, *ONE_SIZE)
RANDOM = (*PYRAMID, "sizes=random_batch_180_224", f"sizes.sizes=[{LOW},{HIGH}]", "sizes.step=8")
WIDE = (*PYRAMID, "sizes=multi_224_180", f"sizes.sizes=[{SMALL},80,{MAIN}]")
GROWING = (*PYRAMID, "sizes=progressive_128_224", "sizes.sizes=[64,140]", "sizes.step=4")
SIZES_ASKED = (arm("one", *ONE, any_size=True), arm("random", *RANDOM, any_size=True))
POOLINGS = (
    pooled("own", "pyramid=none", 9),  # 3 x 3 of a map of 6 x 6
    pooled("mean1", "pyramid=l1", 1, "pyramid.mode=avg"),
)
OTHER_SIZES = (arm("wide", *WIDE, epochs=LONG, any_size=True), arm("growing", *GROWING, any_size=True))
RESNETS = (resnet("resnet_own", "pyramid=none", 1), resnet("resnet_bins21", "pyramid=l421", 21))
HALF = (
    arm("half_one", *ONE, epochs=2 * EPOCHS, any_size=True, trained_on="half"),
    pooled("half_own", "pyramid=none", 9, epochs=2 * EPOCHS, trained_on="half"),
    arm("half_random", *RANDOM, epochs=2 * EPOCHS, any_size=True, trained_on="half"),
)
OTHER_BINS = (
    pooled("bins21", "pyramid=l421", 21),
    pooled("bins5", "pyramid.levels=[2,1]", 5),
    pooled("bins14", "pyramid=l321", 14),
    pooled("bins30", "pyramid=l4321", 30),
    pooled("max1", "pyramid=l1", 1),
)
FEW, MORE = range(10, 13), range(13, 15)


def tests(arm: Arm) -> Iterator[Test]:
    for size in (32, *RANGE) if arm.any_size else (MAIN,):
        yield Test("crop", "center", size, size, recalibrated=arm.any_size and size in (SMALL, LARGE))
    if arm.any_size:
        yield enlarged(SMALL)
        yield enlarged(80)


SECOND = Plan(
    (
        (FEW, SIZES_ASKED),
        (FEW, POOLINGS),
        (MORE, SIZES_ASKED),
        (MORE, POOLINGS),
        *(((*FEW, *MORE), block) for block in (OTHER_SIZES, RESNETS, HALF, OTHER_BINS)),
    ),
    tests,
    "2",
)
