"""The levels of a pyramid over a whole network or a whole set of images: weights, and errors without a level."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from sppcls._util.console import table
from sppcls.data import labelled_images, set_pixel_range, trained_pixel_range
from sppcls.data.files import Source
from sppcls.data.sizes import Size, area
from sppcls.data.stream import load_each, readable
from sppcls.data.transforms import EvalTransform, prepare_batch
from sppcls.errors import ConfigError, DataError
from sppcls.nn import Pyramid, SpatialPyramidPooling2d, SPPClassifier
from sppcls.nn.model_info import is_multi_label


def pyramid_of(net: SPPClassifier, name: str = "this network") -> SpatialPyramidPooling2d:
    """The pyramid of a network.

    Raises:
        ConfigError: it has none; starts with ``name``.
    """
    if isinstance(net.pool, SpatialPyramidPooling2d):
        return net.pool
    kind = "a fully-convolutional head" if net.head.takes_maps else "its backbone's own pooling"
    raise ConfigError(
        f"{name}: has {kind} and no pyramid to explain; a network trained with pyramid.levels is needed"
    )


def level_labels(pyramid: Pyramid) -> list[str]:
    """``"6x6"`` for each level; a second level of the same bins is ``"6x6_2"``."""
    seen: Counter[str] = Counter()
    labels = []
    for rows, columns in pyramid.levels:
        label = f"{rows}x{columns}"
        seen[label] += 1
        labels.append(label if seen[label] == 1 else f"{label}_{seen[label]}")
    return labels


@dataclass(frozen=True)
class WeightNorm:
    """Weights of one level in the head's first layer.

    Attributes:
        label: of the level.
        bins: its number of bins.
        total: Frobenius norm of the columns of the weight matrix that the level's entries meet.
        per_bin: ``total / sqrt(bins)``, the root mean square over bins of the norm of one bin's columns. Levels have
            the same one after a random start, so here they can be compared. (Short trainings move it little from there:
            then the errors without a level say more.)
    """

    label: str
    bins: int
    total: float
    per_bin: float


def first_layer(net: SPPClassifier) -> str:
    """What the layer that meets the pooled vector is called: ``fc6``, or ``classifier`` of a linear head."""
    return next((name for name, _ in net.head.hidden.named_children()), "classifier")


def weight_norms(net: SPPClassifier) -> list[WeightNorm]:
    """Norms of the weights of fc6 (of a linear head: of the classifier itself), level by level.

    Raises:
        ConfigError: a network without a pyramid.
    """
    pool = pyramid_of(net)
    layer = next(m for m in net.head.modules() if isinstance(m, torch.nn.Linear))
    weight = layer.weight.detach().float()
    norms = []
    labels, slices = level_labels(pool.pyramid), pool.pyramid.level_slices(net.backbone.out_channels)
    for label, bins, part in zip(labels, pool.pyramid.bins_per_level, slices, strict=True):
        total = float(weight[:, part].norm())
        norms.append(WeightNorm(label, bins, total, total / bins**0.5))
    return norms


def norms_table(net: SPPClassifier) -> str:
    """:func:`weight_norms` as text."""
    rows = [(norm.label, norm.bins, f"{norm.total:.3f}", f"{norm.per_bin:.3f}") for norm in weight_norms(net)]
    return table(rows, ("level", "bins", f"norm of its {first_layer(net)} weights", "per bin"))


@dataclass(frozen=True)
class LevelErrors:
    """Top-1 errors of a network whose levels are set to zero in turn.

    Attributes:
        images: number of images counted.
        full: error of the whole network, per cent.
        without: error without each level, per cent, by the level's label.
        bad: one line for each image that could not be read and is not counted.
    """

    images: int
    full: float
    without: dict[str, float]
    bad: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [("none", f"{self.full:.2f}", "")]
        rows += [(label, f"{e:.2f}", f"{e - self.full:+.2f}") for label, e in self.without.items()]
        return table(rows, ("level set to zero", "top-1 error, %", "more"))


def level_errors(
    net: SPPClassifier, folder: str | os.PathLike[str], batch_size: int = 32, workers: int = 0
) -> LevelErrors:
    """Top-1 error over a folder of class folders with each level set to zero, nothing being trained anew.

    It says how much this network leans on a level, not how good it would have become without it.

    Images are seen as in the validation of the training: one centre view at the main size. So the error of the whole
    network is the run's own if these are its validation images.

    Args:
        net: from :func:`sppcls.load_classifier`, with a pyramid.
        folder: with a folder of images for every class of the network, or with such a folder called ``val``.
        batch_size: images at once.
        workers: processes that read images.

    Raises:
        ConfigError: a network without a pyramid, or of several labels.
        CheckpointError: the folder has other classes than the network; says which.
        DataError: there is no such folder, or no image in it that can be read.
    """
    pyramid_of(net)
    model_info = net.model_info
    if is_multi_label(model_info):
        raise ConfigError(
            "level_errors: counts top-1 errors, and this network gives several labels of an image"
        )
    source = labelled_images(folder, model_info["classes"])
    set_pixel_range(trained_pixel_range(model_info), source)
    main = tuple(model_info["val_sizes"][0])
    sizes = [tuple(size) for size in (model_info["architecture"]["input_size"], *model_info["val_sizes"])]
    view = EvalTransform(max(sizes, key=area), model_info["config"]["augment"]["shorter_side"])
    errors = count_errors(net, source, view, main, model_info, batch_size=batch_size, workers=workers)
    if not errors.images:
        raise DataError(f"{folder}: no image in it can be read; the first: {errors.bad[0]}")
    return errors


def count_errors(
    net: SPPClassifier,
    source: Source,
    view: Callable[[Tensor], Tensor],
    size: Size,
    model_info: Mapping[str, Any],
    *,
    indices: Sequence[int] | None = None,
    batch_size: int = 32,
    workers: int = 0,
) -> LevelErrors:
    """Count the errors of :class:`LevelErrors`.

    Args:
        net: a network with a pyramid, in evaluation mode.
        source: images and their classes.
        view: uint8 (3, H, W) to a region of one shape, uint8.
        size: (h, w) of the network's input, in pixels.
        model_info: with ``mean`` and ``std``.
        indices: the images to count; None: all.
        batch_size: images at once.
        workers: processes that read images.
    """
    pool = pyramid_of(net)
    labels = level_labels(pool.pyramid)
    slices = pool.pyramid.level_slices(net.backbone.out_channels)
    device = next(net.parameters()).device
    wrong, images, bad = [0] * (len(labels) + 1), 0, list[str]()
    count = len(source) if indices is None else len(indices)
    loaded = load_each(partial(_region, source, view), len(source), workers, indices)
    shown = tqdm(loaded, total=count, disable=None, leave=False, unit="image", desc="without a level")
    regions_read = readable(shown, bad)
    while batch := list(islice(regions_read, batch_size)):
        target = torch.tensor([source.targets[index] for index, _ in batch], device=device)
        with torch.inference_mode():
            regions = torch.stack([region for _, region in batch]).to(device)
            x = prepare_batch(regions, size, model_info["mean"], model_info["std"])
            pooled = net.forward_pool(net.forward_features(x))
            for row, part in enumerate([slice(0, 0), *slices]):  # the first: nothing is set to zero
                changed = pooled.clone()
                changed[:, part] = 0
                wrong[row] += int((net.forward_head(changed).argmax(1) != target).sum())
        images += len(batch)
    shares = [100 * n / max(1, images) for n in wrong]
    return LevelErrors(images, shares[0], dict(zip(labels, shares[1:], strict=True)), tuple(bad))


def _region(source: Source, view: Callable[[Tensor], Tensor], index: int) -> Tensor:
    return view(source.image(index))
