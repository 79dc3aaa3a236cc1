"""One look for each group on every picture: colour for one factor, marker and line for the others."""

from __future__ import annotations

from typing import NamedTuple

from sppcls.comparison.groups import Comparison, Group

# Okabe and Ito's colours, which the colour-blind can tell apart; black and yellow left out.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "os^Dv<>P"
_LINES = ("-", "--", ":", "-.")


class Style(NamedTuple):
    """How a group is drawn."""

    colour: str
    marker: str
    line: str


def style_of(comparison: Comparison, group: Group) -> Style:
    """Colour by the training sizes if they were varied, else by the first factor; the rest by marker and line."""
    factors = list(comparison.factors)
    leading = "sizes" if "sizes" in factors else factors[0] if factors else ""
    colours = list(dict.fromkeys(g.levels.get(leading, "") for g in comparison.groups))
    others = list(dict.fromkeys(_others(g, leading) for g in comparison.groups))
    colour, other = colours.index(group.levels.get(leading, "")), others.index(_others(group, leading))
    other += colour // len(_COLOURS)  # of more levels than colours
    return Style(
        _COLOURS[colour % len(_COLOURS)], _MARKERS[other % len(_MARKERS)], _LINES[other % len(_LINES)]
    )


def _others(group: Group, leading: str) -> tuple[str, ...]:
    return tuple(level for factor, level in group.levels.items() if factor != leading)
