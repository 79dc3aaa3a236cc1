"""Spatial pyramid pooling: a feature map of any size in, a vector of one length out (He et al. 2015, sec. 2).

Not to be confused with the "SPP" block of YOLO detectors, which concatenates stride-1 pools of the same map
size.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor, nn

from sppcls.nn.pool.reference import check_map, check_pool_mode, pool_in_graph, pool_levels, pool_traced
from sppcls.nn.pyramid import Level, Pyramid, check_bin_rule


class LevelLargerThanMapWarning(UserWarning):
    """A level has more bins along an axis than the map has cells, so bins repeat cells."""


_repeats_expected = ContextVar("repeats_expected", default=False)


@contextmanager
def repeats_expected() -> Iterator[None]:
    """Where images of any size are used, no :class:`LevelLargerThanMapWarning`; for the calling thread alone.

    Filters of warnings are the whole process's, and two threads that change them leave them changed.
    """
    before = _repeats_expected.set(True)
    try:
        yield
    finally:
        _repeats_expected.reset(before)


def spatial_pyramid_pool2d(
    x: Tensor,
    levels: Iterable[int | Sequence[int]] | Pyramid,
    mode: str = "max",
    bin_rule: str = "adaptive",
) -> Tensor:
    """Pool a feature map over every bin of every level and concatenate the results.

    Args:
        x: floating-point map (N, C, H, W) or (C, H, W), any H and W from 1, any memory format.
            ``channels_last`` is several times faster on CPU.
        levels: ints ``n`` (n x n bins) or pairs (rows, columns), or a :class:`Pyramid`.
        mode: ``max`` (the paper), ``avg`` or ``sum`` over the cells of a bin.
        bin_rule: ``adaptive`` (the paper's appendix), ``sliding`` (its sec. 2.3) or ``padded``; see
            :mod:`sppcls.nn.pyramid`.

    Returns:
        (N, C * bins), or (C * bins,) for a 3-D map. Levels in the given order, each level ordered by channel,
        row of bins, column of bins: ``torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in levels],
        1)``.

    Raises:
        ValueError: unknown mode or rule, bad levels, not a 3-D or 4-D map, a map that is not floating-point
            or has no channels or cells, or ``sliding`` bins on a map smaller than a level.

    Warns:
        LevelLargerThanMapWarning: once per level and map size, where bins must repeat cells (not in compiled
            graphs).

    Examples:
        >>> x = torch.arange(9.0).view(1, 1, 3, 3)
        >>> spatial_pyramid_pool2d(x, [2, 1])
        tensor([[4., 5., 7., 8., 8.]])
    """
    pyramid = levels if isinstance(levels, Pyramid) else Pyramid(levels)
    check_pool_mode(mode)
    if torch.jit.is_tracing():  # a look at the map's size would be frozen into the graph
        return pool_traced(x, pyramid.levels, mode, bin_rule)
    if x.dim() not in (3, 4):
        raise ValueError(f"expected a map (N, C, H, W) or (C, H, W), got {tuple(x.shape)}")
    check_map(x)
    size = (x.shape[-2], x.shape[-1])
    pyramid.check_map_size(size, bin_rule)
    if not torch.compiler.is_compiling() and not _repeats_expected.get():
        for level in pyramid.larger_than(size):
            _warn_larger(level, size)
    if x.dim() == 3:
        return pool_levels(x.unsqueeze(0), pyramid.levels, mode, bin_rule).squeeze(0)
    return pool_levels(x, pyramid.levels, mode, bin_rule)


@cache
def _warn_larger(level: Level, size: tuple[int, int]) -> None:
    # Cached, so that each level and map size warns once in a process.
    warnings.warn(
        f"level {level[0]}x{level[1]} has more bins than a {size[0]}x{size[1]} map has cells; bins repeat "
        "cells",
        LevelLargerThanMapWarning,
        stacklevel=3,  # who called spatial_pyramid_pool2d; the cache is no frame of its own
    )


class SpatialPyramidPooling2d(nn.Module):
    """The spatial pyramid pooling layer (He et al. 2015, sec. 2.2), in place of a network's last pooling.

    A map (N, C, H, W) of any H and W from 1 becomes a vector (N, C * bins): the layer form of
    :func:`spatial_pyramid_pool2d`, with its order of numbers, errors and warnings. Has no weights.

    Args:
        levels: ints ``n`` (n x n bins) or pairs (rows, columns), or a :class:`Pyramid`.
        mode: ``max`` (the paper), ``avg`` or ``sum`` over the cells of a bin.
        bin_rule: ``adaptive`` (the paper's appendix), ``sliding`` (its sec. 2.3) or ``padded``.

    Raises:
        ValueError: unknown mode or rule, or bad levels.

    Attributes:
        pyramid: the :class:`Pyramid`.
        levels: its levels as pairs (rows, columns).
        bins: its number of bins.
        mode: ``max``, ``avg`` or ``sum``.
        bin_rule: ``adaptive``, ``sliding`` or ``padded``.

    Examples:
        >>> spp = SpatialPyramidPooling2d([6, 3, 2, 1])
        >>> [tuple(spp(torch.randn(2, 256, side, side)).shape) for side in (13, 10)]
        [(2, 12800), (2, 12800)]
    """

    def __init__(
        self,
        levels: Iterable[int | Sequence[int]] | Pyramid,
        mode: str = "max",
        bin_rule: str = "adaptive",
    ) -> None:
        super().__init__()
        check_pool_mode(mode)
        check_bin_rule(bin_rule)
        self.pyramid = Pyramid(levels)
        self.levels = self.pyramid.levels
        self._levels = list(self.levels)  # for TorchScript
        self.bins = self.pyramid.bins
        self.mode = mode
        self.bin_rule = bin_rule

    def output_length(self, channels: int) -> int:
        """Length of the vector pooled from a map of ``channels`` channels."""
        return self.pyramid.output_length(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C * bins).

        Raises:
            ValueError: as :func:`spatial_pyramid_pool2d` does.
        """
        if torch.jit.is_scripting():
            return pool_in_graph(x, self._levels, self.mode, self.bin_rule, False)
        else:  # noqa: RET505  # which TorchScript then leaves out
            return spatial_pyramid_pool2d(x, self.pyramid, self.mode, self.bin_rule)

    def extra_repr(self) -> str:
        return f"levels={self.pyramid.label}, mode={self.mode}, bin_rule={self.bin_rule}"
