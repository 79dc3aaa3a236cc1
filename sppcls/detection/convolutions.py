"""Fine-tuning through the pooling into the convolutions (Girshick 2015, "Fast R-CNN", sec. 2.3).

The paper trains fc layers on pooled vectors that are kept, so its convolutions stay as they were: the limit that Fast R-CNN
lifted. A mini-batch here has two images, half of them mirrored, and 64 windows of each, so that a pass through the
convolutions serves many windows. Batch norm keeps the statistics of the classifier.

Which images and windows a step takes, and what dropout drops, follows from the seed and the step alone, so a run that was
killed goes on at its last state and ends with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sppcls.detection.boxes import flip
from sppcls.detection.pooled import Regions
from sppcls.detection.tuning import TuningRules, candidates, load_state, save_state
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
    log: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
    progress: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
) -> None:
    """Train all of a network whose head is from :func:`~sppcls.detection.tuning.with_background`, in place.

    Args:
        regions: the network, and the scales that windows are taken from.
        windows: of the training images; their own maps are not used.
        rules: ``convolutions`` steps of ``convolutions_lr``.
        state: file that the run goes on from after a kill; it is written every 20 steps.
        log: takes the step and the figures of these steps: loss, error on objects and on background, lr.
        progress: wraps the steps.

    Raises:
        DataError: no window is an object, or none background.
    """
    net = regions.net
    objects, background = candidates(windows)
    useful = [i for i in range(len(windows)) if len(objects[i]) and len(background[i])]
    useful = useful or [i for i in range(len(windows)) if len(objects[i]) or len(background[i])]
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        trained, lr=rules.convolutions_lr, momentum=rules.momentum, weight_decay=rules.weight_decay
    )
    begin = load_state(state, net, optimizer)
    figures: list[dict[str, float]] = []
    # The backbone stays in evaluation mode, for the statistics of its batch norm.
    net.head.train()
    try:
        for step in progress(range(begin, rules.convolutions), rules.convolutions - begin):
            rng = np.random.default_rng([rules.seed, 3, step])
            lr = rules.convolutions_lr / 10 if 6 * step >= 5 * rules.convolutions else rules.convolutions_lr
            for group in optimizer.param_groups:
                group["lr"] = lr
            rows, labels = [], []
            for index in rng.choice(useful, min(_IMAGES, len(useful)), replace=False):
                drawn = np.concatenate(
                    [
                        _some(objects[index], _OBJECTS, rng),
                        _some(background[index], _OF_IMAGE - _OBJECTS, rng),
                    ]
                )
                mirrored = bool(rng.integers(2))
                rows.append(pooled_with_gradient(regions, windows, int(index), drawn[:, 0], mirrored))
                labels.append(drawn[:, 1])
            y = torch.from_numpy(np.concatenate(labels)).to(regions.device)
            # Dropout draws from torch's generator.
            torch.manual_seed(int(rng.integers(1 << 62)))
            logits = net.forward_head(torch.cat(rows))
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            figures.append(_figures(loss, logits, y, len(windows.images.classes)))
            if (step + 1) % _SAVED == 0 or step + 1 == rules.convolutions:
                means = {name: float(np.nanmean([one[name] for one in figures])) for name in figures[0]}
                log(step + 1, {**means, "lr": lr})
                save_state(state, net, optimizer, step + 1)
                figures.clear()
    finally:
        net.head.eval()


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


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows[rng.permutation(len(rows))[:most]]


def _figures(loss: Tensor, logits: Tensor, y: Tensor, nothing: int) -> dict[str, float]:
    wrong = (logits.argmax(1) != y).float()
    return {
        "loss": float(loss.detach()),
        "error on objects": 100 * float(wrong[y != nothing].mean()),
        "error on background": 100 * float(wrong[y == nothing].mean()),
    }
