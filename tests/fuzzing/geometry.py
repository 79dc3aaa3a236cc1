"""Targets of arithmetic: schedules, samplers, pooling, windows and regions, against their definitions."""

from __future__ import annotations

import math
import random
import warnings
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from nn import brute_force
from PIL import Image

from fuzzing.target import Target
from fuzzing.values import SCALARS
from sppcls.data.geometry import box_in_reduced, cut, random_resized_box, resized_size
from sppcls.data.sampler import EvalSampler, KeyedBatchSampler
from sppcls.data.sizes import make_schedule
from sppcls.errors import ConfigError, DataError
from sppcls.evaluation.mapping import WINDOW_RULES, window_cells
from sppcls.nn import LevelLargerThanMapWarning, spatial_pyramid_pool2d
from sppcls.nn.pool.windows import pool_windows

SIDES = st.integers(1, 300)
KINDS = ["single", "alternate", "random_epoch", "random_batch", "progressive"]


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


# --- schedules

SCHEDULES = st.fixed_dictionaries({
    "kind": st.sampled_from(KINDS),
    "sizes": st.one_of(
        SIDES,
        st.lists(st.one_of(SIDES, st.tuples(SIDES, SIDES)), min_size=1, max_size=4),
        st.tuples(st.integers(1, 100), st.integers(101, 300)),
        st.lists(SCALARS, max_size=3),
    ),
    "seed": st.integers(-(2**40), 2**70),
    "epochs": st.integers(1, 200),
    "period": st.sampled_from([1, 1, 1, 2, 5]),
    "step": st.sampled_from([1, 1, 1, 2, 7]),
})  # fmt: skip


def check_schedule(given: dict[str, Any]) -> str:
    try:
        schedule = make_schedule(**given)
    except ConfigError:
        assert not _is_schedule(given), "refused a schedule that is one"
        return "refused"
    assert _is_schedule(given)
    sizes = [
        _pair(size) for size in ([given["sizes"]] if isinstance(given["sizes"], int) else given["sizes"])
    ]
    epochs, kind = given["epochs"], given["kind"]
    found = [schedule.at(epoch, step) for epoch in range(epochs) for step in range(3)]
    assert found == [make_schedule(**given).at(epoch, step) for epoch in range(epochs) for step in range(3)]
    if kind in ("single", "alternate"):
        block = [size for size in sizes for _ in range(given["period"])]
        assert found[::3] == found[2::3] == [block[epoch % len(block)] for epoch in range(epochs)]
    else:
        low, high = sizes
        stops = list(range(low[0], high[0] + 1, given["step"]))
        for height, width in found:
            exact = low[1] + Fraction((height - low[0]) * (high[1] - low[1]), high[0] - low[0])
            assert height in stops
            assert abs(width - exact) <= Fraction(1, 2)
        if kind != "random_batch":
            assert found[::3] == found[2::3]
        if kind == "progressive":
            assert found == sorted(found)
            assert set(found[3 * math.ceil(3 * epochs / 4) :]) <= {high}
    assert {*schedule.training_sizes} == {*sizes}
    assert schedule.largest == max(sizes, key=math.prod)
    return "fine"


def _is_schedule(given: dict[str, Any]) -> bool:
    sizes = [given["sizes"]] if isinstance(given["sizes"], int) else list(given["sizes"])
    for size in sizes:
        sides = size if isinstance(size, tuple) else (size,)
        if not all(type(side) is int and side > 0 for side in sides):
            return False
    pairs, kind, step = [_pair(size) for size in sizes], given["kind"], given["step"]
    if given["period"] != 1 and kind != "alternate":
        return False
    if kind in ("single", "alternate"):
        return step == 1 and (len(pairs) == 1 if kind == "single" else len(pairs) > 1)
    if len(pairs) != 2:
        return False
    (low, narrow), (high, wide) = pairs
    return low < high and narrow <= wide and (high - low) % step == 0


# --- samplers

SAMPLERS = st.tuples(
    st.integers(1, 150), st.integers(1, 40), st.integers(1, 6), st.integers(0, 3), st.booleans(), st.booleans(),
    st.booleans(), st.sampled_from(KINDS), st.integers(0, 2**31),
)  # fmt: skip


