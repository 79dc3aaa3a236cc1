"""Fine-tuning of the fully-connected layers on windows (He et al. 2015, sec. 4.1); the convolutions stay as they are.

The last layer becomes one of the set's classes and the background. A mini-batch has 32 windows that overlap an object by 0.5
or more, with its class, and 96 that overlap one by 0.1 to 0.5, which are background. They are drawn from some images
at a time, whose windows are pooled once for a block of mini-batches.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sppcls.detection.progress import Wrap, unseen
from sppcls.detection.steps import Log, Steps, TuningRules, train_steps
from sppcls.detection.window_set import WindowSet
from sppcls.errors import DataError
from sppcls.nn import SPPClassifier

BACKGROUND = "(background)"
"""The last class of a network whose fc layers were fine-tuned."""

_FOREGROUND, _BATCH = 32, 128
_BLOCK = 50  # steps
_IMAGES, _OF_IMAGE = 64, (64, 192)  # of a block; windows of each image that are objects and background


def with_background(net: SPPClassifier, classes: tuple[str, ...], seed: int = 0) -> SPPClassifier:
    """A copy of a network whose last layer is new: the given classes, then the background; weights from N(0, 0.01)."""
    tuned = copy.deepcopy(net)
    last = tuned.head.last
    assert isinstance(last, nn.Linear)
    fresh = nn.Linear(last.in_features, len(classes) + 1, device=last.weight.device)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        fresh.weight.copy_(torch.randn(fresh.weight.shape, generator=generator) * 0.01)
        fresh.bias.zero_()
    tuned.head.last = fresh
    info = copy.deepcopy(net.model_info)
    info["architecture"]["num_classes"] = len(classes) + 1
    info["classes"] = [*classes, BACKGROUND]
    tuned.model_info = info
    return tuned


def tune(
    net: SPPClassifier,
    windows: WindowSet,
    rules: TuningRules,
    state: Path,
    *,
    log: Log = lambda step, figures: None,
    progress: Wrap = unseen,
) -> None:
    """Train the head of a network from :func:`with_background`, in place.

    Args:
        net: the network; its backbone is not touched.
        windows: of the training images.
        rules: the recipe.
        state: file that the run goes on from after a kill; it is written after every block.
        log: takes the step and the figures of every block: loss, error on objects and on background, lr.
        progress: wraps the steps.

    Raises:
        DataError: no window is an object, or none background.
    """
    objects, background = candidates(windows)
    kept: dict[int, tuple[Tensor, Tensor, int]] = {}

    def draw(step: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        block = step // _BLOCK
        if block not in kept:
            kept.clear()
            kept[block] = _block(windows, objects, background, rules.seed, block)
        pooled, labels, foreground = kept[block]
        sides = (0, foreground, _FOREGROUND), (foreground, len(labels) - foreground, _BATCH - _FOREGROUND)
        # With replacement only where there are not enough.
        places = [rng.choice(n, wanted, replace=n < wanted) + start for start, n, wanted in sides]
        where, device = torch.from_numpy(np.concatenate(places)), windows.regions.device
        return pooled[where].to(device), labels[where].to(device)

    steps = Steps(rules.steps, rules.lr, _BLOCK, 2)
    train_steps(net, net.head, draw, state, rules, steps, log=log, progress=progress)


def candidates(windows: WindowSet) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each image the windows that are objects, and those that are background: rows of (place, label)."""
    objects, background = [], []
    nothing = len(windows.images.classes)
    for index, truth in enumerate(windows.images.truths):
        best, number = windows.best_object(index)
        places = np.flatnonzero(best >= 0.5)
        objects.append(np.stack([places, truth.labels[number[places]]], 1))
        # Not on a difficult object either, which is no background.
        most = windows.overlaps[index].max(1, initial=0)
        places = np.flatnonzero((best >= 0.1) & (most < 0.5))
        background.append(np.stack([places, np.full(len(places), nothing)], 1))
    for rows, what in ((objects, "0.5 or more"), (background, "0.1 to 0.5")):
        if not any(map(len, rows)):
            raise DataError(
                f"{windows.images.name}: no window overlaps an object by {what}, so there is nothing to fine-tune on"
            )
    return objects, background


def _block(
    windows: WindowSet, objects: list[np.ndarray], background: list[np.ndarray], seed: int, block: int
) -> tuple[Tensor, Tensor, int]:
    """Pooled windows of some images, objects first; their labels; the number of objects."""
    useful = np.flatnonzero([len(o) + len(b) > 0 for o, b in zip(objects, background, strict=True)])
    with_objects = np.flatnonzero([len(rows) > 0 for rows in objects])
    rng = np.random.default_rng([seed, 1, block])
    chosen = rng.permutation(useful)[:_IMAGES]
    with_background = np.flatnonzero([len(rows) > 0 for rows in background])
    # At least one image with an object, and one with background.
    chosen = np.unique([*chosen, rng.choice(with_objects), rng.choice(with_background)])
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    labels: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for index in chosen:
        drawn = [
            rows[rng.permutation(len(rows))[:most]]
            for rows, most in zip((objects[index], background[index]), _OF_IMAGE, strict=True)
        ]
        places = np.concatenate([rows[:, 0] for rows in drawn]).astype(np.int64)
        cells, inverse = np.unique(windows.places[index][places], return_inverse=True)
        pooled = windows.pooled(int(index), cells).cpu()[torch.from_numpy(inverse.reshape(-1))]
        split = len(drawn[0])
        for side, part in enumerate((pooled[:split], pooled[split:])):
            parts[side].append(part)
            labels[side].append(drawn[side][:, 1])
    every = np.concatenate([*labels[0], *labels[1]]).astype(np.int64)
    return torch.cat([*parts[0], *parts[1]]), torch.from_numpy(every), sum(map(len, labels[0]))
