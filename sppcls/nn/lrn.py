"""Local response normalisation, within a channel and across channels (He et al. 2015, Table 1).

Both divide each value ``x`` by ``(k + alpha * mean of x^2 over a neighbourhood) ^ 0.75``. The paper's first
two layers need it on their largest maps, where it is bound by memory traffic, not arithmetic. So it is
written as one autograd function that works through the batch in pieces small enough for the processor's
cache, keeps only its input for the backward pass, and sums neighbourhoods by a few shifted additions, or by a
convolution where that is faster. The power costs two square roots: ``s^-0.75 = rsqrt(s) * sqrt(rsqrt(s))``. Gradients of gradients come from the
plain formula, and so do compiled and exported graphs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BETA = 0.75  # in AlexNet and in the authors' released ZF-5 alike
_VALUES_PER_PIECE = 1 << 19  # 2 MiB of float32


class _LocalResponseNorm(nn.Module):
    """``x * (k + alpha * mean(x^2)) ^ -0.75``, the mean over ``size`` neighbours along each of ``dims``.

    Neighbours outside the map count as zeros. Computes in float32 whatever the input type (float64 for
    float64), and returns the input type. Works in any memory format; ``channels_last`` is kept.

    Can be differentiated any number of times, and under ``torch.func``'s ``grad``, ``vmap`` and ``jacrev``;
    not in forward mode (``jvp``, ``jacfwd``).
    """

    dims: tuple[int, ...]

    def __init__(self, size: int, alpha: float, k: float) -> None:
        super().__init__()
        if not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(
                f"size={size!r}: must be odd and at least 1, so that the neighbourhood has a centre"
            )
        # Otherwise the power would be taken of zero or of a negative number.
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha={alpha!r}: must be 0 or greater")
        if not 0 < k < math.inf:
            raise ValueError(f"k={k!r}: must be greater than 0")
        self.size, self.alpha, self.k = size, alpha, k

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape.

        Raises:
            ValueError: not a floating-point map of four dimensions.
        """
        if x.dim() != 4 or not x.is_floating_point():
            raise ValueError(f"expected floating-point maps (N, C, H, W), got {tuple(x.shape)} of {x.dtype}")
        if x.is_meta and not x.requires_grad:
            # The shape alone is asked for, often: the formula would take a millisecond.
            return torch.empty_like(x)
        radius, scale = self.size // 2, self.alpha / self.size ** len(self.dims)
        if torch.compiler.is_compiling():
            # The compiler fuses the plain formula by itself.
            wide = _wide(x)
            s = _plain_denominator(wide, self.dims, radius, scale, self.k)
            return (wide * _power(s)).to(x.dtype)
        normalised: Tensor = _Normalise.apply(x, self.dims, radius, scale, self.k)
        return normalised

    def extra_repr(self) -> str:
        return f"size={self.size}, alpha={self.alpha}, k={self.k}"


class LRNWithinChannel(_LocalResponseNorm):
    """Over ``size x size`` cells of the same channel, with the constants of the authors' released ZF-5."""

    dims = (2, 3)

    def __init__(self, size: int = 3, alpha: float = 5e-5, k: float = 1.0) -> None:
        super().__init__(size, alpha, k)