def check_sampler(given: tuple[Any, ...]) -> str:
    n, batch, world, epoch, shuffle, drop_last, budget, kind, seed = given
    sizes = {"single": [96], "alternate": [96, [40, 60]]}.get(kind, [40, 96])
    schedule = make_schedule(kind, sizes, seed=seed, epochs=4)
    options = {"world": world, "shuffle": shuffle, "drop_last": drop_last, "pixel_budget": budget}
    evaluated = [list(EvalSampler(n, rank, world)) for rank in range(world)]
    assert sorted(index for rank in evaluated for index in rank) == list(range(n))
    try:
        ranks = [
            _epochs(KeyedBatchSampler(n, batch, seed, schedule, rank=r, **options), epoch)
            for r in range(world)
        ]
    except (DataError, ConfigError):
        assert n < world or (drop_last and not budget and batch * world > n)
        return "refused"
    assert len({len(batches) for each in ranks for batches in each}) == 1  # nobody waits for anybody
    seen = Counter(key[3] for each in ranks for batches in each for found in batches for key in found)
    assert {*seen} <= {*range(n)}
    if budget:
        assert max(seen.values()) - min(seen[i] for i in range(n)) <= 1
    elif not drop_last:
        assert set(seen.values()) == {epoch + 1}
        assert len(seen) == n
    else:
        lost = n % (batch * world)
        assert seen.total() == (epoch + 1) * (n - lost)
        for done in range(epoch + 1):
            once = Counter(key[3] for each in ranks for found in each[done] for key in found)
            assert set(once.values()) <= {1}
    steps = len(ranks[0][0])
    for start in {0, steps // 2, steps - 1}:  # a resumed run goes on where the first one stopped
        again = KeyedBatchSampler(n, batch, seed, schedule, rank=world - 1, start=(epoch, start), **options)
        assert list(again) == ranks[-1][epoch][start:]
    return "fine"


def _epochs(sampler: KeyedBatchSampler, last: int) -> list[list[list[tuple[int, int, int, int]]]]:
    found = []
    for epoch in range(last + 1):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
        assert len(found[-1]) == len(sampler)
    return found


# --- pooling

LEVEL = st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 9), st.integers(1, 9)))
POOLS = st.tuples(
    st.integers(1, 24), st.integers(1, 24), st.integers(1, 3), st.lists(LEVEL, min_size=1, max_size=4),
    st.sampled_from(["max", "avg", "sum"]), st.sampled_from(brute_force.RULES), st.integers(0, 2**32 - 1),
)  # fmt: skip


def check_pooling(given: tuple[Any, ...]) -> str:
    height, width, channels, levels, mode, rule, seed = given
    rng = np.random.default_rng(seed)
    values = rng.permutation(channels * height * width).reshape(channels, height, width) - 50.0
    ties = rng.integers(0, 2) == 1  # of which any may have the gradient
    values = values // 40 if ties else values
    pairs = [_pair(level) for level in levels]
    x = torch.tensor(values, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LevelLargerThanMapWarning)
        try:
            found = spatial_pyramid_pool2d(x, levels, mode, rule)
        except ValueError:
            assert rule == "sliding"
            assert any(rows > height or columns > width for rows, columns in pairs)
            return "refused"
    weight = rng.normal(size=found.shape)
    expected, gradient = brute_force.pool(values, pairs, mode, rule, weight)
    found.backward(torch.tensor(weight))
    assert x.grad is not None
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-9)
    if mode != "max" or not ties:
        np.testing.assert_allclose(x.grad.numpy(), gradient, atol=1e-9)
    top, left = rng.integers(0, height), rng.integers(0, width)
    bottom, right = rng.integers(top + 1, height + 1), rng.integers(left + 1, width + 1)
    if rule != "sliding":
        windows = torch.tensor([[0, top, left, bottom, right], [0, 0, 0, height, width]])
        found = pool_windows(x.detach()[None], windows, levels, mode, rule)
        part, _ = brute_force.pool(values[:, top:bottom, left:right], pairs, mode, rule, weight)
        np.testing.assert_allclose(found.numpy(), [part, expected], atol=1e-9)
    return "fine"


# --- windows of an image

WINDOWS = st.tuples(
    st.integers(0, 2000), st.integers(1, 2000), st.integers(1, 130), st.sampled_from([4, 8, 12, 16, 18, 32]),
    st.sampled_from([0.0, 8.0, 15.0, 16.0, 15.5]), st.sampled_from(WINDOW_RULES),
)  # fmt: skip


