"""What thin fc layers cost in precision and save in time: one detector at several ranks, on the same windows.

    python benchmarks/detection_svd.py DET --data SET [--svd 0.99 0.95 0.9 64] [--split val]

A value that makes no layer of the detector quicker is named, and left out.

mAP of 11 points, its difference from the whole layers with a 95 % interval over images (paired), and the time of the fc
layers over that of the whole ones, image by image in turn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from sppcls import load_detector
from sppcls._util.console import table
from sppcls.detection.ap import judge
from sppcls.detection.maps import KeptMaps
from sppcls.detection.proposals import propose
from sppcls.detection.sets import read_set
from sppcls.detection.store import default_cache
from sppcls.errors import ConfigError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector", metavar="DET")
    parser.add_argument("--data", required=True, metavar="SET")
    parser.add_argument("--split")
    parser.add_argument("--svd", type=float, nargs="+", default=[0.99, 0.95, 0.9, 64])
    parser.add_argument("--cache", type=Path, default=default_cache())
    args = parser.parse_args()
    sides = {"whole": load_detector(args.detector)}
    for svd in args.svd:
        try:
            sides[f"{svd:g}"] = load_detector(args.detector, svd=svd)
        except ConfigError as error:  # of this network no layer becomes quicker
            print(error)
    whole = sides["whole"]
    images = read_set(args.data, args.split, purpose="test").as_classes(whole.classes)
    windows = propose(images, whole.proposer, args.cache)
    maps = KeptMaps(whole.regions, images, args.cache)
    maps.make()
    found = {name: [] for name in sides}  # type: ignore[var-annotated]
    seconds = dict.fromkeys(sides, 0.0)
    for index in range(len(images)):
        for name, detector in sides.items():
            found[name].append(detector.detect_on(maps[index], windows[index], images.sizes[index]))
        cells = whole.regions.cells(windows[index], images.sizes[index])
        pooled = whole.regions.pool(maps[index], cells)
        for name, detector in sides.items():
            begin = time.process_time()
            with torch.inference_mode():
                detector.regions.layer(pooled, detector.layer)
            seconds[name] += time.process_time() - begin
    results = {name: judge(images, one) for name, one in found.items()}
    rows: list[list[object]] = []
    for name, result in results.items():
        gap, low, high = result.minus(results["whole"])["11-point"]
        thin = "; ".join(sides[name].about.get("svd", ["as trained"]))
        rows.append(
            [
                name,
                f"{result.mean['11-point']:.1f}",
                f"{gap:+.2f} ({low:+.2f} to {high:+.2f})",
                f"{seconds['whole'] / seconds[name]:.2f}",
                thin,
            ]
        )
    counts = f"{len(images):,} images, {np.mean([len(one) for one in windows]):,.0f} windows each"
    print(f"{counts}; {whole.layer}, {torch.get_num_threads()} thread(s)\n")
    print(table(rows, ["--svd", "mAP", "difference", "times as fast", "layers"]))


if __name__ == "__main__":
    main()
