"""Max pooling with a backward in a fixed order, which CUDA alone needs: the form itself, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brute_force import pool as pool_by_loops

from sppcls.nn.pool import reference as pooling
from sppcls.nn.pool.reference import adaptive_max_levels, gathered_max_pool2d


@pytest.mark.parametrize("size", [(13, 10), (40, 7), (6, 6), (3, 4)])
@pytest.mark.parametrize("level", [(6, 6), (3, 4), (1, 1)])
def test_the_gathered_form_pools_and_sends_gradients_back(
    size: tuple[int, int], level: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    # Few values, so that many cells of a bin hold the maximum: the first gets the gradient.
    x = torch.randint(4, (2, 3, *size), generator=generator).double().requires_grad_()
    weight = torch.randn(2, 3, *level, generator=generator, dtype=torch.float64)
    found = gathered_max_pool2d(x, level)
    found.backward(weight)
    assert x.grad is not None
    for image, pooled, gradient, w in zip(x.detach(), found.detach(), x.grad, weight, strict=True):
        expected, back = pool_by_loops(image.numpy(), [level], "max", "adaptive", w.numpy().reshape(-1))
        np.testing.assert_array_equal(pooled.numpy().reshape(-1), expected)
        np.testing.assert_allclose(gradient.numpy(), back, atol=1e-12)


def test_it_is_what_levels_are_pooled_by_where_the_order_must_be_fixed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pooling, "_needs_deterministic_backward", lambda x: True)  # as on CUDA
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64, requires_grad=True)
    (six, three) = adaptive_max_levels(x, [(6, 6), (3, 3)])
    assert "Gather" in str(six.grad_fn.next_functions[0][0]) + str(six.grad_fn)
    assert "AdaptiveMaxPool" not in str(six.grad_fn)
    for image, pooled in zip(x.detach(), three.detach(), strict=True):
        expected, _ = pool_by_loops(image.numpy(), [(3, 3)], "max", "adaptive", np.zeros(27))
        np.testing.assert_array_equal(pooled.numpy().reshape(-1), expected)
