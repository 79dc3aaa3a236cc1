"""Spatial pyramid pooling: a feature map of any size in, a vector of one length out (He et al. 2015, sec. 2.2).

Not to be confused with the "SPP" block of YOLO detectors, which concatenates stride-1 pools of the same map size.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from sppcls.nn.pooling import POOL_MODES, adaptive_max_levels, pool_level
from sppcls.nn.pyramid import Level, Pyramid, check_bin_rule


class LevelLargerThanMapWarning(UserWarning):
    """A level has more bins along an axis than the map has cells, so bins repeat cells."""


def spatial_pyramid_pool2d(
    x: Tensor,
    levels: Iterable[int | Sequence[int]] | Pyramid,
    mode: str = "max",
    bins: str = "adaptive",
) -> Tensor:
    """Pool a feature map over every bin of every level and concatenate the results.

    Args:
        x: floating-point map (N, C, H, W) or (C, H, W), any H and W from 1, any memory format. ``channels_last`` is
            several times faster on CPU.
        levels: ints ``n`` (n x n bins) or pairs (rows, columns), or a :class:`Pyramid`.
        mode: ``max`` (the paper), ``avg`` or ``sum`` over the cells of a bin.
        bins: ``adaptive`` (the paper's appendix), ``sliding`` (its sec. 2.3) or ``padded``; see
            :mod:`sppcls.nn.pyramid`.

    Returns:
        (N, C * bins), or (C * bins,) for a 3-D map. Levels in the given order, each level ordered by channel, row of
        bins, column of bins: ``torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in levels], 1)``.

    Raises:
        ValueError: unknown mode or rule, bad levels, not a 3-D or 4-D map, a map without cells, or ``sliding`` bins on
            a map smaller than a level.

    Warns:
        LevelLargerThanMapWarning: once per level and map size, where bins must repeat cells (not in compiled graphs).
    """
    pyramid = levels if isinstance(levels, Pyramid) else Pyramid(levels)
    if mode not in POOL_MODES:
        raise ValueError(f"mode={mode!r}: choose from {', '.join(POOL_MODES)}")
    check_bin_rule(bins)
    if x.dim() == 3:
        return spatial_pyramid_pool2d(x.unsqueeze(0), pyramid, mode, bins).squeeze(0)
    if x.dim() != 4:
        raise ValueError(f"expected a map (N, C, H, W) or (C, H, W), got {tuple(x.shape)}")
    size = (x.shape[2], x.shape[3])
    pyramid.check_map_size(size, bins)
    if not torch.compiler.is_compiling():
        for level in pyramid.larger_than(size):
            _warn_larger(level, size)
    if mode == "max" and bins == "adaptive":
        pooled = adaptive_max_levels(x, pyramid.levels)
    else:
        pooled = [pool_level(x, level, mode, bins) for level in pyramid.levels]
    return torch.cat([level.flatten(1) for level in pooled], dim=1)


@cache
def _warn_larger(level: Level, size: tuple[int, int]) -> None:
    # Cached, so that each level and map size is told once in a process.
    warnings.warn(
        f"level {level[0]}x{level[1]} has more bins than the {size[0]}x{size[1]} map has cells: bins repeat cells",
        LevelLargerThanMapWarning,
        stacklevel=3,
    )


class SpatialPyramidPooling2d(nn.Module):
    """Layer form of :func:`spatial_pyramid_pool2d`; same arguments, shapes and errors. Has no parameters.

    Attributes:
        pyramid: the :class:`Pyramid`.
        levels: its levels as pairs (rows, columns).
        bins: its number of bins.
        mode: ``max``, ``avg`` or ``sum``.
        bin_rule: ``adaptive``, ``sliding`` or ``padded``.
    """

    def __init__(
        self,
        levels: Iterable[int | Sequence[int]] | Pyramid,
        mode: str = "max",
        bins: str = "adaptive",
    ) -> None:
        super().__init__()
        if mode not in POOL_MODES:
            raise ValueError(f"mode={mode!r}: choose from {', '.join(POOL_MODES)}")
        check_bin_rule(bins)
        self.pyramid = Pyramid(levels)
        self.levels = self.pyramid.levels
        self.bins = self.pyramid.bins
        self.mode = mode
        self.bin_rule = bins

    def output_length(self, channels: int) -> int:
        """Length of the vector pooled from a map of ``channels`` channels."""
        return self.pyramid.output_length(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C * bins)."""
        return spatial_pyramid_pool2d(x, self.pyramid, self.mode, self.bin_rule)

    def extra_repr(self) -> str:
        return f"levels={self.pyramid.label}, mode={self.mode}, bins={self.bin_rule}"


