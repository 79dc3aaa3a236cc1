"""The pyramid's Triton kernels beside torch's own poolings: on a GPU where there is one, else in Triton's interpreter.

Whether kernels are interpreted is decided once in a process, so that without a GPU these tests run themselves in another
one. That they can be made for a GPU is tested with Triton's compiler, which needs none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sppcls.nn.pool.nested import can_fuse, kernels_trouble, max_pool_levels, nested_sources

triton = pytest.importorskip("triton")

Levels = tuple[tuple[int, int], ...]

PAPER: Levels = ((6, 6), (3, 3), (2, 2), (1, 1))
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu")
runs_kernels = pytest.mark.skipif(
    DEVICE.type == "cpu" and not INTERPRETED, reason="run in the interpreter by another test"
)


def stock(x: Tensor, levels: Levels) -> Tensor:
    return torch.cat([F.adaptive_max_pool2d(x, level).flatten(1) for level in levels], 1)


def distinct(*shape: int) -> Tensor:
    """Whole numbers, none of them twice in a channel, in float16's range."""
    n, c, h, w = shape
    order = torch.stack(
        [torch.randperm(h * w, generator=torch.Generator().manual_seed(i)) for i in range(n * c)]
    )
    return (order.view(shape) - h * w // 2).float()


@pytest.mark.run
@pytest.mark.skipif(INTERPRETED or torch.cuda.is_available(), reason="these are the tests that it runs")
def test_in_the_interpreter() -> None:
    done = subprocess.run(
        # Without what the other tests share, which takes longer to load than these take.
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


CASES: dict[str, tuple[Levels, tuple[int, ...], torch.dtype]] = {
    "paper's at 224": (PAPER, (2, 3, 13, 13), torch.float32),
    "at 180, channels over a block, float16": (PAPER, (1, 33, 10, 10), torch.float16),
    "two from the map, bfloat16": (((4, 4), (3, 3), (2, 2), (1, 1)), (1, 2, 13, 7), torch.bfloat16),
    "any order, more bins than cells": (((1, 3), (2, 6), (5, 5)), (1, 3, 3, 17), torch.float32),
    "long rows of bins": (((9, 9), (3, 3)), (1, 2, 10, 11), torch.float32),
    "more cells in a bin than in a tile": (((1, 1),), (1, 2, 12, 14), torch.float32),
    "a single cell": (PAPER, (1, 1, 1, 1), torch.float32),
}
LAYOUTS = (torch.channels_last, torch.contiguous_format)


@runs_kernels
@pytest.mark.parametrize(
    ("levels", "shape", "dtype", "layout"),
    [
        # The interpreter takes a second for each: one layout after the other, and the pairs left out take long.
        pytest.param(
            *case, layout, id=name, marks=[] if layout == LAYOUTS[number % 2] else [pytest.mark.long]
        )
        for number, (name, case) in enumerate(CASES.items())
        for layout in LAYOUTS
    ],
)
def test_values_and_gradients_are_those_of_torchs_poolings(
    levels: Levels, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    values = distinct(*shape).to(dtype)  # all are exact in each of the types
    x = values.to(DEVICE, copy=True, memory_format=layout).requires_grad_()
    reference = values.double().requires_grad_()
    weight = torch.randint(-4, 5, (shape[0], shape[1] * sum(a * b for a, b in levels)))
    pooled = max_pool_levels(x, levels, fused=True)
    pooled.backward(weight.to(dtype).to(DEVICE))
    expected = stock(reference, levels)
    expected.backward(weight.double())
    assert pooled.dtype == dtype
    assert torch.equal(pooled.cpu().double(), expected)
    assert x.grad is not None
    assert reference.grad is not None
    assert x.grad.is_contiguous(memory_format=layout)
    assert torch.equal(x.grad.cpu().double(), reference.grad)  # sums of whole numbers are exact


@runs_kernels
def test_equal_values_nan_and_infinities_are_those_of_the_cpu() -> None:
    x = torch.zeros(5, 1, 6, 6)
    x[1] = -torch.inf
    x[2, 0, 3, 4] = torch.nan
    x[3, 0, 1, 1] = -torch.nan
    x[4, 0, ::2] = -0.0
    weight = torch.arange(1.0, 251).view(5, 50)
    found = []
    for place, fused in ((torch.device("cpu"), False), (DEVICE, True)):
        leaf = x.to(place, copy=True).requires_grad_()
        pooled = max_pool_levels(leaf, PAPER, fused)
        pooled.backward(weight.to(place))
        assert leaf.grad is not None
        found.append((pooled.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(*(pooled for pooled, _ in found), rtol=0, atol=0, equal_nan=True)
    # Every bin's gradient goes to one cell, and in a tie to the first.
    assert torch.equal(found[1][1].sum((1, 2, 3)), weight.sum(1))
    assert torch.equal(found[0][1][[0, 1, 4]], found[1][1][[0, 1, 4]])


@runs_kernels
def test_gradients_of_gradients_and_forward_mode() -> None:
    x = distinct(1, 2, 7, 6).to(DEVICE).requires_grad_()
    weight = torch.randn(1, 100, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    (first,) = torch.autograd.grad(
        (max_pool_levels(x, PAPER, True) ** 3 * weight).sum(), x, create_graph=True
    )
    (second,) = torch.autograd.grad((first**2).sum(), x)
    plain = x.detach().clone().requires_grad_()
    (first_plain,) = torch.autograd.grad((stock(plain, PAPER) ** 3 * weight).sum(), plain, create_graph=True)
    (second_plain,) = torch.autograd.grad((first_plain**2).sum(), plain)
    torch.testing.assert_close(first, first_plain)
    torch.testing.assert_close(second, second_plain)


@runs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_kernels_pass_the_check_before_their_use(dtype: torch.dtype) -> None:
    assert kernels_trouble(DEVICE, dtype, (3, 6, 7), True, PAPER) is None


@runs_kernels
def test_the_check_before_their_use_notices_wrong_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    from sppcls.nn.pool import triton_kernels as fused

    def trouble() -> str | None:
        return kernels_trouble(DEVICE, torch.float32, (1, 4, 4), False, ((2, 2), (1, 1)))

    assert trouble() is None
    forward, backward = fused.forward, fused.backward
    with monkeypatch.context() as wrong:
        wrong.setattr(fused, "backward", lambda *args: backward(*args) * 1.01)
        assert trouble() == "it does not agree with torch's poolings on the CPU"
    with monkeypatch.context() as wrong:
        wrong.setattr(fused, "forward", lambda x, *args: forward(x * (x < x.max()), *args))
        assert trouble() == "it does not agree with torch's poolings on the CPU"
    with monkeypatch.context() as wrong:
        wrong.setattr(fused, "forward", lambda *args: 1 / 0)
        assert trouble() == "ZeroDivisionError: division by zero"
    assert trouble() is None


@runs_kernels
def test_gradients_of_several_vectors_at_once() -> None:
    x = distinct(1, 2, 6, 6).to(DEVICE).requires_grad_()
    vectors = torch.randn(3, 1, 100, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    pooled = max_pool_levels(x, PAPER, fused=True)
    (together,) = torch.autograd.grad(pooled, x, vectors, retain_graph=True, is_grads_batched=True)
    alone = [torch.autograd.grad(pooled, x, vector, retain_graph=True)[0] for vector in vectors]
    torch.testing.assert_close(together, torch.stack(alone))


def test_maps_of_the_cpu_are_left_to_torch() -> None:
    assert not can_fuse(torch.zeros(1, 1, 6, 6), PAPER)


@pytest.mark.run
@pytest.mark.skipif(INTERPRETED, reason="compiled kernels")
@pytest.mark.filterwarnings("ignore:.*TRITON_DEFAULT_FP_FUSION")
def test_the_kernels_compile_for_a_gpu() -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from sppcls.nn.pool import triton_kernels as fused

    kind = "bf16"
    plan = fused.geometry(PAPER, nested_sources(PAPER))
    assert plan == ((6, 6, -1, 0), (3, 3, 0, 36), (2, 2, 0, 45), (1, 1, 2, 49))
    assert fused.tiles(13, 13, plan)[0] == (16, True)  # bins of 3 x 3
    shared = {"LEVELS": plan, "COUNT": 4, "BINS": 50, "BLOCK": fused.CHANNELS}
    kernels = {
        fused._forward: (
            {"x": f"*{kind}", "pooled": f"*{kind}", "where": "*i16"},
            {"TILES": fused.tiles(13, 13, plan), "UNROLL": fused.UNROLLED},
        ),
        fused._backward: (
            {"grad": f"*{kind}", "where": "*i16", "totals": "*fp32", "out": f"*{kind}"},
            {"TILE": fused.LARGEST_TILE, "SPANS": ((2, 2),) * 4},
        ),
    }
    whole = ("channels", "height", "width", "stride_n", "stride_c", "stride_h", "stride_w")
    for kernel, (pointers, constants) in kernels.items():
        values = {**shared, **constants}
        signature = {**pointers, **dict.fromkeys(whole, "i32"), **dict.fromkeys(values, "constexpr")}
        made = triton.compile(ASTSource(kernel, signature, values), target=GPUTarget("cuda", 90, 32))
        assert ".target sm_90" in made.asm["ptx"]
        assert len(made.asm["cubin"]) > 0
