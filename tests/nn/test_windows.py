from __future__ import annotations

import re

import pytest
import torch

from sppcls.nn import pool_windows, spatial_pyramid_pool2d
from sppcls.nn.pool import windows as windows_module

pytestmark = pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")


def some_windows(count: int, images: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = [
        torch.stack([torch.randperm(side + 1, generator=generator)[:2].sort().values for _ in range(count)])
        for side in (height, width)
    ]
    image = torch.randint(images, (count,), generator=generator)
    return torch.stack([image, corners[0][:, 0], corners[1][:, 0], corners[0][:, 1], corners[1][:, 1]], dim=1)


@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
@pytest.mark.parametrize("rule", ["adaptive", "padded"])
def test_each_row_is_its_crop(mode: str, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small batches, so that windows of one size are spread over several of them.
    monkeypatch.setattr(windows_module, "_MAX_COPIED_VALUES", 300)
    x = torch.randn(3, 4, 9, 7, dtype=torch.float64, requires_grad=True)
    levels = [3, (2, 1), 1]
    windows = some_windows(150, 3, 9, 7)
    pooled = pool_windows(x, windows, levels, mode, rule)
    expected = torch.stack(
        [
            spatial_pyramid_pool2d(x[image, :, top:bottom, left:right], levels, mode, rule)
            for image, top, left, bottom, right in windows.tolist()
        ]
    )
    torch.testing.assert_close(pooled, expected, rtol=1e-13, atol=1e-13)
    grad = torch.randn_like(pooled)
    gradients = [torch.autograd.grad(vectors, x, grad)[0] for vectors in (pooled, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_the_whole_map_is_a_window() -> None:
    x = torch.randn(2, 3, 13, 10).contiguous(memory_format=torch.channels_last)
    whole = torch.tensor([[1, 0, 0, 13, 10], [0, 0, 0, 13, 10]])
    assert torch.equal(pool_windows(x, whole, [6, 3, 2, 1]), spatial_pyramid_pool2d(x, [6, 3, 2, 1])[[1, 0]])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_any_integers_are_windows(dtype: torch.dtype) -> None:
    x, windows = torch.randn(1, 2, 5, 7), torch.tensor([[0, 1, 2, 4, 7]])
    assert torch.equal(pool_windows(x, windows.to(dtype), [2, 1]), pool_windows(x, windows, [2, 1]))


def test_no_windows() -> None:
    pooled = pool_windows(torch.randn(2, 3, 5, 5), torch.zeros(0, 5, dtype=torch.int64), [2, 1])
    assert pooled.shape == (0, 15)


@pytest.mark.parametrize(
    "window",
    [
        (2, 0, 0, 1, 1),
        (-1, 0, 0, 1, 1),
        (0, 3, 0, 3, 1),
        (0, 0, 2, 1, 1),
        (0, -1, 0, 1, 1),
        (0, 0, 0, 6, 1),
        (0, 0, 0, 1, 8),
    ],
)
def test_refuses_windows_off_the_map(window: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"window {window}")):
        pool_windows(torch.zeros(2, 1, 5, 7), torch.tensor([(0, 0, 0, 5, 7), window]), [1])


def test_refuses_bad_arguments() -> None:
    x, window = torch.zeros(1, 1, 5, 5), torch.tensor([[0, 0, 0, 2, 5]])
    with pytest.raises(ValueError, match=r"integers \(K, 5\)"):
        pool_windows(x, window.float(), [1])
    with pytest.raises(ValueError, match=r"integers \(K, 5\)"):
        pool_windows(x, window[:, :4], [1])
    for dtype in (torch.complex64, torch.bool):
        with pytest.raises(ValueError, match=rf"integers \(K, 5\).* of {dtype}"):
            pool_windows(x, window.to(dtype), [1])
    for dtype in (torch.uint8, torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=rf"floating-point map, got {dtype}"):
            pool_windows(x.to(dtype), window, [1])
    with pytest.raises(ValueError, match=r"at least one channel, got \(1, 0, 5, 5\)"):
        pool_windows(x[:, :0], window, [1])
    for some in (window, window[:0]):
        with pytest.raises(ValueError, match="bin_rule='ceil': choose from adaptive"):
            pool_windows(x, some, [1], bin_rule="ceil")
    with pytest.raises(ValueError, match=r"maps \(N, C, H, W\)"):
        pool_windows(x[0], window, [1])
    with pytest.raises(ValueError, match="mode='min'"):
        pool_windows(x, window, [1], "min")
    with pytest.raises(ValueError, match=r"level 3x3 with bin_rule='sliding' .* got 2x5"):
        pool_windows(x, window, [3], bin_rule="sliding")
