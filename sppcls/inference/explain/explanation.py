"""What the pyramid saw in a photo: the cells that its bins took their values from, and what each level adds to a score.

*Contribution.* A class score is the logit of a class, a function of the pooled vector ``v``. It is split among the
entries of ``v`` by integrated gradients along the straight line from the zero vector (a map without any activation)
to ``v`` (Sundararajan et al. 2017): entry ``i`` gets ``v_i`` times the mean of the score's derivative along the line.
For a linear head that is exactly weight times value; behind fc6 and fc7 the mean is taken over 256 points. The
contributions of all entries add up to the score less ``score_of_zeros``, the score of the zero vector; the part of a
bin, of a level or of a cell is the sum of its entries. With max pooling an entry belongs to the cell that holds the
maximum, with average and sum pooling to all cells of its bin in proportion to their activations.

*Drop.* By how much the score falls if all entries of a level are set to zero. More direct than the contribution, but
drops add up to nothing in particular: what two levels both know is missed only if both are gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sppcls._util.console import one_line, table
from sppcls._util.reason import reason_of
from sppcls.data.decode import read_image
from sppcls.data.geometry import default_shorter_side
from sppcls.data.pixel_range import trained_pixel_range
from sppcls.data.sizes import Size
from sppcls.data.stream import resize_to_be_seen
from sppcls.data.transforms import prepare_batch
from sppcls.errors import ConfigError, ImageError
from sppcls.inference.explain.attribution import Attribution, LevelSeen
from sppcls.inference.explain.levels import level_labels, pyramid_of
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import is_multi_label, model_info_of, probabilities
from sppcls.nn.pyramid import CellRange

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STEPS = 256  # points of the line from zero to the pooled vector
_AT_ONCE = 64


class Explanation(Attribution):
    """What a network made of one image, with its picture and its table."""

    def figure(self) -> Figure:
        """The picture; see :func:`sppcls.inference.explain.picture.explanation_figure`."""
        from sppcls.inference.explain.picture import explanation_figure

        return explanation_figure(self)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the picture as PNG, PDF, SVG or another kind that matplotlib writes.

        Raises:
            ConfigError: an unknown kind, or a file that exists already or cannot be written.
        """
        from sppcls.inference.explain.picture import check_kind, save_figure

        check_kind(path)
        if Path(path).exists() and not overwrite:
            raise ConfigError(f"{path}: exists already; name another file, or pass overwrite=True")
        save_figure(self.figure(), path)

    def __str__(self) -> str:
        """The figures of all levels as a table."""
        height, width = self.image.shape[1:]
        top = ", ".join(f"{one_line(name)} {100 * probability:.1f} %" for name, probability in self.top)
        rows, columns = self.map_size
        lines = [
            f"{one_line(self.name)}: {width} x {height} pixels (width x height), feature map {columns} x {rows}",
            top,
            "",
            f"Score (logit) of {one_line(self.class_name)}: {self.score:.3f}, of which {self.score_of_zeros:+.3f} without any activation and",
            "",
        ]
        cells = [
            (seen.label, len(seen.rows) * len(seen.columns), f"{seen.contribution:.3f}", f"{seen.drop:.3f}")
            for seen in self.levels
        ]
        lines.append(table(cells, ("level", "bins", "contribution", "drop if zeroed")))
        finer = [seen.label for seen in self.levels if len(seen.rows) > rows or len(seen.columns) > columns]
        if finer:
            lines += ["", f"The map has fewer cells than {', '.join(finer)} has bins: bins repeat cells."]
        return "\n".join(lines)


