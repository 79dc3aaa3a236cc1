"""``sppcls lr``: which learning rates lower the loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sppcls._util.console import table
from sppcls.cli.command import command
from sppcls.cli.common import Positive, RunWords
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.engine.lr_finder import RateTest

_ROWS, _WIDTH = 16, 40


@command
def run(
    given: RunWords,
    *,
    steps: Positive = 100,
    low: float = 1e-6,
    high: float = 1.0,
    out: Path | None = None,
) -> int:
    """Train a few steps at a learning rate that rises from one to the next, with the images, sizes and parts of a
    config, print the loss beside the rate and suggest one. Writes nothing, unless --out names a picture.

    examples:
      sppcls lr
      sppcls lr --data PHOTOS backbone=resnet18 head=linear --out rates.png

    Args:
        steps (N): updates
        low (RATE): first rate
        high (RATE): last rate
        out (FILE): also draw the curve: .png, .svg or .pdf
    """
    if out and out.suffix not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"--out {out}: must end in .png, .svg or .pdf")
    if out and not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: no such folder")
    config = given.compose()
    # Imported here: it takes seconds, and a wrong config should be reported at once.
    from sppcls.engine.lr_finder import find_rate

    test = find_rate(config, steps, low, high)
    print(curve(test))
    if out:
        _draw(test, out)
        print(f"Picture: {out}")
    return 0


def curve(test: RateTest) -> str:
    """The smoothed loss at some of the rates, with bars, and what to try."""
    count = len(test.rates)
    shown = sorted({round(i * (count - 1) / (_ROWS - 1)) for i in range(_ROWS)})
    top = min(max(test.smoothed), 2 * test.smoothed[0])
    rows = [
        (
            f"{test.rates[i]:.2g}",
            f"{test.smoothed[i]:.3f}",
            "#" * max(1, round(min(1.0, test.smoothed[i] / top) * _WIDTH)),
        )
        for i in shown
    ]
    lines = [table(rows, ["rate", "loss", ""]), ""]
    if test.ended:
        lines.append(f"Ended at {test.rates[-1]:.2g}, as {test.ended}.")
    if test.steepest is None:
        lines.append("The loss does not fall at any of these rates: try a higher --high, or more --steps.")
    else:
        steepest, lowest = test.rates[test.steepest], test.rates[test.lowest]
        lines.append(f"The loss falls fastest at {steepest:.2g} and is lowest at {lowest:.2g}.")
        lines.append(f"Try optimizer.lr={steepest:.2g}; a few steps say nothing about the end of a training.")
    return "\n".join(lines)


def _draw(test: RateTest, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx(test.rates, test.losses, ".", color="0.7", label="loss of a step")
    axes.semilogx(test.rates, test.smoothed, label="running mean")
    if test.steepest is not None:
        rate = test.rates[test.steepest]
        axes.axvline(rate, linestyle="--", color="#D55E00", label=f"falls fastest: {rate:.2g}")
    axes.set(
        xlabel="learning rate", ylabel="training loss", ylim=(0, 1.2 * max(test.smoothed[: test.lowest + 1]))
    )
    axes.legend()
    figure.savefig(path)
