"""The families of the plans: what is compared with what."""

from __future__ import annotations

import math
from collections.abc import Sequence

from arms import MAIN
from judging import Comparison, Figure, average, difference, pair
from rows import Side, crop, over_range

Families = dict[str, list[Comparison]]
ENDS = (56, 224)
PYRAMIDS = {"bins5": 5, "bins14": 14, "bins21": 21, "bins30": 30, "one": 50}


def at_ends(arm: str) -> dict[int, Side]:
    """What a user of a network of one size can do at both ends: resize to that size."""
    return {56: Side(arm, "enlarged", 56), 224: crop(arm)}


def features(one: str, several: str) -> list[Comparison]:
    """Two arms with two layers of whole photos, and crops against whole photos for each arm."""
    layers = [f"{layer} full" for layer in ("fc6", "spp")]
    return [
        *(pair(Side(one, layer, 0), Side(several, layer, 0)) for layer in layers),
        *(pair(Side(arm, "spp crop", 0), Side(arm, "spp full", 0)) for arm in (one, several)),
    ]


def means_on_a_resnet() -> list[Comparison]:
    """The pyramid of means against the global mean and against the pyramid of maxima."""
    arms = [crop(arm) for arm in ("resnet_own", "resnet_bins21", "resnet_means21")]
    return [pair(other, arms[2], arms) for other in arms[:2]]


def first() -> Families:
    several = ("pair", "wide", "random")
    views = []
    for arm in ("single", "random"):
        full = Side(arm, "full", 128)
        views += [
            (crop(arm), full),
            (Side(arm, "warp", 128), full),
            (Side(arm, "warp", MAIN), crop(arm)),
        ]
    return {
        "1a": [pair(crop("single", size), crop(arm, size)) for arm in several for size in (56, MAIN, 224)],
        "1b": [pair(best, crop(arm, size)) for arm in several for size, best in at_ends("single").items()],
        "1c": [pair(crop("single", size), crop("wide_long", size)) for size in (56, MAIN, 224)],
        "2": [pair(*sides) for sides in views],
        "3": [
            *(pair(crop("bins1"), crop(arm)) for arm in ("own", "bins21", "single")),
            *(pair(crop("own"), crop(arm)) for arm in ("bins21", "single")),
        ],
        "3b": [pair(crop("bins1"), crop(arm)) for arm in ("bins5", "bins14", "bins30")],
        "4": features("single", "random"),
    }


def halved(designs: tuple[Sequence[Side], Sequence[Side]] = ((), ())) -> list[Comparison]:
    """Half the photos: pyramid or own pooling at 112, several sizes or one over all sizes."""
    found = []
    pools = (crop("own"), crop("one"), crop("half_own"), crop("half_one"))
    sizes = (over_range("one"), over_range("random"), over_range("half_one"), over_range("half_random"))
    for (a, b, half_a, half_b), design in zip((pools, sizes), designs, strict=True):
        found.append(pair(half_a, half_b, design))
        found.append(Comparison(difference(a, b), difference(half_a, half_b), tuple(design)))
    return found


def second() -> Families:
    several = ("random", "wide", "growing")
    anew = {arm: [Side(arm, "recalibrated", size) for size in ENDS] for arm in ("one", "random")}
    return {
        "6a": [pair(over_range("one"), over_range(arm)) for arm in several],
        "6b": [pair(crop("one", size), crop(arm, size)) for arm in several for size in (56, MAIN, 224)],
        "6c": [pair(best, crop(arm, size)) for arm in several for size, best in at_ends("one").items()],
        "6d": [
            *(pair(crop("one", size), side) for size, side in zip(ENDS, anew["one"], strict=True)),
            *(pair(*sides) for sides in zip(anew["one"], anew["random"], strict=True)),
        ],
        "7": [*(pair(crop("mean1"), crop(arm)) for arm in ("own", "one")), pair(crop("own"), crop("one"))],
        "7b": [pair(crop("mean1"), crop(a)) for a in ("bins5", "bins14", "bins21", "bins30", "max1")],
        "8": [pair(crop("resnet_own"), crop("resnet_bins21"))],
        "9": halved(),
    }


def in_the_mean(arms: Sequence[str]) -> list[Comparison]:
    """Each against the first, over the five sizes."""
    design = [over_range(arm) for arm in arms]
    return [pair(design[0], other, design) for other in design[1:]]


def at_each_size(arms: Sequence[str], asked: Sequence[str]) -> list[Comparison]:
    """Some of the arms against the first, at three sizes; the design is all of them at that size."""
    return [
        pair(crop(arms[0], size), crop(arm, size), [crop(each, size) for each in arms])
        for arm in asked
        for size in (56, MAIN, 224)
    ]


def slope(design: Sequence[Side]) -> Comparison:
    """Points of error for twice the bins: least squares over the pyramids, in log2 of their bins."""
    x = {arm: math.log2(bins) for arm, bins in PYRAMIDS.items()}
    middle = sum(x.values()) / len(x)
    squares = sum((value - middle) ** 2 for value in x.values())
    fewer, more = (
        tuple((crop(arm), abs(x[arm] - middle) / squares) for arm in x if (x[arm] - middle) * sign > 0)
        for sign in (-1, 1)
    )
    return Comparison(Figure("pyramids", fewer), Figure("pyramids of twice the bins", more), tuple(design))


def third() -> Families:
    pyramids = average("the five pyramids, crop 112", [crop(arm) for arm in PYRAMIDS])
    pools = tuple(crop(arm) for arm in (*PYRAMIDS, "own", "mean1"))
    any_size = [over_range(arm) for arm in ("one", "bins21", "mean1")]
    sizes = ("one", "random", "wide", "growing")
    against = {arm: Figure(str(crop(arm)), ((crop(arm), 1.0),)) for arm in ("mean1", "own", "max1")}
    return {
        "10": [
            Comparison(against["mean1"], pyramids, pools),
            Comparison(against["own"], pyramids, pools),
            pair(crop("mean1"), crop("own"), pools),
            Comparison(against["max1"], pyramids),
        ],
        "10b": [
            pair(crop("own"), crop("one"), pools),
            pair(crop("mean1"), crop("one"), pools),
            slope(pools),
        ],
        "10c": [pair(over_range("mean1"), over_range(arm), any_size) for arm in ("one", "bins21")],
        "11": [pair(crop("resnet_own"), crop("resnet_bins21"))],
        "12": halved(
            (
                [crop(arm) for arm in ("own", "one", "half_own", "half_one")],
                [over_range(arm) for arm in ("one", "random", "half_one", "half_random")],
            )
        ),
        "13": in_the_mean(sizes),
        "13b": at_each_size(sizes, sizes[2:]),
        "14": [pair(crop("one", size), crop("random", 448)) for size in (448, MAIN)],
    }


def fourth() -> Families:
    sizes = ("one", "wide", "growing")
    return {
        "15": in_the_mean(sizes),
        "15b": at_each_size(sizes, sizes[1:]),
        "15c": [pair(best, crop("wide", size)) for size, best in at_ends("one").items()],
        "16": [
            pair(crop("both_own"), crop("both_one")),
            pair(over_range("both_mean1"), over_range("both_one")),
            pair(over_range("both_one"), over_range("both_wide")),
        ],
        "17": features("flowers_one", "flowers_wide"),
        "18": means_on_a_resnet(),
    }


def fifth() -> Families:
    return {"19": features("flowers_one", "flowers_wide"), "20": means_on_a_resnet()}


TRANSFER = ("4", "17", "19")
"""Families of errors of features."""
PLANS = {1: first, 2: second, 3: third, 4: fourth, 5: fifth}
