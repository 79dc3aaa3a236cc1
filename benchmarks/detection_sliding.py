"""A sliding-window detector beside windows pooled from maps: the same network, windows, SVMs and box regression.

    python benchmarks/detection_sliding.py CKPT [--scenes 60] [--judged 40] [--windows 1000] [--scale 480]

The sliding window runs each window of a dense grid through the whole network, cropped and resized to the network's own size.
The other side pools the same windows from one map of the whole scene, and for a third row those of selective search.
All rows learn from the same generated scenes and are judged on others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sppcls import load_classifier
from sppcls._util.console import table
from sppcls.data.geometry import resize
from sppcls.data.transforms import prepare_batch
from sppcls.detection.ap import MEASURES, judge
from sppcls.detection.detector import Choice, Detector
from sppcls.detection.pooled import POOLED, RegionRules, Regions
from sppcls.detection.proposals import Proposer
from sppcls.detection.regression import train_regression
from sppcls.detection.scenes import scenes
from sppcls.detection.svm import SVMRules, train_svms
from sppcls.detection.truth import DetectionSet
from sppcls.detection.window_set import WindowSet, norm_factor
from sppcls.nn.model_info import model_info_of

_BATCH = 64


class Crops(Regions):
    """Each window through the whole network; a "map" is the image itself, and a window's cells are its pixels."""

    def maps(self, image: Tensor) -> list[Tensor]:
        return [image]

    def cells(self, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        left, top, right, bottom = boxes.T
        corners = [np.floor(top), np.floor(left), np.ceil(bottom), np.ceil(right)]
        return np.stack([np.zeros(len(boxes)), *corners], 1).astype(np.int64)

    @torch.inference_mode()
    def pool(self, maps: Sequence[Tensor], cells: np.ndarray) -> Tensor:
        side = (self.rules.region, self.rules.region)
        rows = []
        for begin in range(0, len(cells), _BATCH):
            some = cells[begin : begin + _BATCH, 1:]
            crops = [
                resize(maps[0][:, top:bottom, left:right], side) for top, left, bottom, right in some.tolist()
            ]
            x = prepare_batch(torch.stack(crops), side, self._mean, self._std)
            rows.append(self.net.forward_pool(self.net.forward_features(x)))
        return torch.cat(rows)


class Maps:
    """Maps of a set's images, made once and kept in memory."""

    def __init__(self, regions: Regions, images: DetectionSet) -> None:
        self.of = [regions.maps(images.image(index)) for index in range(len(images))]

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.of[index]


def row(regions: Regions, proposer: Proposer, args: argparse.Namespace) -> list[object]:
    images, judged = scenes("train", args.scenes), scenes("val", args.judged)
    windows = [proposer(images.image(index)) for index in range(len(images))]
    maps: Any = Maps(regions, images)
    learning = WindowSet(images, windows, regions, maps)
    scorer, _ = train_svms(learning, args.layer, norm_factor(learning, args.layer), SVMRules())
    regression = train_regression(learning, norm_factor(learning, POOLED), 1000.0)
    detector = Detector(
        regions, images.classes, args.layer, scorer, regression, proposer, Choice(shown=(0.0,) * 4), {}
    )
    proposed = [proposer(judged.image(index)) for index in range(len(judged))]
    begin = time.process_time()
    found = [
        detector.detect_on(regions.maps(judged.image(index)), proposed[index], judged.sizes[index])
        for index in range(len(judged))
    ]
    seconds = (time.process_time() - begin) / len(judged)
    result = judge(judged, found)
    cells: list[object] = [f"{np.mean([len(one) for one in proposed]):,.0f}"]
    for measure in MEASURES:
        low, high = result.interval[measure]
        cells.append(f"{result.mean[measure]:.1f} ({low:.1f} to {high:.1f})")
    return [*cells, f"{seconds:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--judged", type=int, default=40)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--scale", type=int, default=480)
    parser.add_argument("--layer", default="fc7")
    args = parser.parse_args()
    net = load_classifier(args.checkpoint)
    rules = RegionRules((args.scale,), region=min(model_info_of(net)["val_sizes"][0]))
    grid = Proposer("grid", args.windows)
    rows = []
    for name, regions, proposer in (
        ("grid, each window cropped", Crops(net, rules), grid),
        ("grid, pooled from the map", Regions(net, rules), grid),
        ("selective search, pooled", Regions(net, rules), Proposer(limit=args.windows)),
    ):
        rows.append([name, *row(regions, proposer, args)])
        print(*rows[-1], flush=True)
    print(f"\n{table(rows, ['windows', 'per scene', *MEASURES, 'CPU s/scene'])}")


if __name__ == "__main__":
    main()