def pool_windows(
    x: Tensor,
    windows: Tensor,
    levels: Iterable[int | Sequence[int]] | Pyramid,
    mode: str = "max",
    bins: str = "adaptive",
) -> Tensor:
    """Pool windows of feature maps to the same vector as a whole map (He et al. 2015, sec. 3.1.5 and 4.1).

    Args:
        x: maps (N, C, H, W).
        windows: integers (K, 5), each row (index of the map in ``x``, top, left, bottom, right) in cells, ``bottom`` and
            ``right`` one past the last cell. They may overlap and repeat.
        levels, mode, bins: as for :func:`spatial_pyramid_pool2d`.

    Returns:
        (K, C * bins); row k equals ``spatial_pyramid_pool2d(x[index, :, top:bottom, left:right], ...)``.

    Raises:
        ValueError: wrong shapes or types, or a window that is empty or leaves its map.
    """
    pyramid = Pyramid(levels)
    boxes = _checked_windows(x, windows)
    by_size: dict[tuple[int, int], list[int]] = {}
    for k, (_, top, left, bottom, right) in enumerate(boxes):
        by_size.setdefault((bottom - top, right - left), []).append(k)
    pooled = x.new_empty(0, pyramid.output_length(x.shape[1]))
    order: list[int] = []
    parts = [pooled]
    # Windows of one size are pooled as one batch; the limit bounds the memory that their copies take.
    for (height, width), members in by_size.items():
        per_batch = max(1, _MAX_COPIED_VALUES // (x.shape[1] * height * width))
        for start in range(0, len(members), per_batch):
            chunk = members[start : start + per_batch]
            crops = _crop([boxes[k] for k in chunk], x, height, width)
            parts.append(spatial_pyramid_pool2d(crops, pyramid, mode, bins))
            order.extend(chunk)
    back = torch.tensor(order, dtype=torch.int64, device=x.device).argsort()
    return torch.cat(parts).index_select(0, back)


_MAX_COPIED_VALUES = 1 << 25


def _crop(boxes: list[list[int]], x: Tensor, height: int, width: int) -> Tensor:
    corner = torch.tensor(boxes, device=x.device)
    rows = corner[:, 1, None] + torch.arange(height, device=x.device)
    columns = corner[:, 2, None] + torch.arange(width, device=x.device)
    # Indexing puts the channels last in memory, which is what pooling wants.
    crops = x[corner[:, 0, None, None], :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)


def _checked_windows(x: Tensor, windows: Tensor) -> list[list[int]]:
    if x.dim() != 4:
        raise ValueError(f"expected maps (N, C, H, W), got {tuple(x.shape)}")
    if windows.dim() != 2 or windows.shape[1] != 5 or windows.is_floating_point() or windows.dtype == torch.bool:
        raise ValueError(
            "expected windows as integers (K, 5): map index, top, left, bottom, right; "
            f"got {tuple(windows.shape)} of {windows.dtype}"
        )
    count, _, height, width = x.shape
    boxes: list[list[int]] = windows.tolist()
    for index, top, left, bottom, right in boxes:
        if not (0 <= index < count and 0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(
                f"window {(index, top, left, bottom, right)} (map index, top, left, bottom, right) is empty or "
                f"outside the {count} maps of {height}x{width} cells"
            )
    return boxes
