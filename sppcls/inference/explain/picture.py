"""The picture of an :class:`~sppcls.inference.explain.explanation.Explanation`.

A drawing convention: cell ``i`` of the ``h`` rows of a feature map is drawn over the pixels ``[i H / h, (i + 1) H / h)``
of an image of ``H`` rows, and columns likewise. That is where a cell lies, not all that it sees: the receptive field of
a cell is larger (139 pixels for ZF-5), and at the borders the network's padding shifts it by a few pixels.
"""

from __future__ import annotations

import os
import textwrap
import warnings
from itertools import pairwise, product
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor
from torch.nn.functional import interpolate

from sppcls._util.console import printable
from sppcls._util.files import replacing
from sppcls.errors import ConfigError
from sppcls.inference.explain.attribution import Attribution, LevelSeen
from sppcls.nn.pyramid import CellRange

_FOR, _AGAINST, _DROP, _DOTS = "#c4320a", "#1f5fa8", "#a6a6a6", "#ffd21f"
_PANEL = 2.8  # inches
_DPI = 150
_WIDE = 3  # aspect from which the levels stand below each other
_ELONGATED = 6  # aspect from which a photo is stretched to fill its panel
_PIXELS = 1024  # of a panel on either side: more than twice what it has on paper, for .pdf and .svg


