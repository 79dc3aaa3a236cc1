"""``sppcls detect predict``: boxes of objects in photos."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sppcls._util.console import one_line
from sppcls._util.files import check_local, check_new_file
from sppcls.cli.common import Parser, check_checkpoint, not_negative
from sppcls.cli.detect_common import add_detector_options, load_on, make_folder
from sppcls.cli.predict import results, write
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.detection.detector import Detector
    from sppcls.detection.predict import Found

_FORMATS = """\
formats:
  table  a line per box: path, class, score, left, top, right, bottom
  json   an array of {"path", "width", "height", "detections": [{"class", "score", "box"}, ...], "error"}
  csv    path,class,score,left,top,right,bottom,error
  coco   COCO's results: image_id (the number in the file's name, or the name), category_id (from 1), bbox, score
  voc    files comp4_det_CLASS.txt in the folder --out: name, score, xmin, ymin, xmax, ymax, from 1 and inclusive

Boxes are [left, top, right, bottom) in pixels from 0, of the photo as it is seen (EXIF rotation applied). A score is that of
an SVM, whose boundary is 0, or with softmax a probability."""


def run(words: list[str]) -> int:
    """Print boxes; 1 if a photo could not be read."""
    args = _parser().parse_args(words)
    check_checkpoint(args.detector)
    for place in args.places:
        check_local(place, "sppcls reads image files")
    if args.format == "voc":
        if args.out is None:
            raise ConfigError("--format voc: writes a file for each class; name a folder with --out")
    elif args.out is not None:
        check_new_file(args.out, args.overwrite)
    from sppcls.data import image_files
    from sppcls.detection.output import as_coco, as_csv, as_json, as_table, write_voc
    from sppcls.detection.predict import detect

    files = image_files(args.places, lambda line: print(f"sppcls: warning: {line}", file=sys.stderr))
    detector = load_on(args.detector, args)
    for folder, option in ((args.draw, "--draw"), (args.out if args.format == "voc" else None, "--out")):
        if folder is not None:
            make_folder(folder, option)
    bad = 0

    def watched() -> Iterator[Found]:
        nonlocal bad
        for number, photo in enumerate(detect(detector, files, workers=args.workers)):
            if photo.error is not None:
                bad += 1
                print(one_line(f"sppcls: {photo.path}: {photo.error}"), file=sys.stderr)
            if photo.detections is not None:
                photo = replace(photo, detections=detector.worth_showing(photo.detections, args.min_score))
                if args.draw is not None:
                    _draw(photo, Path(args.draw), number, detector)
            yield photo

    if args.format == "voc":
        pairs = [(p.path.stem, p.detections) for p in watched() if p.detections is not None]
        write_voc(Path(args.out), pairs, detector.classes)
    else:
        as_text = {"table": as_table, "json": as_json, "csv": as_csv, "coco": as_coco}[args.format]
        with results(args.out) as out:
            for text in as_text(watched(), detector.classes):
                write(out, text)
    if bad:
        print(f"sppcls: {bad:,} of {len(files):,} photos could not be searched", file=sys.stderr)
    return 1 if bad else 0


def _draw(photo: Found, folder: Path, number: int, detector: Detector) -> None:
    from sppcls._util.files import replacing
    from sppcls.data import read_image
    from sppcls.detection.output import draw

    assert photo.detections is not None
    path = folder / f"{photo.path.stem}.jpg"
    if path.exists():  # photos of one name in several folders
        path = folder / f"{photo.path.stem}-{number}.jpg"
    with replacing(path, "--draw") as temporary:
        draw(read_image(photo.path), photo.detections, detector.classes).save(temporary, quality=90)


def _parser() -> Parser:
    parser = Parser(
        "detect predict", "Find objects in photos; a bad photo is named on stderr, and the rest goes on."
    )
    parser.epilog = _FORMATS
    parser.add_argument("detector", metavar="DET", help="detector.ckpt of `sppcls detect train`")
    parser.add_argument("places", nargs="+", metavar="IMAGE|FOLDER", help="image files, and folders of them")
    parser.add_argument(
        "--min-score",
        type=float,
        metavar="S",
        help="boxes of lower scores are left out (for each class the score of the best F1 on training images)",
    )
    parser.add_argument(
        "--draw", metavar="DIR", help="also draw the boxes on copies of the photos in this folder"
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv", "coco", "voc"), default="table", help="(table)"
    )
    parser.add_argument("--out", metavar="FILE", help="where the results go (stdout); for voc a folder")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--workers", type=not_negative, default=2, help="processes that read and search (2)")
    add_detector_options(parser)
    return parser
