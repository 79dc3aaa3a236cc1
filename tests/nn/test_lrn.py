from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sppcls.nn import LRNAcrossChannels, LRNWithinChannel


def within_by_words(x: Tensor) -> Tensor:
    return x * (1 + 5e-5 * F.avg_pool2d(x * x, 3, 1, 1)).pow(-0.75)


across_by_words = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
PAIRS = [(LRNWithinChannel(), within_by_words), (LRNAcrossChannels(), across_by_words)]
pairs = pytest.mark.parametrize(("norm", "words"), PAIRS, ids=["within", "across"])

SHAPES = [
    (2, 8, 13, 10),
    (1, 1, 1, 1),
    (3, 2, 1, 5),  # fewer channels and cells than neighbours
    (40, 16, 32, 32),  # several pieces, the last one smaller
    (3, 8, 300, 260),  # images larger than a piece
    (0, 4, 5, 5),
]


@pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients(
    norm: nn.Module, words: nn.Module, shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    # Large values, so that the normalisation matters: a factor of about 0.2 at 300.
    x = (300 * torch.randn(shape, dtype=torch.float64)).contiguous(memory_format=memory_format)
    grad = torch.randn_like(x)
    outputs, gradients = [], []
    for function in (norm, words):
        leaf = x.clone().requires_grad_()
        outputs.append(function(leaf))
        outputs[-1].backward(grad)
        gradients.append(leaf.grad)
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert outputs[0].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 16, 13, 10), (1, 24, 1, 2), (5, 96, 40, 41), (0, 16, 5, 5)], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_the_convolution_that_sums_neighbours(size: int, shape: tuple[int, ...], autocast: bool) -> None:
    x = (300 * torch.randn(shape)).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(shape)
    leaf, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = LRNWithinChannel(size)(leaf)
        output.backward(grad)
    expected = wide * (1 + 5e-5 * F.avg_pool2d(wide * wide, size, 1, size // 2)).pow(-0.75)
    expected.backward(grad.double())
    torch.testing.assert_close(output.double(), expected, rtol=2e-6, atol=1e-30)
    torch.testing.assert_close(leaf.grad.double(), wide.grad, rtol=1e-5, atol=1e-6)
    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", [LRNWithinChannel(5, alpha=3.0), LRNAcrossChannels(3, alpha=3.0, k=0.5)])
def test_gradcheck(norm: nn.Module) -> None:
    x = torch.randn(2, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))
    assert torch.autograd.gradgradcheck(norm, (x,))


@pairs
def test_a_penalty_on_the_gradient_reaches_the_weights(norm: nn.Module, words: nn.Module) -> None:
    x = 30 * torch.randn(2, 6, 5, 4, dtype=torch.float64)
    gradients = []
    for function in (norm, words):
        leaf, weight = x.clone().requires_grad_(), torch.ones(1, dtype=x.dtype, requires_grad=True)
        (slope,) = torch.autograd.grad(function(leaf * weight).pow(2).sum(), leaf, create_graph=True)
        slope.pow(2).sum().backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


@pairs
def test_function_transforms(norm: nn.Module, words: nn.Module) -> None:
    x = 30 * torch.randn(3, 2, 6, 4, 5, dtype=torch.float64)
    for transform in (
        lambda f: torch.func.vmap(f)(x),
        lambda f: torch.func.vmap(f, in_dims=1)(x.transpose(0, 1)),
        lambda f: torch.func.vmap(torch.func.grad(lambda v: f(v).pow(2).sum()))(x),
        lambda f: torch.func.jacrev(f)(x[0, :, :, :2, :2]),
    ):
        torch.testing.assert_close(transform(norm), transform(words), rtol=1e-12, atol=1e-12)


@pairs
def test_the_compiled_form_is_the_same_function(norm: nn.Module, words: nn.Module) -> None:
    # The compiler gets a plain formula instead of the autograd function; run it without generating code.
    compiled = torch.compile(norm, backend="eager", fullgraph=True, dynamic=False)
    x = (300 * torch.randn(2, 8, 6, 5, dtype=torch.float64)).requires_grad_()
    torch.testing.assert_close(compiled(x), words(x), rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(f(x).sum(), x)[0] for f in (compiled, words))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pairs
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(norm: nn.Module, words: nn.Module, dtype: torch.dtype) -> None:
    x = (200 * torch.randn(2, 8, 9, 9)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = norm(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output, words(x.double()).to(dtype), rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"size": 4}, "size=4: must be odd"),
        ({"size": 3.0}, "size=3.0: must be odd"),
        ({"k": 0.0}, "k=0.0: must be greater than 0"),
        ({"k": float("nan")}, "k=nan: must be"),
        ({"alpha": -1e-4}, "alpha=-0.0001: must be 0 or greater"),
        ({"alpha": float("inf")}, "alpha=inf: must be"),
    ],
)
def test_refuses_bad_constants(settings: dict[str, float], problem: str) -> None:
    for kind in (LRNAcrossChannels, LRNWithinChannel):
        with pytest.raises(ValueError, match=problem):
            kind(**settings)  # type: ignore[arg-type]


@pairs
def test_refuses_what_is_no_map(norm: nn.Module, words: nn.Module) -> None:
    for x in (torch.zeros(6, 5, 5), torch.zeros(1, 2, 6, 5, 5), torch.zeros(2, 3)):
        with pytest.raises(ValueError, match=rf"maps \(N, C, H, W\), got \({x.shape[0]}, "):
            norm(x)
    with pytest.raises(ValueError, match=r"floating-point maps .* torch\.uint8"):
        norm(torch.zeros(1, 6, 5, 5, dtype=torch.uint8))
