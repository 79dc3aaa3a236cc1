"""The pyramid in one pass beside torch's own poolings, in every way in which it may be differentiated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sppcls.nn.pool.nested import max_pool_levels, nested_sources

LEVELS = [
    ((6, 6), (3, 3), (2, 2), (1, 1)),
    ((4, 4), (3, 3), (2, 2)),
    ((2, 6), (1, 3), (5, 5)),
    ((2, 2), (1, 1), (2, 2)),
]
MAPS = [(13, 13), (10, 10), (3, 17), (1, 1)]


def stock(x: Tensor, levels: tuple[tuple[int, int], ...]) -> Tensor:
    return torch.cat([F.adaptive_max_pool2d(x, level).flatten(1) for level in levels], 1)


def distinct(*shape: int) -> Tensor:
    """No two values are equal, so that every maximum has one cell."""
    count = torch.Size(shape).numel()
    values = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return (values.double() / max(count, 1) - 0.5).view(shape)


def test_a_level_follows_from_the_coarsest_that_it_nests_in() -> None:
    assert nested_sources([(1, 1), (2, 2), (3, 3), (6, 6)]) == {
        (6, 6): None, (3, 3): (6, 6), (2, 2): (6, 6), (1, 1): (2, 2),
    }  # fmt: skip
    assert nested_sources([(4, 4), (3, 3), (2, 1)]) == {(4, 4): None, (3, 3): None, (2, 1): (4, 4)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", MAPS)
@pytest.mark.parametrize("levels", LEVELS)
def test_values_and_gradients_are_those_of_torchs_poolings(
    levels: tuple[tuple[int, int], ...],
    size: tuple[int, int],
    layout: torch.memory_format,
    dtype: torch.dtype,
) -> None:
    # As many values as bfloat16 can tell apart between 1 and 2.
    channels = 3 if dtype != torch.bfloat16 else 1
    x = distinct(2, channels, *size)[: 2 if dtype != torch.bfloat16 else 1]
    if dtype == torch.bfloat16:
        x = 1 + x.flatten().argsort().argsort().view(x.shape) % 128 / 128
        if x.unique().numel() < x.numel():
            pytest.skip("more cells than values")
    ours, theirs = (x.to(dtype).contiguous(memory_format=layout).requires_grad_() for _ in range(2))
    # Sums of small whole numbers are exact in any order, in bfloat16, too.
    weight = torch.randint(-2, 3, (x.shape[0], channels * sum(a * b for a, b in levels))).to(dtype)
    pooled = max_pool_levels(ours, levels)
    pooled.backward(weight)
    expected = stock(theirs, levels)
    expected.backward(weight)
    assert pooled.dtype == dtype
    assert torch.equal(pooled, expected)
    assert ours.grad is not None
    assert ours.grad.is_contiguous(memory_format=layout)
    assert torch.equal(ours.grad, theirs.grad)


def test_one_cell_of_a_tie_gets_the_whole_gradient() -> None:
    x = torch.zeros(1, 1, 6, 6, requires_grad=True)
    max_pool_levels(x, ((3, 3), (1, 1))).sum().backward()
    assert x.grad is not None
    # Nine bins of four equal cells, and the whole: ten ones, in nine cells.
    assert x.grad.sum() == 10
    assert (x.grad != 0).sum() == 9


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, of its forward mode
@pytest.mark.parametrize("levels", LEVELS)
def test_it_can_be_differentiated_again_and_forward(levels: tuple[tuple[int, int], ...]) -> None:
    x = distinct(2, 2, 7, 5).requires_grad_()

    def smooth(x: Tensor) -> Tensor:
        return max_pool_levels(x, levels).pow(3)

    # Steps smaller than half the distance of two values.
    assert torch.autograd.gradcheck(smooth, x, eps=1e-4, atol=1e-5, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(smooth, x, eps=1e-4, atol=1e-4)


def test_it_can_be_mapped() -> None:
    x, levels = distinct(4, 2, 3, 7, 5), LEVELS[0]
    expected = torch.stack([stock(maps, levels) for maps in x])
    assert torch.equal(torch.vmap(lambda maps: max_pool_levels(maps, levels))(x), expected)
    assert torch.equal(
        torch.vmap(lambda maps: max_pool_levels(maps, levels), in_dims=1)(x.movedim(0, 1)), expected
    )
    gradient = torch.func.grad(lambda maps: max_pool_levels(maps, levels).pow(2).sum())
    each = torch.stack(
        [torch.autograd.functional.jacobian(lambda m: stock(m, levels).pow(2).sum(), m) for m in x]
    )
    torch.testing.assert_close(torch.vmap(gradient)(x), each)


def test_no_images_are_no_vectors() -> None:
    x = torch.zeros(0, 3, 7, 7, requires_grad=True)
    pooled = max_pool_levels(x, LEVELS[0])
    assert pooled.shape == (0, 150)
    pooled.sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_gradients_of_several_vectors_at_once() -> None:
    x = distinct(1, 2, 6, 7).requires_grad_()
    vectors = torch.randn(3, 1, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pooled = max_pool_levels(x, LEVELS[0])
    (together,) = torch.autograd.grad(pooled, x, vectors, retain_graph=True, is_grads_batched=True)
    alone = [torch.autograd.grad(pooled, x, vector, retain_graph=True)[0] for vector in vectors]
    torch.testing.assert_close(together, torch.stack(alone))
