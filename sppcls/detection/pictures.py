"""An evaluation as pictures: precision against recall, what is confused, the worst mistakes; also for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from sppcls._util.files import replacing, write_csv
from sppcls.data.pixel_range import trained_pixel_range
from sppcls.detection.ap import MEASURES, Detections, Result
from sppcls.detection.detector import Detector
from sppcls.detection.mistakes import confusion, worst
from sppcls.detection.output import draw
from sppcls.detection.truth import DetectionSet

_TILE = 320  # pixels of a photo in the picture of mistakes


def write_pictures(
    folder: Path, images: DetectionSet, found: Sequence[Detections], result: Result, detector: Detector
) -> None:
    """Write ``pr.png``, ``pr.csv``, ``confusion.png``, ``confusion.csv``, ``mistakes.jpg`` and an event file of TensorBoard.

    Args:
        folder: exists.
        images, found, result: what was judged.
        detector: whose detections they are; the matrix counts those that it thinks worth showing.

    Raises:
        ConfigError: they cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter

    images = images.seen_as(trained_pixel_range(detector.regions.net.model_info))
    counts = confusion(images, [detector.worth_showing(one) for one in found])
    drawn = {
        "pr.png": _curves(result),
        "confusion.png": _matrix(images.classes, counts),
        "mistakes.jpg": _mistakes(images, found, result),
    }
    for name, picture in drawn.items():
        with replacing(folder / name, "--pictures") as temporary:
            picture.save(temporary)
    columns = ("class", "score", "recall", "precision")
    rows = [
        dict(zip(columns, (one.name, f"{score:.6g}", f"{recall:.6f}", f"{precision:.6f}"), strict=True))
        for one, ranking in zip(result.classes, result.rankings, strict=True)
        for score, recall, precision in zip(ranking.scores, *ranking.curve(), strict=True)
    ]
    write_csv(folder / "pr.csv", rows, columns, "--pictures")
    names = [*images.classes, ""]  # no object, or not found
    pairs = [
        {"object": names[row], "found as": names[column], "count": count}
        for (row, column), count in np.ndenumerate(counts)
    ]
    write_csv(folder / "confusion.csv", pairs, option="--pictures")
    with SummaryWriter(str(folder)) as writer:
        for measure in MEASURES:
            writer.add_scalar(f"mAP/{measure}", result.mean[measure])
            for one in result.classes:
                if one.objects:
                    writer.add_scalar(f"AP {measure}/{one.name}", one.ap[measure])
        for name, picture in drawn.items():
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
            writer.add_image(f"detection/{Path(name).stem}", pixels)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # draws without a display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _image(figure: Any) -> Image.Image:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=120)
    return Image.open(data).convert("RGB")


def _curves(result: Result) -> Image.Image:
    figure, axes = _figure(8, 5)
    for one, ranking in zip(result.classes, result.rankings, strict=True):
        if not one.objects:
            continue
        recall, precision = ranking.curve()
        label = f"{one.name}: {one.ap['all-point']:.1f} ({one.objects} objects)"
        axes.step(np.r_[0, recall], np.r_[precision[:1], precision], where="pre", label=label, linewidth=1.5)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"average precision of all points, mean {result.mean['all-point']:.1f} %", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    return _image(figure)


def _matrix(classes: Sequence[str], counts: np.ndarray) -> Image.Image:
    names = [*classes, "none"]
    figure, axes = _figure(2 + 0.6 * len(names), 1.5 + 0.5 * len(names))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if (row, column) != (len(classes), len(classes)):
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="found as", ylabel="object")
    return _image(figure)


def _mistakes(images: DetectionSet, found: Sequence[Detections], result: Result) -> Image.Image:
    """The surest mistakes, each on its photo with the objects of that photo in white."""
    listed = worst(images, found, result)
    columns = min(4, max(1, len(listed)))
    rows = -(-len(listed) // columns) or 1
    sheet = Image.new("RGB", (columns * _TILE, rows * (_TILE + 18)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, mistake in enumerate(listed):
        one, truth = found[mistake.image], images.truths[mistake.image]
        photo = draw(images.image(mistake.image), one[[mistake.place]], images.classes)
        own = ImageDraw.Draw(photo)
        for left, top, right, bottom in truth.boxes:
            own.rectangle(
                (left, top, right - 1, bottom - 1), outline="white", width=max(1, max(photo.size) // 400)
            )
        photo.thumbnail((_TILE - 6, _TILE - 6))
        x, y = number % columns * _TILE, number // columns * (_TILE + 18)
        sheet.paste(photo, (x, y + 18))
        pen.text((x + 2, y + 2), f"{images.names[mistake.image][:30]}: {mistake.kind}", fill="black")
    return sheet
