"""Run a protocol over a source of images.

Worker processes cut and resize; here views of one shape go through the network together. With window views the
convolutions run once for every scale and flip of an image, all its windows are pooled in one call, and whole images
share those maps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from sppcls.data import Size, Source, prepare_batch
from sppcls.data.geometry import cut, resized_size
from sppcls.data.label_sets import as_label_sets
from sppcls.data.stream import in_chunks, load_each, readable, resize_to_be_seen, same_shape_batches
from sppcls.errors import DataError, ImageError
from sppcls.evaluation.mapping import first_center, window_cells
from sppcls.evaluation.predictions import KEPT, Predictions, gather
from sppcls.evaluation.protocols import Protocol, Views, view_offsets
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import is_multi_label, ranked


def evaluate_protocol(
    net: SPPClassifier,
    source: Source,
    protocol: Protocol,
    *,
    model_info: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    workers: int = 0,
    keep_scores: bool = False,
    bar: bool = False,
) -> Predictions:
    """Test a network on every image of a source.

    In a distributed program each process tests its share, and what all of them found is returned on each.

    Args:
        net: its device is used; it is in evaluation mode while it is tested.
        source: images and their true classes.
        protocol: the views.
        model_info: ``mean`` and ``std`` of the input and ``classes``; None: ``net.model_info``, as :func:`sppcls.load_classifier`
            leaves it.
        batch_size: views at once. The scores do not depend on it (but for rounding), nor on the order of images.
        workers: processes that read images.
        keep_scores: keep the scores of all classes, not only of the best ten.
        bar: show progress on a terminal.

    Raises:
        ConfigError: the network cannot see such views.
        DataError: no image could be tested, or the network's outputs are no finite numbers.
    """
    protocol.check_fits(net)
    model_info = net.model_info if model_info is None else model_info
    rank, world = (dist.get_rank(), dist.get_world_size()) if _distributed() else (0, 1)
    multi_label = is_multi_label(model_info)
    keep_scores = keep_scores or multi_label
    tester = _Tester(net, protocol, model_info, batch_size)
    started = time.perf_counter()
    share = range(rank, len(source), world)
    kept: list[int] = []
    best = min(KEPT, len(model_info["classes"]))
    tops = [np.empty((0, best), np.int64)], [np.empty((0, best), np.float32)]
    scores = [np.empty((0, len(model_info["classes"])), np.float32)]
    bad: list[str] = []
    loaded = load_each(_Render(source, protocol, _smallest(net)), len(source), workers, share)
    shown = tqdm(loaded, protocol.name, len(share), leave=False, disable=None if bar and rank == 0 else True)
    training = net.training
    net.eval()
    try:
        with torch.inference_mode():
            for chunk in in_chunks(readable(shown, bad), lambda item: item[1].bytes):
                kept += [index for index, _ in chunk]
                found = tester.scores([image for _, image in chunk])
                if not found.isfinite().all():
                    raise DataError(
                        f"protocol {protocol.name}: the network's outputs are no finite numbers; it has diverged"
                    )
                top = ranked(found, best)
                values = found.gather(1, top)
                tops[0].append(top.numpy())
                tops[1].append((values.sigmoid() if multi_label else values).numpy())
                if keep_scores:
                    scores.append(found.numpy())
    finally:
        net.train(training)
    return gather(
        Predictions(
            protocol.name,
            protocol.setting,
            list(model_info["classes"]),
            np.array(kept, dtype=np.int64),
            [source.name(i) for i in kept],
            as_label_sets(source).table(kept, len(model_info["classes"]))
            if multi_label
            else np.array([source.targets[i] for i in kept], dtype=np.int64),
            np.concatenate(tops[0]),
            np.concatenate(tops[1]),
            np.concatenate(scores) if keep_scores else None,
            protocol.views_of_a_photo(),
            time.perf_counter() - started,
            bad,
        )
    )


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def _smallest(net: SPPClassifier) -> int:
    return net.min_input_size if net.fixed_size is None else 1


# --- in the worker


@dataclass(frozen=True)
class _Crops:
    """Regions of one image, uint8 (P, 3, h, w), and the views they make: (position in ``regions``, mirrored)."""

    regions: Tensor
    views: list[tuple[int, bool]]


@dataclass(frozen=True)
class _Rendered:
    """What the views of one image are made of."""

    crops: list[_Crops]
    wholes: dict[int, Tensor]
    """Whole images by shorter side, uint8 (3, h, w)."""

    @property
    def bytes(self) -> int:
        tensors = [*(c.regions for c in self.crops), *self.wholes.values()]
        return sum(t.numel() for t in tensors)


class _Render:
    """Image number -> what its views are made of."""

    def __init__(self, source: Source, protocol: Protocol, smallest: int) -> None:
        self.source, self.protocol, self.smallest = source, protocol, smallest
        self.fetch = getattr(source, "fetch", None)  # of a source that is far away

    def __call__(self, index: int) -> _Rendered:
        image = self.source.image(index)
        crops: list[_Crops] = []
        wholes: dict[int, Tensor] = {}
        for group in self.protocol.groups:
            for scale in group.scales:
                if group.kind == "crop":
                    crops.append(_crops(image, group, scale, self.protocol.region))
                elif scale not in wholes:
                    wholes[scale] = self._whole(image, scale, index)
        return _Rendered(crops, wholes)

    def _whole(self, image: Tensor, scale: int, index: int) -> Tensor:
        try:
            return resize_to_be_seen(image, scale, self.smallest)
        except ImageError as error:
            raise ImageError(f"{self.source.name(index)}: {error}") from None


def _crops(image: Tensor, group: Views, scale: int, region: Size) -> _Crops:
    """A mirrored view is the region at its position in the mirrored image."""
    whole = resized_size(image.shape[-2], image.shape[-1], scale, region)
    places: dict[tuple[int, int], int] = {}
    views = []
    for flip in group.flips:
        for top, left in view_offsets(group, whole, region):
            place = (top, whole[1] - region[1] - left if flip else left)
            views.append((places.setdefault(place, len(places)), flip))
    return _Crops(torch.stack([cut(image, whole, *place, region) for place in places]), views)


# --- in the main process


_LARGEST = 700.0  # of a logit whose probability is no zero in float64


class _Tester:
    def __init__(
        self, net: SPPClassifier, protocol: Protocol, model_info: Mapping[str, Any], batch_size: int
    ) -> None:
        self.net, self.protocol, self.model_info, self.batch_size = net, protocol, model_info, batch_size
        self.device = next(net.parameters()).device
        self.center = first_center(net.backbone) if protocol.has_windows else 0.0
        self.by_scale: dict[int, list[Views]] = {}
        for group in protocol.groups:
            for scale in group.scales if group.kind != "crop" else ():
                self.by_scale.setdefault(scale, []).append(group)

    def scores(self, images: Sequence[_Rendered]) -> Tensor:
        """Scores of the images averaged over their views, float32 (N, classes); of several labels the log-odds."""
        # Of several labels each class has its complement beside it, as probabilities next to 1 are all alike.
        several = is_multi_label(self.model_info) and self.protocol.average == "softmax"
        # Summed in float64, so that the order in which views come does not show.
        columns = len(self.model_info["classes"]) * (2 if several else 1)
        total = torch.zeros(len(images), columns, dtype=torch.float64)
        count = torch.zeros(len(images), 1, dtype=torch.float64)

        def add(rows: Sequence[int], logits: Tensor) -> None:
            """Take the logits of one view of each of the images ``rows``, which may repeat."""
            values = logits.float()
            if several:
                values = values.double().clamp(-_LARGEST, _LARGEST)
                values = torch.cat([values, -values], 1).sigmoid()
            elif self.protocol.average == "softmax":
                values = values.softmax(-1)
            where = torch.tensor(rows)
            total.index_add_(0, where, values.double().cpu())
            count.index_add_(0, where, torch.ones(len(rows), 1, dtype=torch.float64))

        crops = [
            (row, crops.regions[place], flip)
            for row, image in enumerate(images)
            for crops in image.crops
            for place, flip in crops.views
        ]
        for start in range(0, len(crops), self.batch_size):
            views = crops[start : start + self.batch_size]
            x = torch.stack([region.flip(-1) if flip else region for _, region, flip in views])
            add([row for row, _, _ in views], self._logits(self._input(x)))
        for scale, groups in self.by_scale.items():
            wholes = [(row, image.wholes[scale]) for row, image in enumerate(images)]
            for batch in same_shape_batches(wholes, _shape, self.batch_size):
                self._whole_views(batch, groups, add)
        mean = total / count
        if several:
            with_label, without = mean.log().chunk(2, dim=1)
            mean = with_label - without
        return mean.float()

    def _whole_views(self, batch: list[tuple[int, Tensor]], groups: Sequence[Views], add: Any) -> None:
        rows = [row for row, _ in batch]
        x = torch.stack([whole for _, whole in batch])
        for flip in (False, True):
            seeing = [group for group in groups if flip in group.flips]
            if not seeing:
                continue
            feature_map = self.net.forward_features(self._input(x.flip(-1) if flip else x))
            for group in seeing:
                if group.kind == "full":
                    add(rows, self.net.forward_head(self.net.forward_pool(feature_map)))
                    continue
                boxes = self._boxes(group, (x.shape[2], x.shape[3]), feature_map)
                windows = torch.tensor([(i, *box) for i in range(len(rows)) for box in boxes])
                logits = self.net.forward_windows(feature_map, windows)
                add([row for row in rows for _ in boxes], logits)

    def _boxes(self, group: Views, whole: Size, feature_map: Tensor) -> list[tuple[int, int, int, int]]:
        """Cells (top, left, bottom, right) of the group's windows."""
        stride, rule = self.net.backbone.stride, self.protocol.window_rule
        height, width = (min(r, w) for r, w in zip(self.protocol.region, whole, strict=True))
        boxes = []
        for top, left in view_offsets(group, whole, self.protocol.region):
            rows = window_cells(top, height, feature_map.shape[2], stride, self.center, rule)
            columns = window_cells(left, width, feature_map.shape[3], stride, self.center, rule)
            boxes.append((rows[0], columns[0], rows[1], columns[1]))
        return boxes

    def _logits(self, x: Tensor) -> Tensor:
        # Not net(x): a compiled network would compile again for every number of views.
        return self.net.forward_head(self.net.forward_pool(self.net.forward_features(x)))

    def _input(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        return prepare_batch(x.to(self.device), size, self.model_info["mean"], self.model_info["std"])


def _shape(item: tuple[int, Tensor]) -> Size:
    return (item[1].shape[1], item[1].shape[2])