def explanation_figure(explanation: Attribution) -> Figure:
    """A row of what each level looked at, and a row of what it made of it.

    Top: the photo with the bins of each level, true to the bin rule (bins that share cells overlap), and a dot on each
    cell, its area in proportion to ``LevelSeen.activity``: the number of maxima it supplies or, with average and sum
    pooling, its mean activation. Bottom: the contribution of each cell to the score, in one scale for all levels; the
    bars on the left are their sums. Of a wide photo the rows are columns. A very long photo is stretched to fill its
    panels. See the head of this module for where a cell is drawn.
    """
    levels = explanation.levels
    height, width = explanation.image.shape[1:]
    aspect = min(2.5, max(0.5, height / width))
    columns = len(levels) + 1
    if width >= _WIDE * height:  # below each other
        wide = 4 * _PANEL + 0.8
        tall = columns * (2 * _PANEL * max(height / width, 1 / _ELONGATED) + 0.75) + 1.6
        figure = Figure(figsize=(wide, tall), layout="constrained")
        grid = figure.subplots(columns, 2, squeeze=False).T
    else:
        wide = _PANEL * columns + 0.8
        figure = Figure(figsize=(wide, 2 * (_PANEL * aspect + 0.55) + 1.1), layout="constrained")
        grid = figure.subplots(2, columns, squeeze=False)
    figure.suptitle(_title(explanation, round(8 * wide)), fontsize=13, parse_math=False)
    photo = _for_display(explanation.image)
    _bare(grid[0, 0], photo, explanation)
    grid[0, 0].set_title(
        f"the photo, {width} x {height}\nfeature map {explanation.map_size[1]} x {explanation.map_size[0]}",
        fontsize=10,
    )
    _bars(grid[1, 0], explanation)
    grey = np.repeat((photo @ [0.299, 0.587, 0.114])[:, :, None], 3, 2) * 0.45 + 0.5
    largest = max(max(float(seen.cells.abs().max()) for seen in levels), 1e-12)
    norm, colours = Normalize(-largest, largest), _two_colours()
    for seen, top, bottom in zip(levels, grid[0, 1:], grid[1, 1:], strict=True):
        _bare(top, photo * 0.75, explanation)
        _outline(top, seen, explanation, "white", 1.1)
        _dots(top, seen, explanation)
        top.set_title(_top_title(seen, explanation), fontsize=10)
        _bare(bottom, grey, explanation)
        extent = (0, width, height, 0)
        bottom.imshow(seen.cells.numpy(), cmap=colours, norm=norm, extent=extent, interpolation="nearest")
        _outline(bottom, seen, explanation, "black", 0.5)
        _numbers(bottom, seen, explanation)
        bottom.set_title(f"adds {_signed(seen.contribution)} to the score", fontsize=10)
    if not 1 / _ELONGATED < height / width < _ELONGATED:
        for panel in (grid[0, 0], *grid[:, 1:].flat):  # true to scale, they would be lines
            panel.set_aspect("auto")
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=grid[1, 1:], shrink=0.8, aspect=25, pad=0.01)
    bar.set_label("contribution of a cell", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    caption = "\n".join(textwrap.fill(part, round(13 * wide)) for part in _caption(explanation))
    figure.supxlabel(caption, fontsize=9, color="0.3", parse_math=False)
    return figure


def check_kind(path: str | os.PathLike[str]) -> None:
    """Raise ConfigError unless matplotlib writes files that are named like this."""
    kinds = Figure().canvas.get_supported_filetypes()
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in kinds:
        raise ConfigError(f"{path}: pictures are written as {', '.join('.' + k for k in sorted(kinds))}")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure.

    Raises:
        ConfigError: the file cannot be written.
    """
    with warnings.catch_warnings():
        # A name in a script that the font lacks is shown as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=_DPI)


def _title(explanation: Attribution, letters: int) -> str:
    top, *others = [f"{_short(name)} {100 * p:.1f} %" for name, p in explanation.top[:3]]
    for other in others:
        if len(top) + len(other) <= letters:
            top += f"   {other}"
    return f"{_short(explanation.name, letters)}\n{top}"


def _top_title(seen: LevelSeen, explanation: Attribution) -> str:
    bins, most = seen.bins.numel(), float(seen.activity.max())
    largest = (
        f"{most:.0f} of {explanation.channels} channels" if explanation.mode == "max" else f"mean {most:.2g}"
    )
    return f"level {seen.label}: {bins} bin{'s' if bins > 1 else ''}\nlargest dot: {largest}"


def _caption(explanation: Attribution) -> list[str]:
    if explanation.mode == "max":
        dots = "Dots: how many channels have the maximum of a bin in this cell (area)."
    else:
        dots = f"Dots: mean activation of each cell (area); {explanation.mode} pooling has no winning cells."
    if any(_overlap(seen.rows) or _overlap(seen.columns) for seen in explanation.levels):
        dots += " Cells between close lines belong to the bins on both sides."
    return [
        f"{dots} A cell is drawn where it lies; it sees more of the photo.",
        f"Colours: what each cell adds to the score (logit) of {_short(explanation.class_name)}, {explanation.score:.2f}; "
        "numbers: what each bin adds. Bars: the sums, and the drop of the score if a level is set to zero.",
    ]


def _overlap(ranges: list[CellRange]) -> bool:
    return any(stop > first for (_, stop), (first, _) in pairwise(ranges))


def _for_display(image: Tensor) -> np.ndarray:
    """float (h, w, 3) of an image (3, H, W), with no more rows and columns than a panel can show: drawing a panorama
    of 300 x 30,000 whole took 3 GB."""
    size = (min(image.shape[1], _PIXELS), min(image.shape[2], _PIXELS))
    shown = image if size == image.shape[1:] else interpolate(image[None], size, mode="area")[0]
    return shown.permute(1, 2, 0).numpy()


def _bare(axes: Axes, picture: np.ndarray, explanation: Attribution) -> None:
    height, width = explanation.image.shape[1:]  # the picture of a large one is reduced
    axes.imshow(picture.clip(0, 1), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()


def _outline(axes: Axes, seen: LevelSeen, explanation: Attribution, colour: str, line: float) -> None:
    step_y, step_x = _cell(explanation)
    for (top, bottom), (left, right) in product(seen.rows, seen.columns):
        corner, width, height = (
            (left * step_x, top * step_y),
            (right - left) * step_x,
            (bottom - top) * step_y,
        )
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line))


def _dots(axes: Axes, seen: LevelSeen, explanation: Attribution) -> None:
    step_y, step_x = _cell(explanation)
    activity = seen.activity.numpy().clip(0)
    rows, columns = np.nonzero(activity)
    if not len(rows):
        return
    # Small enough to leave the photo to be seen.
    widest = min(0.8 * min(step_y, step_x), min(explanation.image.shape[1:]) / 14)
    sizes = widest * np.sqrt(activity[rows, columns] / activity.max())
    places = np.stack([(columns + 0.5) * step_x, (rows + 0.5) * step_y], 1)
    axes.add_collection(
        EllipseCollection(
            sizes, sizes, np.zeros(len(sizes)), units="xy", offsets=places, offset_transform=axes.transData,
            facecolor=_DOTS, edgecolor="black", linewidth=0.4, in_layout=False,
        )
    )  # fmt: skip


def _numbers(axes: Axes, seen: LevelSeen, explanation: Attribution) -> None:
    step_y, step_x = _cell(explanation)
    size = min(11.0, 40 / max(len(seen.rows), len(seen.columns)))
    if size < 5:
        return  # could not be read
    outline = [withStroke(linewidth=1.5, foreground="white")]
    bins = zip(product(seen.rows, seen.columns), seen.bins.flatten().tolist(), strict=True)
    for ((top, bottom), (left, right)), value in bins:
        x, y = (left + right) / 2 * step_x, (top + bottom) / 2 * step_y
        axes.text(
            x,
            y,
            _signed(value),
            fontsize=size,
            ha="center",
            va="center",
            path_effects=outline,
            in_layout=False,
        )


def _cell(explanation: Attribution) -> tuple[float, float]:
    """Pixels per cell, down and across."""
    height, width = explanation.image.shape[1:]
    return height / explanation.map_size[0], width / explanation.map_size[1]


def _bars(axes: Axes, explanation: Attribution) -> None:
    levels = explanation.levels
    places = np.arange(len(levels))
    contributions = [seen.contribution for seen in levels]
    colours = [_FOR if value >= 0 else _AGAINST for value in contributions]
    axes.barh(places - 0.19, contributions, 0.36, color=colours)
    axes.barh(places + 0.19, [seen.drop for seen in levels], 0.36, color=_DROP)
    axes.set_yticks(places, [seen.label for seen in levels])
    axes.set_ylim(max(4, len(levels)) - 0.5, -0.5)  # the first level on top
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_title(f"score of {_short(explanation.class_name, 18)} by level", fontsize=10, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    names = {_FOR: "adds", _AGAINST: "takes away", _DROP: "drop if zeroed"}
    handles = [Patch(color=c, label=n) for c, n in names.items() if c in colours or c == _DROP]
    axes.legend(
        handles=handles, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3, frameon=False,
        handlelength=1, columnspacing=1,
    )  # fmt: skip


def _two_colours() -> ListedColormap:
    """Blue over nothing to red: small values let the photo through."""
    strength = np.linspace(-1, 1, 255)
    colours = np.empty((255, 4))
    colours[:, :3] = np.where(strength[:, None] < 0, to_rgb(_AGAINST), to_rgb(_FOR))
    colours[:, 3] = 0.95 * np.abs(strength) ** 0.6
    return ListedColormap(colours)


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # + 0.0 makes -0.0 positive


def _short(name: str, most: int = 24) -> str:
    text = printable(name)
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
