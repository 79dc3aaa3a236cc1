"""``sppcls detect evaluate``: average precision of a detector on images with boxes."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

from sppcls._util.console import table
from sppcls._util.files import check_local, check_new_file, replacing
from sppcls.cli.common import Parser, check_checkpoint
from sppcls.cli.detect_common import (
    add_cache,
    add_detector_options,
    add_set,
    bar,
    load_on,
    make_folder,
    scenes_of,
)
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.detection.ap import Result

_COLUMNS = ["class", "objects", "11-point", "interval", "all-point", "interval"]


def run(words: list[str]) -> int:
    """Detect in every image, judge, print a table."""
    args = _parser().parse_args(words)
    check_checkpoint(args.detector)
    check_local(args.data, "sppcls reads folders of images with boxes")
    if args.out is not None:
        check_new_file(args.out, args.overwrite)
    if not 0 < args.iou <= 1:
        raise ConfigError(f"--iou {args.iou}: must be above 0, and 1 at most")
    from sppcls.detection.ap import judge
    from sppcls.detection.coco import coco_figures, has_coco
    from sppcls.detection.predict import detect_set
    from sppcls.detection.proposals import make_proposer
    from sppcls.detection.sets import read_set
    from sppcls.detection.store import default_cache

    detector = load_on(args.detector, args)
    images = read_set(
        args.data, args.split, purpose="test", count=scenes_of(args.data, args.scenes)
    ).as_classes(detector.classes)
    detector.proposer.check()
    if args.pictures is not None:
        make_folder(args.pictures, "--pictures")
    proposer = (
        detector.proposer
        if args.proposals is None
        else make_proposer(args.proposals, detector.proposer.limit)
    )
    found = detect_set(
        detector,
        images,
        proposer,
        args.cache or default_cache(),
        workers=args.workers,
        say=print,
        progress=bar,
    )
    result = judge(images, found, args.iou)
    print(f"{images.name}, {images.split}: {len(images):,} images; a box is right from IoU {args.iou:g} on")
    print("average precision in per cent, with 95 % intervals over images\n")
    print(result_table(result))
    if has_coco():
        figures = ", ".join(f"{name} {value:.1f}" for name, value in coco_figures(images, found).items())
        print(f"\nCOCO's own rules: {figures}")
    spent = ", ".join(f"{stage} {total / len(images):.3f}" for stage, total in detector.seconds.items())
    print(f"\nseconds per image: {spent} (windows and maps only where they were not kept)")
    if args.out is not None:
        _write(Path(args.out), result)
        print(f"{args.out}: these figures")
    if args.pictures is not None:
        from sppcls.detection.pictures import write_pictures

        write_pictures(Path(args.pictures), images, found, result, detector)
        print(
            f"{args.pictures}: precision and recall, what is confused, the surest mistakes; also for TensorBoard"
        )
    return 0


def result_table(result: Result) -> str:
    """A row for each class, and their mean."""
    return table(_rows(result), _COLUMNS)


def _rows(result: Result) -> list[list[object]]:
    rows: list[list[object]] = []
    for one in result.classes:
        rows.append([one.name, one.objects, *_figures(one.ap, one.interval)])
    total = sum(one.objects for one in result.classes)
    return [*rows, ["mean", total, *_figures(result.mean, result.interval)]]


def _figures(values: dict[str, float], intervals: dict[str, tuple[float, float]]) -> list[str]:
    cells = []
    for measure, value in values.items():
        low, high = intervals[measure]
        cells += ["-", "-"] if math.isnan(value) else [f"{value:.1f}", f"{low:.1f} to {high:.1f}"]
    return cells


def _write(path: Path, result: Result) -> None:
    with replacing(path, "--out") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", "objects", "measure", "ap", "low", "high"])
        total = sum(one.objects for one in result.classes)
        every = [(one.name, one.objects, one.ap, one.interval) for one in result.classes]
        for name, objects, values, intervals in [*every, ("", total, result.mean, result.interval)]:
            for measure, value in values.items():
                writer.writerow([name, objects, measure, *(f"{x:.4f}" for x in (value, *intervals[measure]))])


def _parser() -> Parser:
    parser = Parser(
        "detect evaluate",
        "Average precision of a detector by VOC's rules: 11-point (VOC2007) and all-point (from VOC2010 on), for each\n"
        "class and as their mean (mAP). Objects marked as difficult count neither for nor against. COCO's figures too, if\n"
        "sppcls[coco] is installed.",
    )
    parser.add_argument("detector", metavar="DET", help="detector.ckpt of `sppcls detect train`")
    add_set(parser, "test, or else val")
    parser.add_argument("--iou", type=float, default=0.5, help="overlap that makes a box right (0.5)")
    parser.add_argument(
        "--proposals", metavar="HOW", help="other windows: selective_search, grid, or a file (the detector's)"
    )
    parser.add_argument(
        "--out", metavar="FILE", help="also write the figures to this CSV file; the mean has no class"
    )
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        help="also draw curves, a confusion matrix and the surest mistakes in this folder",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    add_cache(parser)
    add_detector_options(parser)
    return parser
