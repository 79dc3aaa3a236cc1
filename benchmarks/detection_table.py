"""The rows of the paper's Table 9 on a set of images with boxes, from one network.

    python benchmarks/detection_table.py CKPT --data SET [--scales one five] [--tune 1000] [--seeds 0 1 2] [--rows pool5 ftfc7]

pool5, fc6, ftfc6 and ftfc7, each without and with box regression ("bb"), and ftfc7 scored by softmax; mean average precision
of 11 points and of all points with 95 % intervals over images. Detectors are kept in ``--out``, so the same command goes on after a kill.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sppcls import load_classifier, train_detector
from sppcls._util.console import table
from sppcls.detection.ap import MEASURES, judge
from sppcls.detection.predict import detect_set
from sppcls.detection.sets import read_set
from sppcls.detection.store import default_cache
from sppcls.detection.train import Settings
from sppcls.detection.tuning import TuningRules

ROWS = {
    "pool5": (False, "spp", "svm"),
    "fc6": (False, "fc6", "svm"),
    "ftfc6": (True, "fc6", "svm"),
    "ftfc7": (True, "fc7", "svm"),
    "ftfc7 softmax": (True, "fc7", "softmax"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CKPT")
    parser.add_argument("--data", required=True, metavar="SET")
    parser.add_argument("--scales", nargs="+", default=["one"])
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--proposals", default="selective_search")
    parser.add_argument("--out", type=Path, default=Path("runs/detection_table"))
    parser.add_argument("--cache", type=Path, default=default_cache())
    args = parser.parse_args()
    net = load_classifier(args.checkpoint)
    images, judged = read_set(args.data), read_set(args.data, purpose="test")
    shown = []
    for scales in args.scales:
        for name in args.rows:
            tuned, layer, scorer = ROWS[name]
            for seed in args.seeds if tuned else args.seeds[:1]:  # nothing else is drawn
                tuning = TuningRules(args.tune if tuned else 0, seed=seed)
                settings = Settings(
                    scales=scales,
                    proposals=args.proposals,
                    tuning=tuning,
                    layer=layer,
                    scorer=scorer,
                    seed=seed,
                )
                begin = time.monotonic()
                out = args.out / f"{scales}-{name.replace(' ', '-')}-{seed}"
                detector = train_detector(net, images, out, settings, cache=args.cache, workers=2, say=print)
                trained = time.monotonic() - begin
                regression = detector.regression
                for bb in (False, True):
                    detector.regression = regression if bb else None
                    detector.seconds.clear()
                    found = detect_set(
                        detector,
                        judged.as_classes(detector.classes),
                        detector.proposer,
                        args.cache,
                        workers=2,
                    )
                    result = judge(judged.as_classes(detector.classes), found)
                    cells: list[object] = [scales, name + (" bb" if bb else ""), seed]
                    for measure in MEASURES:
                        low, high = result.interval[measure]
                        cells.append(f"{result.mean[measure]:.1f} ({low:.1f} to {high:.1f})")
                    cells += [f"{one.ap['11-point']:.1f}" for one in result.classes]
                    stages = sum(detector.seconds[stage] for stage in ("pooling", "fc", "boxes")) / len(
                        judged
                    )
                    shown.append([*cells, f"{trained:.0f}", f"{stages:.2f}"])
                    print(*shown[-1], flush=True)
    header = ["scales", "row", "seed", "11-point", "all-point", *judged.classes, "s to train", "s/image"]
    print(f"\n{table(shown, header)}")


if __name__ == "__main__":
    main()