def check_window(given: tuple[Any, ...]) -> str:
    start, length, cells, stride, center, rule = given
    first, stop = window_cells(*given)
    assert 0 <= first < stop <= cells
    centers = [center + stride * i for i in range(-10, 1200)]
    if rule == "appendix":
        inside = [i - 10 for i, c in enumerate(centers) if start < c < start + length - 1]
    else:
        right_margin = 8.5 if rule == "report" else 6.5
        nearest = [min(range(len(centers)), key=lambda i: abs(centers[i] - edge)) - 10
                   for edge in (start + 6.5, start + length - 1 - right_margin)]  # fmt: skip
        ties = any(
            (edge - center) / stride % 1 == 0.5 for edge in (start + 6.5, start + length - 1 - right_margin)
        )
        if ties:
            return "tie"
        inside = list(range(nearest[0], nearest[1] + 1))
    if not inside:
        assert stop == first + 1
        return "empty"
    clipped = [min(max(i, 0), cells - 1) for i in (inside[0], inside[-1])]
    assert [first, stop - 1] == clipped
    return "fine"


# --- regions of an image

REGIONS = st.tuples(
    st.integers(1, 90), st.integers(1, 90), st.integers(1, 120), st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32),
)  # fmt: skip


def check_region(given: tuple[Any, ...]) -> str:
    height, width, shorter, region, down, right, seed = given
    whole = resized_size(height, width, shorter, region)
    scale = max(
        Fraction(shorter, min(height, width)), Fraction(region[0], height), Fraction(region[1], width)
    )
    for found, side, least in zip(whole, (height, width), region, strict=True):
        assert found >= least
        assert abs(found - side * scale) <= Fraction(1, 2) + Fraction(1, 10**9)
    _check_cut(height, width, whole, region, down, right)
    rng = random.Random(seed)
    share = sorted((rng.uniform(1e-6, 1), rng.uniform(1e-6, 1)))
    ratio = sorted((math.exp(rng.uniform(-5, 5)), math.exp(rng.uniform(-5, 5))))
    top, left, rows, columns = random_resized_box(
        height, width, region, (share[0], share[1]), (ratio[0], ratio[1]), rng
    )
    assert 0 <= top < top + rows <= height
    assert 0 <= left < left + columns <= width
    reduced = max(1, round(height * rng.random())), max(1, round(width * rng.random()))
    box = box_in_reduced((top, left, rows, columns), (height, width), reduced)
    for begin, length, old, size, full in zip(
        box[:2], box[2:], (top, left), reduced, (height, width), strict=True
    ):
        assert 0 <= begin < begin + length <= size
        assert abs(begin - old * size / full) <= 1
    return "fine"


def _check_cut(
    height: int, width: int, whole: tuple[int, int], region: tuple[int, int], down: float, right: float
) -> None:
    """On pictures that grow evenly from side to side, a shift of half a pixel is half a step and rounding."""
    top, left = round(down * (whole[0] - region[0])), round(right * (whole[1] - region[1]))
    x = torch.arange(width).add(0.5).mul(250 / width).expand(height, width)
    y = torch.arange(height).add(0.5).mul(250 / height)[:, None].expand(height, width)
    image = torch.stack([x, y, 250 - x]).round().to(torch.uint8)
    found = cut(image, whole, top, left, region)
    assert tuple(found.shape) == (3, *region)
    # Pillow's, as torch 2.15 errs where the result is one pixel wide.
    planes = [Image.fromarray(plane.numpy().astype(np.float32)) for plane in image]
    full = torch.tensor(np.stack([plane.resize(whole[::-1], Image.Resampling.BILINEAR) for plane in planes]))
    expected = full[:, top : top + region[0], left : left + region[1]]
    for channel, side in enumerate((whole[1], whole[0], whole[1])):
        assert (found[channel] - expected[channel]).abs().max() <= 0.5 * 250 / side + 2


GEOMETRY = {
    "schedules": Target(SCHEDULES, check_schedule),
    "samplers": Target(SAMPLERS, check_sampler),
    "pooling": Target(POOLS, check_pooling),
    "windows": Target(WINDOWS, check_window),
    "regions": Target(REGIONS, check_region),
}
