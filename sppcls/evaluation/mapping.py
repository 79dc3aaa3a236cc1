"""From a window of an image to the cells of its feature map (He et al. 2015, sec. 3.1.5 and appendix).

Cell ``i`` of an axis looks at the image around pixel ``c + S i``: ``S`` is the backbone's stride and ``c`` the centre
of the first cell. Three rules for a window's first and last cell were published, and no two are equal:

``appendix``
    v4 of the paper, appendix "Mapping a Window to Feature Maps": the cells whose centres lie strictly inside the
    window. (The paper assumes paddings that put ``c`` at 0, and asks for an offset otherwise; ``c`` is that offset.)
``report``
    v2 and the printed version, for ZF-5: the cell nearest to 6.5 pixels inside the left edge and the one nearest to
    8.5 pixels before the right edge.
``released``
    the authors' released code: as ``report``, with 6.5 pixels on both sides.

No rule gives every window as many cells as a crop of its size would have. ``appendix`` does for grid-aligned windows of
ZF-5 and Overfeat, which is why it is the default. Where ``c`` is 0, as in ResNets, it leaves out the cell centred on
a window's first pixel, which ``released`` keeps.

A window without a cell gets the one in the middle, and windows are clipped to the map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from sppcls.nn import Backbone

WINDOW_RULES = ("appendix", "report", "released")

# (left, right) margins in pixels by which the report and the released code shrink a window.
_MARGINS = {"report": (6.5, 8.5), "released": (6.5, 6.5)}


def first_center(backbone: Backbone) -> float:
    """Pixel (0-based) that the first cell of the backbone's map is centred on, the same for both axes.

    Read off the layers for the paper's networks, whose poolings may round up. Other backbones pad both sides alike
    and round down, so that the map grows by a cell whenever the image grows by a stride: the image size at which that
    happens gives the centre.
    """
    layers = backbone.layers
    if isinstance(layers, nn.Sequential) and not any(list(layer.children()) for layer in layers):
        center, step = 0.0, 1
        for layer in layers:
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                kernel, stride, padding = (
                    value if isinstance(value, int) else int(value[0])
                    for value in (layer.kernel_size, layer.stride, layer.padding)
                )
                center += ((kernel - 1) / 2 - padding) * step
                step *= stride
        return center
    side = 8 * backbone.stride
    while backbone.feature_size(side, side)[0] == backbone.feature_size(side - 1, side - 1)[0]:
        side += 1
    return (side - backbone.stride * (backbone.feature_size(side, side)[0] - 1) - 1) / 2


def window_cells(
    start: int, length: int, cells: int, stride: int, center: float, rule: str
) -> tuple[int, int]:
    """Cells of one axis of the map that a window of the image is pooled from.

    Args:
        start: first pixel of the window (0-based).
        length: its length in pixels.
        cells: length of the map.
        stride, center: of the backbone; see :func:`first_center`.
        rule: one of :data:`WINDOW_RULES`.

    Returns:
        (first, one past the last), at least one cell, inside the map.
    """
    begin, end = cells_between(np.float64(start), np.float64(start + length - 1), cells, stride, center, rule)
    return int(begin), int(end)


def cells_between(
    first_pixel: np.ndarray | np.float64,
    last_pixel: np.ndarray | np.float64,
    cells: int,
    stride: int,
    center: float,
    rule: str,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`window_cells` of many windows at once, which may begin and end between pixels.

    Args:
        first_pixel, last_pixel: of each window (0-based, the last one inside it).
        cells, stride, center, rule: as of :func:`window_cells`.

    Returns:
        int64 (first, one past the last), at least one cell, inside the map.
    """
    first, last = first_and_last(first_pixel, last_pixel, cells, stride, center, rule)
    return first.astype(np.int64), last.astype(np.int64) + 1


def first_and_last(
    first_pixel: Any, last_pixel: Any, cells: Any, stride: int, center: float, rule: str, library: Any = np
) -> tuple[Any, Any]:
    """The first and the last cell of windows, as whole numbers of the type of the pixels.

    Args:
        first_pixel, last_pixel, cells, stride, center, rule: as of :func:`cells_between`.
        library: ``numpy``, or ``torch`` for tensors, in graphs too.
    """
    left, right = first_pixel - center, last_pixel - center
    if rule == "appendix":
        first, last = library.floor(left / stride) + 1, library.ceil(right / stride) - 1
    else:
        inset_left, inset_right = _MARGINS[rule]
        first = library.floor((left + inset_left) / stride + 0.5)
        last = library.ceil((right - inset_right) / stride - 0.5)
    middle = library.floor((first + last) / 2)
    empty = first > last
    first, last = (library.where(empty, middle, edge) for edge in (first, last))
    return library.clip(first, 0, cells - 1), library.clip(last, 0, cells - 1)
