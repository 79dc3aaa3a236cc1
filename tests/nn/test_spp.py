from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from brute_force import RULES, pool
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sppcls.nn import LevelLargerThanMapWarning, SpatialPyramidPooling2d, spatial_pyramid_pool2d
from sppcls.nn.pool.reference import adaptive_max_levels, gathered_max_pool2d, pool_level, sliding_max_pool2d

SEVEN = [(n, n) for n in range(1, 8)]


@pytest.fixture
def _small_maps() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LevelLargerThanMapWarning)
        yield


@cache
def distinct_map(channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A map without ties; most values are negative, so an invented zero would be the maximum."""
    count = channels * height * width
    values = np.random.default_rng(seed).permutation(count) - count * 0.9
    return values.reshape(channels, height, width)


def assert_as_brute_force(x: np.ndarray, levels: list[tuple[int, int]], mode: str, rule: str) -> None:
    count = x.shape[0] * sum(rows * columns for rows, columns in levels)
    weight = np.random.default_rng(1).integers(-8, 9, count).astype(float)
    map_ = torch.from_numpy(x).requires_grad_()
    pooled = spatial_pyramid_pool2d(map_, levels, mode, rule)
    pooled.backward(torch.from_numpy(weight))
    assert map_.grad is not None
    found = (pooled.detach().numpy(), map_.grad.numpy())
    for ours, theirs in zip(found, pool(x, levels, mode, rule, weight), strict=True):
        tolerance = 0 if mode == "max" else 1e-12 * (1 + np.abs(theirs))
        assert (np.abs(ours - theirs) <= tolerance).all(), f"{x.shape} {levels} {mode} {rule}"


def defined(levels: list[tuple[int, int]], height: int, width: int, rule: str) -> list[tuple[int, int]]:
    return [(h, w) for h, w in levels if rule != "sliding" or (h <= height and w <= width)]


@pytest.mark.usefixtures("_small_maps")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize(
    "sides",
    [
        pytest.param([*range(1, 17), 23, 32, 40], id="small"),
        pytest.param(range(1, 41), id="all", marks=pytest.mark.long),
    ],
)
def test_every_map_up_to_40x40_is_brute_force(mode: str, rule: str, sides: Sequence[int]) -> None:
    for height, width in itertools.product(sides, repeat=2):
        levels = defined(SEVEN, height, width, rule)
        assert_as_brute_force(distinct_map(1, height, width, seed=height * 41 + width), levels, mode, rule)


@pytest.mark.usefixtures("_small_maps")
@pytest.mark.parametrize("rule", RULES)
def test_sum_is_brute_force(rule: str) -> None:
    for height, width in itertools.product((*range(1, 17), 40), (1, 5, 10, 13, 40)):
        levels = defined(SEVEN, height, width, rule)
        assert_as_brute_force(distinct_map(2, height, width), levels, "sum", rule)


@pytest.mark.usefixtures("_small_maps")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
def test_levels_that_are_not_square(mode: str, rule: str) -> None:
    levels = [(6, 4), (1, 1), (3, 2), (2, 7), (3, 4), (1, 5), (6, 4)]
    for height, width in [(13, 13), (10, 17), (7, 7), (40, 9), (4, 3), (1, 1)]:
        some = defined(levels, height, width, rule)
        assert_as_brute_force(distinct_map(3, height, width), some, mode, rule)


@pytest.mark.usefixtures("_small_maps")
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    levels=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_any_pyramid_is_torchs_adaptive_pooling(size: tuple[int, int], levels: list[tuple[int, int]]) -> None:
    x = torch.tensor(distinct_map(2, *size))[None]
    for mode, stock in (("max", F.adaptive_max_pool2d), ("avg", F.adaptive_avg_pool2d)):
        expected = torch.cat([stock(x, level).flatten(1) for level in levels], 1)
        torch.testing.assert_close(spatial_pyramid_pool2d(x, levels, mode), expected, rtol=1e-12, atol=0)


def stock_max(x: Tensor, levels: list[int]) -> Tensor:
    return torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in levels], 1)


@pytest.mark.parametrize("levels", [[6, 3, 2, 1], [4, 3, 2, 1], [1, 2, 4], [6, 5, 4, 3, 2, 1], [3, 3]])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_of_max_is_torchs(levels: list[int], memory_format: torch.memory_format) -> None:
    for height, width in [(13, 13), (10, 10), (18, 14), (9, 31)]:
        x = torch.randn(3, 5, height, width).contiguous(memory_format=memory_format)
        grad = torch.randn(3, 5 * sum(n * n for n in levels), dtype=torch.float64)
        gradients = []
        for pooling in (stock_max, spatial_pyramid_pool2d):
            leaf = x.double().requires_grad_()
            pooling(leaf, levels).backward(grad)  # type: ignore[operator]
            gradients.append(leaf.grad)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)


def test_ties_give_the_whole_gradient_to_one_of_the_tied_cells() -> None:
    x = torch.randint(0, 3, (2, 4, 13, 13)).float().requires_grad_()
    spatial_pyramid_pool2d(x, [6, 3, 2, 1]).sum().backward()
    assert x.grad is not None
    # Every bin of a channel gives its 1 to one cell, which holds the bin's maximum.
    assert torch.equal(x.grad.sum((2, 3)), torch.full((2, 4), 50.0))
    assert torch.equal(x.grad, x.grad.round())
    (level,) = adaptive_max_levels(x, [(1, 1)])
    coarse = torch.autograd.grad(spatial_pyramid_pool2d(x, [6, 1])[:, -4:].sum(), x)[0]
    assert torch.equal(x.detach()[coarse == 1], level.detach().flatten())


@pytest.mark.parametrize("levels", [[(6, 6)], [(3, 4)], [(1, 1)], [(20, 20)]])
def test_gathered_max_pool2d_is_torchs_also_on_ties(levels: list[tuple[int, int]]) -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randint(0, 4, (2, 3, 13, 10)).float().contiguous(memory_format=memory_format)
        grad = torch.randn(2, 3, *levels[0])
        outputs, gradients = [], []
        for pooling in (F.adaptive_max_pool2d, gathered_max_pool2d):
            leaf = x.clone().requires_grad_()
            outputs.append(pooling(leaf, levels[0]))
            outputs[-1].backward(grad)
            gradients.append(leaf.grad)
        assert torch.equal(outputs[0], outputs[1])
        torch.testing.assert_close(gradients[0], gradients[1])


# Compiled and exported graphs compute sliding bins in the other way.
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("ties", [False, True])
def test_both_ways_to_slide_are_the_same(memory_format: torch.memory_format, ties: bool) -> None:
    for height, width in [(13, 13), (10, 17), (6, 40), (7, 6)]:
        x = torch.tensor(distinct_map(3, height, width))[None].contiguous(memory_format=memory_format)
        x = x % 4 if ties else x
        for level in [(1, 1), (6, 6), (2, 5), (6, 1)]:
            grad = torch.randint(-8, 9, (1, 3, *level)).double()
            outputs, gradients = [], []
            for pooling in (sliding_max_pool2d, lambda v, n: pool_level(v, n, "max", "sliding")):
                leaf = x.clone().requires_grad_()
                outputs.append(pooling(leaf, level))
                outputs[-1].backward(grad)
                gradients.append(leaf.grad)
            assert torch.equal(*outputs)
            assert torch.equal(*gradients)


@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
@pytest.mark.parametrize("rule", RULES)
def test_layouts_types_and_batches(mode: str, rule: str) -> None:
    layer = SpatialPyramidPooling2d([4, (2, 3), 1], mode, rule)
    x = torch.randn(3, 8, 13, 10)
    expected = layer(x)
    assert expected.shape == (3, 8 * 23)
    assert layer.bins == 23
    assert layer.output_length(8) == 8 * 23
    for other in (x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().mT):
        torch.testing.assert_close(layer(other), expected, atol=1e-5 if mode != "max" else 0, rtol=0)
    torch.testing.assert_close(layer(x[1]), expected[1])
    assert layer(x[:0]).shape == (0, 8 * 23)
    for dtype, tolerance in ((torch.bfloat16, 2**-7), (torch.float16, 2**-10)):
        low = layer(x.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low.float(), layer(x.to(dtype).float()), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("rule", RULES)
def test_a_nan_or_an_infinity_stays_in_its_bins(rule: str) -> None:
    for mode, bad in itertools.product(("max", "avg", "sum"), (float("nan"), float("inf"), -float("inf"))):
        x = torch.zeros(1, 1, 12, 12)
        x[0, 0, 0, 0] = bad
        pooled = spatial_pyramid_pool2d(x, [3], mode, rule)
        assert torch.equal(pooled[0, 1:], torch.zeros(8))
        assert pooled[0, 0].item() == 0 if mode == "max" and bad < 0 else not pooled[0, 0].isfinite()


def test_warns_once_per_level_and_size() -> None:
    x = torch.zeros(1, 1, 2, 41)  # a size that no other test warns of
    with pytest.warns(LevelLargerThanMapWarning, match="level 3x3 has more bins than a 2x41 map") as caught:
        spatial_pyramid_pool2d(x, [3, 2, 1])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spatial_pyramid_pool2d(x, [3, 2, 1])


def test_the_warning_names_the_line_of_the_caller() -> None:
    for shape in [(1, 1, 3, 43), (1, 3, 44)]:
        with pytest.warns(LevelLargerThanMapWarning) as caught:
            spatial_pyramid_pool2d(torch.zeros(shape), [5])
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int32, torch.int64, torch.bool, torch.complex64]
)
@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
def test_refuses_maps_that_are_not_floating_point(dtype: torch.dtype, mode: str) -> None:
    for rule in RULES:
        with pytest.raises(ValueError, match=rf"floating-point map, got {dtype}"):
            spatial_pyramid_pool2d(torch.ones(1, 1, 4, 4, dtype=dtype), [2, 1], mode, rule)


def test_refuses_bad_arguments() -> None:
    x = torch.zeros(1, 1, 4, 5)
    with pytest.raises(ValueError, match="mode='median': choose from max, avg, sum"):
        spatial_pyramid_pool2d(x, [1], "median")
    with pytest.raises(ValueError, match="mode='median'"):
        SpatialPyramidPooling2d([1], "median")
    with pytest.raises(ValueError, match="bin_rule='ceil'"):
        SpatialPyramidPooling2d([1], bin_rule="ceil")
    with pytest.raises(ValueError, match="bin_rule='ceil'"):
        spatial_pyramid_pool2d(x, [1], bin_rule="ceil")
    with pytest.raises(ValueError, match=r"got \(4, 5\)"):
        spatial_pyramid_pool2d(x[0, 0], [1])
    with pytest.raises(ValueError, match=r"at least one channel, got \(1, 0, 4, 5\)"):
        spatial_pyramid_pool2d(x[:, :0], [1])
    with pytest.raises(ValueError, match="4x0 map has no cells"):
        spatial_pyramid_pool2d(x[..., :0], [1])
    with pytest.raises(ValueError, match=r"level 6x6 with bin_rule='sliding' needs .* 6x6 cells, got 4x5"):
        spatial_pyramid_pool2d(x, [6], bin_rule="sliding")
