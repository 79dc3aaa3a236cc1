"""Fine-tuning through the pooling into the convolutions (Girshick 2015, "Fast R-CNN", sec. 2.3).

The paper trains fc layers on pooled vectors that are kept, so its convolutions stay as they were: the limit that Fast R-CNN
lifted. A mini-batch here has two images, half of them mirrored, and 64 windows of each, so that a pass through the
convolutions serves many windows. Batch norm keeps the statistics of the classifier.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sppcls.detection.boxes import flip
from sppcls.detection.pooled import Regions
from sppcls.detection.progress import Wrap, unseen
from sppcls.detection.steps import Log, Steps, TuningRules, train_steps
from sppcls.detection.tuning import candidates
from sppcls.detection.window_set import WindowSet

# Images of a mini-batch, windows of each, and those of them that are objects.
_IMAGES, _OF_IMAGE, _OBJECTS = 2, 64, 16
_SAVED = 20  # steps


def tune_convolutions(
    regions: Regions,
    windows: WindowSet,
    rules: TuningRules,
    state: Path,
    *,
    log: Log = lambda step, figures: None,
    progress: Wrap = unseen,
) -> None:
    """Train all of a network whose head is from :func:`~sppcls.detection.tuning.with_background`, in place.

    As :func:`~sppcls.detection.tuning.tune`; the state is written every 20 steps.

    Args:
        regions: the network, and the scales that windows are taken from.
        windows: of the training images; their own maps are not used.
        rules: ``convolutions`` steps of ``convolutions_lr``.
    """
    objects, background = candidates(windows)
    useful = [i for i in range(len(windows)) if len(objects[i]) and len(background[i])]
    useful = useful or [i for i in range(len(windows)) if len(objects[i]) or len(background[i])]

    def draw(step: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        rows, labels = [], []
        for index in rng.choice(useful, min(_IMAGES, len(useful)), replace=False):
            sides = (objects[index], _OBJECTS), (background[index], _OF_IMAGE - _OBJECTS)
            drawn = np.concatenate([side[rng.permutation(len(side))[:most]] for side, most in sides])
            mirrored = bool(rng.integers(2))
            rows.append(pooled_with_gradient(regions, windows, int(index), drawn[:, 0], mirrored))
            labels.append(drawn[:, 1])
        return torch.cat(rows), torch.from_numpy(np.concatenate(labels)).to(regions.device)

    steps = Steps(rules.convolutions, rules.convolutions_lr, _SAVED, 3)
    train_steps(regions.net, regions.net, draw, state, rules, steps, log=log, progress=progress)


def pooled_with_gradient(
    regions: Regions, windows: WindowSet, index: int, places: np.ndarray, mirrored: bool
) -> Tensor:
    """Pooled vectors (N, length) of some windows of an image, or of its mirror image, from maps made now."""
    image, size = windows.images.image(index), windows.images.sizes[index]
    boxes = windows.boxes[index][places]
    if mirrored:
        image, boxes = image.flip(2), flip(boxes, size[1])
    cells = regions.cells(boxes, size)
    parts, order = [], []
    for number in np.unique(cells[:, 0]):
        of_scale = np.flatnonzero(cells[:, 0] == number)
        maps = regions.net.forward_features(regions.seen(image, regions.rules.scales[number]))
        parts.append(regions.pool_from(maps, cells[of_scale, 1:]))
        order.append(of_scale)
    return torch.cat(parts)[torch.from_numpy(np.argsort(np.concatenate(order))).to(regions.device)]
