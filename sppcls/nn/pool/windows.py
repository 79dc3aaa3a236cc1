"""Pooling windows of a feature map, so that many views of an image cost one pass through the convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sppcls.nn.pool.reference import check_map, check_pool_mode, pool_levels
from sppcls.nn.pyramid import Pyramid, check_bin_rule

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_MAX_COPIED_VALUES = 1 << 25  # 128 MiB of float32: the most that one batch of windows may take


def pool_windows(
    x: Tensor,
    windows: Tensor,
    levels: Iterable[int | Sequence[int]] | Pyramid,
    mode: str = "max",
    bin_rule: str = "adaptive",
) -> Tensor:
    """Pool windows of feature maps to the same vector as a whole map: sec. 3.1.5 and 4.1 of He et al. 2015.

    Args:
        x: floating-point maps (N, C, H, W).
        windows: integers (K, 5), each row (index of the map in ``x``, top, left, bottom, right) in cells,
            ``bottom`` and ``right`` one past the last cell. They may overlap and repeat.
        levels, mode, bin_rule: as for :func:`~sppcls.nn.spp.spatial_pyramid_pool2d`.

    Returns:
        (K, C * bins); row k equals ``spatial_pyramid_pool2d(x[index, :, top:bottom, left:right], ...)``.
        Small windows are usual, so levels larger than a window bring no warning.

    Raises:
        ValueError: unknown mode or rule, bad levels, wrong shapes or types, a window that is empty or leaves
            its map, or ``sliding`` bins on a window smaller than a level.
    """
    pyramid = Pyramid(levels)
    check_pool_mode(mode)
    check_bin_rule(bin_rule)
    boxes = _checked_windows(x, windows)
    by_size: dict[tuple[int, int], list[int]] = {}
    for k, (_, top, left, bottom, right) in enumerate(boxes):
        by_size.setdefault((bottom - top, right - left), []).append(k)
    order: list[int] = []
    parts = [x.new_empty(0, pyramid.output_length(x.shape[1]))]
    # Windows of one size are pooled as one batch.
    for size, members in by_size.items():
        pyramid.check_map_size(size, bin_rule)
        per_batch = max(1, _MAX_COPIED_VALUES // (x.shape[1] * size[0] * size[1]))
        for start in range(0, len(members), per_batch):
            chunk = members[start : start + per_batch]
            crops = _crop([boxes[k] for k in chunk], x, size)
            parts.append(pool_levels(crops, pyramid.levels, mode, bin_rule))
            order.extend(chunk)
    back = torch.tensor(order, dtype=torch.int64, device=x.device).argsort()
    return torch.cat(parts).index_select(0, back)


def _crop(boxes: list[list[int]], x: Tensor, size: tuple[int, int]) -> Tensor:
    corner = torch.tensor(boxes, device=x.device)
    rows = corner[:, 1, None] + torch.arange(size[0], device=x.device)
    columns = corner[:, 2, None] + torch.arange(size[1], device=x.device)
    # Indexing puts the channels last in memory, which is what pooling wants.
    crops = x[corner[:, 0, None, None], :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)


def _checked_windows(x: Tensor, windows: Tensor) -> list[list[int]]:
    if x.dim() != 4:
        raise ValueError(f"expected maps (N, C, H, W), got {tuple(x.shape)}")
    check_map(x)
    if windows.dim() != 2 or windows.shape[1] != 5 or windows.dtype not in _INTEGERS:
        raise ValueError(
            "expected windows as integers (K, 5): map index, top, left, bottom, right; "
            f"got {tuple(windows.shape)} of {windows.dtype}"
        )
    count, _, height, width = x.shape
    boxes: list[list[int]] = windows.tolist()
    for index, top, left, bottom, right in boxes:
        if not (0 <= index < count and 0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(
                f"window {(index, top, left, bottom, right)} (map index, top, left, bottom, right) is empty "
                f"or outside the {count} maps of {height}x{width} cells"
            )
    return boxes
