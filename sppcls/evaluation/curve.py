"""Resolution curve: the error of one network against the size of its test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from sppcls._util.figures import FIGURES
from sppcls._util.files import replacing
from sppcls.errors import ConfigError
from sppcls.evaluation.evaluate import Result

_COLOURS = ("#1f5fa8", "#c8501e", "#2e8540", "#7a3e9d", "#8c6d1f", "#444444")


def parse_sizes(text: str) -> list[int]:
    """Sizes from ``96:448:32`` (both ends included) or ``96,128,224``.

    Raises:
        ConfigError: anything else.
    """
    bounds = text.split(":")
    try:
        if len(bounds) == 3:
            low, high, step = map(int, bounds)
            sizes = list(range(low, high + 1, step)) if step > 0 else []
        else:
            sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise ConfigError(
            f"--sizes {text}: give low:high:step, such as 96:448:32, or sizes such as 96,180,224"
        )
    return sorted(set(sizes))


def curve_figure(results: Sequence[Result], train_sizes: Sequence[int], title: str) -> Figure:
    """The headline error against the side of the region, a line for each protocol, its 95 % interval shaded."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for size in train_sizes:
        axes.axvline(size, color="0.75", linewidth=1, linestyle="--", zorder=0)
    lines: dict[str, list[Result]] = {}
    for result in results:
        lines.setdefault(result.label, []).append(result)
    for colour, (label, members) in zip(_COLOURS * len(lines), lines.items(), strict=False):
        x = [min(r.protocol.region) for r in members]
        axes.plot(x, [r.predictions.main_error for r in members], "o-", ms=4, color=colour, label=label)
        low, high = zip(*(r.predictions.interval for r in members), strict=True)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    x_label = "test size, pixels (of crops; the shorter side of whole images is 8/7 of it)"
    axes.set(xlabel=x_label, ylabel=f"{FIGURES[results[0].predictions.kind.main].words}, %", title=title)
    axes.grid(color="0.92")
    axes.legend(frameon=False, title="shaded: 95 % interval\ndashed: trained at", title_fontsize="small")
    return figure


def write_curve(folder: Path, results: Sequence[Result], train_sizes: Sequence[int], title: str) -> Path:
    """The curve as ``resolution.png`` and, in TensorBoard, as scalars against the size and as a picture."""
    figure = curve_figure(results, train_sizes, title)
    path = folder / "resolution.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    with SummaryWriter(str(folder)) as writer:
        for result in results:
            name = result.label.replace(" ", "_").replace("(", "").replace(")", "")
            size = min(result.protocol.region)
            figures, kind = result.predictions.figures, result.predictions.kind
            for error in (kind.main, kind.beside):
                writer.add_scalar(f"resolution/{name}_{error}", figures[error], size)
        writer.add_figure("resolution/curve", figure)
    return path