def explain(
    net: SPPClassifier,
    photo: str | os.PathLike[str] | Tensor,
    class_name: str | None = None,
    shorter_side: int | None = None,
) -> Explanation:
    """Explain the score of one class on a whole photo.

    Args:
        net: from :func:`sppcls.load_classifier`, with a pyramid.
        photo: an image file, or uint8 (3, H, W).
        class_name: the class to explain; None: the most probable one.
        shorter_side: of the photo as the network gets it, in pixels; None: as in the paper's proportion to the
            (main) size that the network was trained for, 256 for 224.

    Raises:
        ConfigError: a network without a pyramid, an unknown class, or too few pixels for the network.
        ImageError: the photo cannot be read.

    Examples:
        >>> explanation = sppcls.explain(net, "photo.jpg")
        >>> explanation.save("seen.png")
    """
    model_info = model_info_of(net)
    pyramid_of(net)
    number = None if class_name is None else class_number(model_info["classes"], class_name)
    if shorter_side is None:
        shorter_side = default_shorter_side(tuple(model_info["val_sizes"][0]))
    if isinstance(photo, Tensor):
        whole, name = photo, "image"
    else:
        whole, name = read_image(photo, pixel_range=trained_pixel_range(model_info)), Path(photo).name
    try:
        net.check_input_size(shorter_side, shorter_side)
        image = resize_to_be_seen(whole, shorter_side, net.min_input_size)
    except ImageError as error:
        raise ImageError(f"{name if isinstance(photo, Tensor) else photo}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"shorter_side={shorter_side}: {reason_of(error)}") from None
    return explain_input(net, image, (image.shape[1], image.shape[2]), model_info, number, name)


def explain_input(
    net: SPPClassifier,
    image: Tensor,
    size: Size,
    model_info: Mapping[str, Any],
    class_index: int | None,
    name: str,
) -> Explanation:
    """Explain an image that is ready for the network.

    Args:
        net: a network with a pyramid, in evaluation mode.
        image: uint8 (3, H, W).
        size: (h, w) to give it to the network in; see :func:`~sppcls.data.transforms.prepare_batch`.
        model_info: with ``classes``, ``mean`` and ``std``.
        class_index: the class to explain; None: the most probable one.
        name: of the image.
    """
    pool = pyramid_of(net)
    device = next(net.parameters()).device
    # Gradients are wanted of the head alone; a caller's inference mode would forbid even those.
    with torch.inference_mode(False), torch.no_grad():
        x = prepare_batch(image[None].to(device), size, model_info["mean"], model_info["std"])
        feature_map = net.forward_features(x)
        pooled = net.forward_pool(feature_map)
        logits = net.forward_head(pooled)[0].float()
        k = int(logits.argmax()) if class_index is None else class_index
        slices = pool.pyramid.level_slices(feature_map.shape[1])
        without = pooled.repeat(len(slices) + 1, 1)
        for row, part in enumerate(slices):
            without[row, part] = 0
        without[-1] = 0
        scores = net.forward_head(without)[:, k].tolist()
        slopes = _mean_slopes(net, pooled[0], k).cpu()
        values = pooled[0].float().cpu()
        mean, std = (torch.tensor(model_info[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
        shown = (x[0] * std + mean).clamp(0, 1).cpu()
        cells = feature_map[0].float().cpu()
    map_size = (cells.shape[1], cells.shape[2])
    levels = []
    ranges = pool.pyramid.cell_ranges(map_size, pool.bin_rule)
    for label, part, (rows, columns), without_it in zip(
        level_labels(pool.pyramid), slices, ranges, scores[:-1], strict=True
    ):
        slope = slopes[part].view(-1, len(rows), len(columns))
        share = slope * values[part].view_as(slope)
        evidence, activity = _to_cells(cells, slope, rows, columns, pool.mode)
        drop = float(logits[k]) - without_it
        levels.append(
            LevelSeen(label, rows, columns, float(share.sum()), drop, share.sum(0), evidence, activity)
        )
    return Explanation(
        name=name,
        image=shown.contiguous(),
        classes=list(model_info["classes"]),
        probabilities=probabilities(logits, is_multi_label(model_info)).cpu(),
        class_index=k,
        score=float(logits[k]),
        score_of_zeros=scores[-1],
        map_size=map_size,
        channels=len(cells),
        mode=pool.mode,
        bin_rule=pool.bin_rule,
        levels=tuple(levels),
    )


def class_number(classes: Sequence[str], name: str) -> int:
    """Number of a class.

    Raises:
        ConfigError: no such class; names what it may be.
    """
    if name in classes:
        return list(classes).index(name)
    near = get_close_matches(name, classes, 3) or list(classes[:5])
    more = "" if len(near) == len(classes) else f", ... ({len(classes)} classes)"
    raise ConfigError(f"class {name!r}: the network does not know it; choose from {', '.join(near)}{more}")


def _mean_slopes(net: SPPClassifier, pooled: Tensor, k: int) -> Tensor:
    """Derivative of the logit of class ``k`` by each entry of a pooled vector (length,), its mean over the line from
    zero to the vector."""
    # A linear head has one derivative everywhere.
    steps = _STEPS if len(net.head.hidden) else 1
    shares = (torch.arange(steps, device=pooled.device) + 0.5) / steps
    total = torch.zeros_like(pooled)
    with torch.enable_grad():
        for part in shares.split(_AT_ONCE):
            points = (part[:, None] * pooled).requires_grad_()
            (slope,) = torch.autograd.grad(net.forward_head(points)[:, k].sum(), points)
            total += slope.sum(0)
    return total / steps


def _to_cells(
    cells: Tensor, slope: Tensor, rows: list[CellRange], columns: list[CellRange], mode: str
) -> tuple[Tensor, Tensor]:
    """(contribution, activity) of each cell, both (h, w), from cells (C, h, w) and from the slopes (C, rows, columns)
    of a level's entries."""
    width = cells.shape[2]
    channels = torch.arange(len(cells))
    evidence = torch.zeros(cells[0].numel())
    wins = torch.zeros(len(cells), cells[0].numel(), dtype=torch.bool)
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            place = (torch.arange(top, bottom)[:, None] * width + torch.arange(left, right)).flatten()
            values = cells[:, top:bottom, left:right].flatten(1)
            if mode == "max":
                value, winner = values.max(1).values, place[values.argmax(1)]
                evidence.index_add_(0, winner, slope[:, i, j] * value)
                wins[channels, winner] |= value != 0
            else:
                divisor = len(place) if mode == "avg" else 1
                evidence.index_add_(0, place, slope[:, i, j] @ values / divisor)
    activity = wins.sum(0).float().view_as(cells[0]) if mode == "max" else cells.mean(0)
    return evidence.view_as(cells[0]), activity
