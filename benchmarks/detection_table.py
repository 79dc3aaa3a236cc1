"""The rows of the paper's Tables 9 to 12 on a set of images with boxes.

    python benchmarks/detection_table.py CKPT [CKPT ...] --data SET [--scales one five] [--tune 1000] [--rows pool5 ftfc7]

Each checkpoint is a network of another seed; of a single one, ``--seeds`` draws the fine-tuning anew. Rows: pool5, fc6, ftfc6, ftfc7,
ftfc7 scored by softmax, and ftconv, after steps that train the convolutions too, each without and with box regression ("bb"), and pairs of networks combined. Figures are mean
average precision of 11 points, with the spread over seeds and 95 % intervals over images. Detectors and boxes are kept in
``--out``, so the same command goes on after a kill; ``--write`` takes the tables as Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sppcls import load_classifier, train_detector
from sppcls.detection.ap import Detections, Result, judge
from sppcls.detection.combine import combine
from sppcls.detection.detector import Detector
from sppcls.detection.predict import detect_set
from sppcls.detection.proposals import make_proposer, propose, recall
from sppcls.detection.sets import read_set
from sppcls.detection.settings import Settings
from sppcls.detection.store import Store, default_cache
from sppcls.detection.truth import DetectionSet
from sppcls.detection.tuning import TuningRules

MEASURE = "11-point"
ROWS = {
    "pool5": (False, "spp", "svm"),
    "fc6": (False, "fc6", "svm"),
    "ftfc6": (True, "fc6", "svm"),
    "ftfc7": (True, "fc7", "svm"),
    "ftfc7 softmax": (True, "fc7", "softmax"),
    "ftconv": (True, "fc7", "svm"),
}
CONVOLUTIONS = "ftconv"  # after the fc layers, through the pooling
COMBINED = "two networks, ftfc7 bb"
# Which row the paper sets beside which, and what it gains there at one and at five scales, in points.
GAPS = [
    ("fc6", "pool5", (-0.5, -0.1)),
    ("ftfc6", "fc6", (9.8, 8.9)),
    ("ftfc7", "ftfc6", (2.2, 1.5)),
    ("ftfc7", "pool5", (11.5, 10.3)),
    ("ftfc7 bb", "ftfc7", (3.5, 4.0)),
    ("pool5 bb", "pool5", None),
    ("ftfc7", "ftfc7 softmax", None),
    ("ftconv", "ftfc7", None),
    (COMBINED, "ftfc7 bb", (None, 1.7)),
]
Table = dict[tuple[str, str, int], Result]  # (scales, row, seed)


def main() -> None:
    args = _arguments()
    images, judged = read_set(args.data), read_set(args.data, purpose="test")
    nets = [load_classifier(path) for path in args.checkpoints]
    seeds = args.seeds if len(nets) == 1 else range(len(nets))
    done: Table = {}
    kept: dict[tuple[str, str, int], list[Detections]] = {}
    lines: list[str] = []
    for scales in args.scales:
        for seed, row in itertools.product(seeds, args.rows):
            tuned, layer, scorer = ROWS[row]
            if len(nets) == 1 and not tuned and seed != seeds[0]:
                continue  # nothing of it is drawn
            settings = Settings(
                scales=scales,
                proposals=args.proposals,
                tuning=TuningRules(
                    args.tune if tuned else 0,
                    seed=seed,
                    convolutions=args.tune_convolutions if row == CONVOLUTIONS else 0,
                ),
                layer=layer,
                scorer=scorer,
                seed=seed,
            )
            out = args.out / f"{scales}-{row.replace(' ', '-')}-{seed}"
            parts = ["tuning.pt"] * tuned + ["regression.npz"] * (row != CONVOLUTIONS)
            _share(out, args.out / "shared" / f"{scales}-{seed}", parts)
            begin = time.monotonic()
            net = nets[seed if len(nets) > 1 else 0]
            detector = train_detector(net, images, out, settings, cache=args.cache, workers=1, say=print)
            print(f"{scales} {row} {seed}: {time.monotonic() - begin:.0f} s to train", flush=True)
            _share(args.out / "shared" / f"{scales}-{seed}", out, parts)
            for bb in (False, True):
                name = row + " bb" * bb
                found = _found(detector, judged, Store(out / "stages"), bb, args.cache)
                kept[scales, name, seed] = found
                done[scales, name, seed] = judge(judged.as_classes(detector.classes), found)
                print(f"  {name}: {done[scales, name, seed].mean[MEASURE]:.1f}", flush=True)
        if len(nets) > 1 and "ftfc7" in args.rows:
            # Each seed with the next one, so that there are as many pairs as networks.
            for seed in seeds if len(seeds) > 2 else seeds[:1]:
                pair = [kept[scales, "ftfc7 bb", one] for one in (seed, seeds[(seed + 1) % len(seeds)])]
                both = [combine(found) for found in zip(*pair, strict=True)]
                done[scales, COMBINED, seed] = judge(judged.as_classes(images.classes), both)
        lines = list(_report(done, args.scales, images.classes, _recall(judged, args)))
        if args.write is not None:
            args.write.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n" + "\n".join(lines))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", metavar="CKPT", nargs="+")
    parser.add_argument("--data", required=True, metavar="SET")
    parser.add_argument("--scales", nargs="+", default=["one"])
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--tune-convolutions", type=int, default=300)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="with one checkpoint")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS)[:-1], help="all but ftconv")
    parser.add_argument("--proposals", default="selective_search")
    parser.add_argument("--out", type=Path, default=Path("runs/detection_table"))
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def _share(to: Path, source: Path, parts: Sequence[str]) -> None:
    """Copy what rows of a seed have in common: the fine-tuned head, and box regression on vectors that no row changes."""
    stages = source / "stages"
    for name in parts:
        if (stages / name).is_file() and not (to / "stages" / name).exists():
            (to / "stages").mkdir(parents=True, exist_ok=True)
            shutil.copy(stages / name, to / "stages" / name)


def _found(detector: Detector, judged: DetectionSet, store: Store, bb: bool, cache: Path) -> list[Detections]:
    """Boxes in every image, kept beside what the detector's stages have made."""
    name = f"found-{'bb' if bb else 'windows'}"
    arrays = store.get(name)
    if arrays is None:
        regression, detector.regression = detector.regression, detector.regression if bb else None
        found = detect_set(detector, judged.as_classes(detector.classes), detector.proposer, cache)
        detector.regression = regression
        arrays = {
            part: np.concatenate([getattr(one, part) for one in found])
            for part in ("boxes", "labels", "scores")
        }
        store.put(name, **arrays, ends=np.cumsum([len(one.labels) for one in found]))
        arrays = store.get(name) or {}
    parts = [np.split(arrays[part], arrays["ends"][:-1]) for part in ("boxes", "labels", "scores")]
    return [Detections(*one) for one in zip(*parts, strict=True)]