class LRNAcrossChannels(_LocalResponseNorm):
    """Over ``size`` channels at the same cell, with AlexNet's constants; equals ``nn.LocalResponseNorm``."""

    dims = (1,)

    def __init__(self, size: int = 5, alpha: float = 1e-4, k: float = 2.0) -> None:
        super().__init__(size, alpha, k)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...], radius: int, scale: float, k: float) -> Tensor:
        y = torch.empty_like(x)
        for x_piece, y_piece in _pieces(x, y):
            wide = _wide(x_piece)
            power = _power(_denominator(wide, dims, radius, scale, k))
            if power.dtype == y.dtype:
                torch.mul(power, wide, out=y_piece)
            else:  # arithmetic between types, or into another one, takes torch several times as long as a copy
                y_piece.copy_(power.mul_(wide))
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, *settings = inputs
        ctx.save_for_backward(x)
        ctx.settings = settings

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *settings: Any) -> tuple[Tensor, int]:
        # Images are normalised one by one, so the mapped dimension may join them.
        x = x.movedim(in_dims[0] or 0, 0)
        return _Normalise.apply(x.flatten(0, 1), *settings).unflatten(0, x.shape[:2]), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        # dy_j/dx_i = s_j^-b [i = j] - 2 b scale x_i x_j s_j^(-b-1) [i near j]. Nearness is symmetric, so the
        # second term is again a neighbourhood sum, of grad * y / s.
        (x,) = ctx.saved_tensors
        dims, radius, scale, k = ctx.settings
        if torch.is_grad_enabled():
            # The gradient will be differentiated in turn, which nothing written in place could be.
            wide = _wide(x)
            s = _plain_denominator(wide, dims, radius, scale, k)
            direct = _power(s) * grad
            near = _padded_sum(direct * wide / s, dims, radius)
            return (direct - 2 * _BETA * scale * near * wide).to(x.dtype), None, None, None, None
        grad_x = torch.empty_like(x)
        for x_piece, grad_piece, out_piece in _pieces(x, grad, grad_x):
            wide = _wide(x_piece)
            s = _denominator(wide, dims, radius, scale, k)
            direct = _power(s).mul_(grad_piece.to(wide.dtype))
            near = (direct * wide).div_(s)
            if _filters_fast(near, dims):
                near = _filtered(near, radius, 1.0, 0.0)
            else:
                near = _neighbour_sum(near, dims, radius)
            if wide.dtype == x.dtype:
                torch.addcmul(direct, near, wide, value=-2 * _BETA * scale, out=out_piece)
            else:
                out_piece.copy_(direct.addcmul_(near, wide, value=-2 * _BETA * scale))
        return grad_x, None, None, None, None


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same few images of every tensor at a time; the whole batch on other devices than the CPU."""
    first = tensors[0]
    images = first.shape[0]
    if first.device.type == "cpu" and images > 0:
        images = max(1, _VALUES_PER_PIECE * images // max(1, first.numel()))
    return zip(*(tensor.split(max(1, images)) for tensor in tensors), strict=True)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _power(s: Tensor) -> Tensor:
    root = s.rsqrt()
    return root * root.sqrt()


def _denominator(x: Tensor, dims: tuple[int, ...], radius: int, scale: float, k: float) -> Tensor:
    # One pass through memory: k + scale * sum.
    if _filters_fast(x, dims):
        return _filtered(x * x, radius, scale, k)
    start = torch.tensor(k, dtype=x.dtype, device="cpu")
    return torch.add(start, _neighbour_sum(x * x, dims, radius), alpha=scale)


def _filters_fast(x: Tensor, dims: tuple[int, ...]) -> bool:
    """Whether oneDNN has a convolution that sums a neighbourhood in one pass; shifted additions take seven."""
    return (
        dims == (2, 3)
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.shape[1] >= 16
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
    )


def _filtered(values: Tensor, radius: int, scale: float, k: float) -> Tensor:
    """``k + scale *`` the sum over each cell's neighbourhood within its channel."""
    channels, size = values.shape[1], 2 * radius + 1
    weight = values.new_full((channels, 1, size, size), scale)
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(values, weight, values.new_full((channels,), k), padding=radius, groups=channels)


def _plain_denominator(x: Tensor, dims: tuple[int, ...], radius: int, scale: float, k: float) -> Tensor:
    """:func:`_denominator` without writing in place."""
    return _padded_sum(x * x, dims, radius).mul(scale).add(k)


def _neighbour_sum(values: Tensor, dims: tuple[int, ...], radius: int) -> Tensor:
    """Sum over the cells at most ``radius`` away along each of ``dims``; those outside count as zeros."""
    for dim in dims:
        length = values.shape[dim]
        first = min(radius, length - 1)
        if first <= 0:  # no neighbours, or no cells
            continue
        # The first shift is written, not added, which saves one pass through memory.
        total = torch.empty_like(values)
        ahead = values.narrow(dim, first, length - first)
        torch.add(values.narrow(dim, 0, length - first), ahead, out=total.narrow(dim, 0, length - first))
        total.narrow(dim, length - first, first).copy_(values.narrow(dim, length - first, first))
        for shift in range(1, first + 1):
            total.narrow(dim, shift, length - shift).add_(values.narrow(dim, 0, length - shift))
            if shift < first:
                total.narrow(dim, 0, length - shift).add_(values.narrow(dim, shift, length - shift))
        values = total
    return values


def _padded_sum(values: Tensor, dims: tuple[int, ...], radius: int) -> Tensor:
    """:func:`_neighbour_sum` without writing in place."""
    for dim in dims:
        length = values.shape[dim]
        padded = F.pad(values, [0, 0] * (values.dim() - 1 - dim) + [radius, radius])
        values = sum(
            (padded.narrow(dim, i, length) for i in range(1, 2 * radius + 1)), padded.narrow(dim, 0, length)
        )
    return values
