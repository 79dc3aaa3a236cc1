"""Draw ``docs/pyramid.svg``: the bins of a {6,3,2,1} pyramid on the maps of a 224 and of a 180 image.

python docs/pyramid.py
"""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sppcls.nn import Pyramid

PYRAMID = Pyramid([6, 3, 2, 1])
MAPS = {224: 13, 180: 10}
COLOURS = ["#4c78a8", "#f58518", "#54a24b", "#b279a2"]


def main() -> None:
    matplotlib.rcParams["svg.hashsalt"] = "sppcls"
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    grid = figure.subplots(2, 5, width_ratios=[1.25, 1, 1, 1, 1])
    for row, (pixels, cells) in zip(grid, MAPS.items(), strict=True):
        row[0].set_axis_off()
        text = f"{pixels} × {pixels} image\n\n→ conv layers →\n\n{cells} × {cells} map"
        row[0].text(0.5, 0.5, text, ha="center", va="center", fontsize=13)
        ranges = PYRAMID.cell_ranges((cells, cells))
        for axes, (bins, _), (rows, columns), colour in zip(
            row[1:], PYRAMID.levels, ranges, COLOURS, strict=True
        ):
            for k in range(cells + 1):
                axes.plot([0, cells], [k, k], color="0.85", lw=0.6)
                axes.plot([k, k], [0, cells], color="0.85", lw=0.6)
            for top, bottom in rows:
                for left, right in columns:
                    # A little inset, so that bins that share cells can be told apart.
                    box = (left + 0.12, top + 0.12), right - left - 0.24, bottom - top - 0.24
                    axes.add_patch(Rectangle(*box, fc=colour, alpha=0.25, lw=0))
                    axes.add_patch(Rectangle(*box, fill=False, ec=colour, lw=1.2))
            axes.set(xlim=(-0.2, cells + 0.2), ylim=(cells + 0.2, -0.2), aspect="equal")
            axes.set_axis_off()
            axes.set_title(f"level {bins}: {bins * bins} bins", fontsize=11)
    figure.supxlabel(
        f"{PYRAMID.bins} bins for either image: the maximum of every channel in every bin is one vector of "
        f"{PYRAMID.bins} × channels numbers",
        fontsize=12,
    )
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