def _recall(judged: DetectionSet, args: argparse.Namespace) -> list[str]:
    windows = propose(judged, make_proposer(args.proposals), args.cache, workers=1)
    counts = (500, 1000, 2000)
    found = [recall(judged, windows, n, at) for at in (0.5, 0.7) for n in counts]
    total = judged.counts()
    rows = []
    for name, part in [
        *((name, slice(i, i + 1)) for i, name in enumerate(judged.classes)),
        ("all", slice(None)),
    ]:
        shares = [f"{hit[part].sum() / max(1, total[part].sum()):.2f}" for hit, _ in found]
        rows.append([name, str(total[part].sum()), *shares])
    return _markdown(["class", "objects", *(f"{at} of {n:,}" for at in (0.5, 0.7) for n in counts)], rows)


def _report(
    done: Table, scales: Sequence[str], classes: Sequence[str], recalled: Sequence[str]
) -> Iterator[str]:
    rows = list(dict.fromkeys((scale, row) for scale, row, _ in done))
    body = []
    for scale, row in rows:
        results = _of(done, scale, row)
        means = [result.mean[MEASURE] for result in results.values()]
        low, high = _interval(np.mean([result.draws[:, 0] for result in results.values()], 0))
        by_class = np.mean([[one.ap[MEASURE] for one in result.classes] for result in results.values()], 0)
        spread = f"{np.std(means, ddof=1):.1f}" if len(means) > 1 else "-"
        body.append(
            [scale, row, str(len(means)), f"{np.mean(means):.1f}", spread, f"{low:.1f} to {high:.1f}"]
            + [f"{value:.1f}" for value in by_class]
        )
    yield "### Mean average precision\n"
    yield from _markdown(["scales", "row", "seeds", "mAP", "std", "95 % over images", *classes], body)
    yield "\n### Gaps, in points of mAP\n"
    body = []
    for number, scale in enumerate(scales):
        for first, second, paper in GAPS:
            gap = _gap(done, (scale, first), (scale, second))
            if gap:
                in_paper = None if paper is None else paper[min(number, 1)]
                body.append([scale, f"{first} - {second}", _sign(in_paper), *gap])
    for first in dict.fromkeys(row for _, row in rows):
        if len(scales) > 1 and (gap := _gap(done, (scales[1], first), (scales[0], first))):
            paper_gap = {"pool5": 1.9, "fc6": 2.3, "ftfc6": 1.4, "ftfc7": 0.7, "ftfc7 bb": 1.2}.get(first)
            body.append(["", f"{first}: {scales[1]} - {scales[0]}", _sign(paper_gap), *gap])
    yield from _markdown(["scales", "gap", "paper", "here", "std", "95 % over images", "shown"], body)
    yield "\n### Average precision of each class, 95 % over images\n"
    body = []
    for scale, row in rows:
        cells = []
        for number in range(len(classes)):
            of_class = [result.classes[number] for result in _of(done, scale, row).values()]
            low, high = np.mean([one.interval[MEASURE] for one in of_class], 0)
            cells.append(f"{np.mean([one.ap[MEASURE] for one in of_class]):.1f} ({low:.0f} to {high:.0f})")
        body.append([scale, row, *cells])
    yield from _markdown(["scales", "row", *classes], body)
    yield "\n### Recall of the windows, at an overlap of 0.5 and 0.7\n"
    yield from recalled


