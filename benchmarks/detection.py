"""Windows pooled from maps of the whole image beside every window cropped and run by itself, as R-CNN does.

    python benchmarks/detection.py [--rounds 3] [--windows 2000] [--crops 50] [--width 1]

The paper's full ZF-5 (random weights, which take as long), a 500 x 375 scene, windows of a dense grid. The cropped side runs
``--crops`` of the windows, one after the other, resized to 224 x 224; its time is scaled to all of them. Pooling alone is compared with
``torchvision.ops.roi_pool`` at the four levels. Proposals are not in it, as in the paper's Table 10.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from common import Row, finish, parser, ratio_row, take_turns
from torch import nn

from sppcls._util.allocator import keep_freed_memory
from sppcls.data.geometry import resize
from sppcls.data.transforms import prepare_batch
from sppcls.detection.compress import compress_fc
from sppcls.detection.pooled import RegionRules, Regions, unique_cells
from sppcls.detection.proposals import grid
from sppcls.detection.range_max import pool_max
from sppcls.detection.scales import SCALES
from sppcls.detection.scenes import scenes
from sppcls.nn import Pyramid, SPPClassifier, build_classifier

MEAN, STD = [0.5] * 3, [0.25] * 3


def zf5(width: float) -> SPPClassifier:
    hidden = [max(64, round(4096 * width))] * 2
    net = build_classifier(
        backbone={"name": "zf5", "width": width},
        pyramid={"levels": [6, 3, 2, 1]},
        head={"name": "fc", "hidden": hidden, "dropout": 0.5},
        num_classes=20,
        input_size=(224, 224),
    )
    net.model_info = {"mean": MEAN, "std": STD}
    return net.eval()


def from_maps(
    regions: Regions, image: torch.Tensor, windows: np.ndarray, stages: Counter[str]
) -> Callable[[], float]:
    """Seconds from the image to fc7 of all windows."""
    size = (image.shape[1], image.shape[2])

    def run() -> float:
        marks = [time.perf_counter()]
        maps = regions.maps(image)
        marks.append(time.perf_counter())
        cells, _ = unique_cells(regions.cells(windows, size))
        pooled = regions.pool(maps, cells)
        marks.append(time.perf_counter())
        regions.layer(pooled, "fc7")
        marks.append(time.perf_counter())
        for name, begin, end in zip(("conv", "pooling", "fc"), marks, marks[1:], strict=False):
            stages[name] += end - begin  # type: ignore[assignment]
        stages["runs"] += 1
        stages["cells"] += len(cells)
        return marks[-1] - marks[0]

    return run


def cropped(net: SPPClassifier, image: torch.Tensor, windows: np.ndarray, crops: int) -> Callable[[], float]:
    """Seconds for all windows, each cropped, resized to 224 x 224 and run to fc7; measured on some."""
    some = np.random.default_rng(0).permutation(len(windows))[:crops]

    @torch.inference_mode()
    def run() -> float:
        begin = time.perf_counter()
        for left, top, right, bottom in windows[some]:
            part = image[:, int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
            x = prepare_batch(resize(part, (224, 224))[None], (224, 224), MEAN, STD)
            pooled = net.forward_pool(net.forward_features(x))
            net.head.hidden(pooled * net.head.input_scale)
        return (time.perf_counter() - begin) * len(windows) / crops

    return run


def whole_way(args: argparse.Namespace) -> list[Row]:
    net = zf5(args.width)
    image = resize(scenes("val", 1).image(0), (375, 500))
    windows = grid((375, 500), args.windows)
    rows = []
    for name, bar in (("one", 10.0), ("five", 3.0)):
        stages: Counter[str] = Counter()
        regions = Regions(net, RegionRules(SCALES[name]))
        sides = {
            "ours": from_maps(regions, image, windows, stages),
            "crops": cropped(net, image, windows, args.crops),
        }
        take_turns({"ours": sides["ours"]}, 1)
        stages.clear()
        seconds = take_turns(sides, args.rounds)
        runs = stages["runs"]
        parts = ", ".join(f"{part} {stages[part] / runs:.2f}" for part in ("conv", "pooling", "fc"))
        print(
            f"{name} scale(s), {len(windows):,} windows of {stages['cells'] // runs:,} different cells, s/image: {parts}; "
            f"cropped {np.median(seconds['crops']):.1f}",
            flush=True,
        )
        what = f"ZF-5 x{args.width:g}, {len(windows):,} windows to fc7, {name} scale{'s' if name == 'five' else ''}"
        rows.append(ratio_row(what, "each window cropped", seconds["crops"], seconds["ours"], bar))
    return rows


def pooling(args: argparse.Namespace) -> Row:
    """Windows of a (256, 38, 50) map."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 38, 50, generator=generator).relu_()
    net = zf5(1 / 16)
    boxes = grid((608, 800), args.windows)
    cells = Regions(net, RegionRules((608,))).cells(boxes, (608, 800))[:, 1:]
    cells = np.clip(cells, 0, [37, 49, 38, 50])
    rois = torch.from_numpy(cells[:, [1, 0, 3, 2]] - [0, 0, 1, 1]).float()
    rois = torch.cat([torch.zeros(len(rois), 1), rois], 1)
    pyramid = Pyramid([6, 3, 2, 1])

    def ours() -> float:
        begin = time.perf_counter()
        pool_max(x, cells, pyramid)
        return time.perf_counter() - begin

    def peer() -> float:
        begin = time.perf_counter()
        torch.cat([torchvision.ops.roi_pool(x[None], rois, n, 1.0).flatten(1) for n in (6, 3, 2, 1)], 1)
        return time.perf_counter() - begin

    take_turns({"ours": ours, "peer": peer}, 1)
    seconds = take_turns({"ours": ours, "peer": peer}, max(7, args.rounds))
    what = f"max pooling of {len(cells):,} windows of a (256, 38, 50) map"
    return ratio_row(what, "torchvision's roi_pool, 4 levels", seconds["peer"], seconds["ours"], 2.0)


def thin_layers(args: argparse.Namespace) -> Row:
    """fc6 and fc7 of all windows, as they are and at a rank; what it costs in precision depends on the detector."""
    whole, thin = zf5(args.width), zf5(args.width)
    rank = round(args.rank * args.width)
    compress_fc(thin, rank)
    x = torch.rand(
        args.windows, next(m for m in whole.head.modules() if isinstance(m, nn.Linear)).in_features
    )

    def side(net: SPPClassifier) -> Callable[[], float]:
        @torch.inference_mode()
        def run() -> float:
            begin = time.perf_counter()
            net.head.hidden(x)
            return time.perf_counter() - begin

        return run

    seconds = take_turns({"thin": side(thin), "whole": side(whole)}, args.rounds)
    what = f"ZF-5 x{args.width:g}, fc6 and fc7 of {args.windows:,} windows at rank {rank}"
    return ratio_row(what, "as they are", seconds["whole"], seconds["thin"], 2.0)


def main() -> None:
    arguments = parser(__doc__, 3)
    arguments.add_argument("--windows", type=int, default=2000, help="windows (2000)")
    arguments.add_argument("--crops", type=int, default=50, help="windows that are cropped (50)")
    arguments.add_argument("--width", type=float, default=1.0, help="of ZF-5 (1)")
    arguments.add_argument("--rank", type=int, default=1024, help="of compressed layers, at width 1 (1024)")
    args = arguments.parse_args()
    keep_freed_memory()
    finish([pooling(args), thin_layers(args), *whole_way(args)], args)


if __name__ == "__main__":
    main()