def _of(done: Table, scale: str, row: str) -> dict[int, Result]:
    return {seed: result for (s, r, seed), result in done.items() if (s, r) == (scale, row)}


def _gap(done: Table, first: tuple[str, str], second: tuple[str, str]) -> list[str]:
    """Mean over seeds, spread over seeds, interval over images, verdict; empty where a row is missing."""
    one, other = _of(done, *first), _of(done, *second)
    if not one or not other:
        return []
    # A row without anything drawn stands beside every seed of the other.
    pairs = [
        (one.get(seed, next(iter(one.values()))), other.get(seed, next(iter(other.values()))))
        for seed in sorted({*one} | {*other})
    ]
    gaps = [a.mean[MEASURE] - b.mean[MEASURE] for a, b in pairs]
    low, high = _interval(np.mean([a.draws[:, 0] - b.draws[:, 0] for a, b in pairs], 0))
    spread = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else 0.0
    shown = "yes" if (low > 0 or high < 0) and abs(np.mean(gaps)) > spread else "no"
    return [_sign(float(np.mean(gaps))), f"{spread:.1f}", f"{low:+.1f} to {high:+.1f}", shown]


def _interval(draws: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(draws[~np.isnan(draws)], [2.5, 97.5])
    return float(low), float(high)


def _sign(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1f}"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


if __name__ == "__main__":
    main()
