"""``sppcls detect predict``: boxes of objects in photos."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sppcls._util.console import one_line
from sppcls._util.files import check_local, check_new_file
from sppcls.cli.command import command
from sppcls.cli.common import NotNegative
from sppcls.cli.detect_common import DetectorFile, DetectorUse, make_folder
from sppcls.cli.predict import results, write
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.detection.detector import Detector
    from sppcls.detection.predict import Found


@command
def run(
    detector: DetectorFile,
    places: tuple[str, ...],
    *,
    min_score: float | None = None,
    draw: Path | None = None,
    format_: Literal["table", "json", "csv", "coco", "voc"] = "table",
    out: Path | None = None,
    overwrite: bool = False,
    workers: NotNegative = 2,
    use: DetectorUse,
) -> int:
    """Find objects in photos; a bad photo is named on stderr, and the rest is searched. The exit status is 1 if there is
    one.

    Args:
        detector (DET): detector.ckpt of `sppcls detect train`
        places (IMAGE|FOLDER): image files, and folders of them
        min_score (S): boxes of lower scores are left out (for each class the score of the best F1 on training images)
        draw (DIR): also draw the boxes on copies of the photos in this folder
        format_: see below
        out (FILE): where the results go (stdout); for voc a folder
        overwrite: replace FILE if it exists
        workers: processes that read and search

    formats:
      table  a line per box: path, class, score, left, top, right, bottom
      json   an array of {"path", "width", "height", "detections": [{"class", "score", "box"}, ...], "error"}
      csv    path,class,score,left,top,right,bottom,error
      coco   COCO's results: image_id (the number in the file's name, or the name), category_id (from 1), bbox, score
      voc    files comp4_det_CLASS.txt in the folder --out: name, score, xmin, ymin, xmax, ymax, from 1 and inclusive

    Boxes are [left, top, right, bottom) in pixels from 0, of the photo as it is seen (EXIF rotation applied). A score is
    that of an SVM, whose boundary is 0, or with softmax a probability.
    """
    for place in places:
        check_local(place, "sppcls reads image files")
    if format_ == "voc":
        if out is None:
            raise ConfigError("--format voc: writes a file for each class; name a folder with --out")
    elif out is not None:
        check_new_file(out, overwrite)
    from sppcls.data import image_files
    from sppcls.detection.output import as_coco, as_csv, as_json, as_table, write_voc
    from sppcls.detection.predict import detect

    files = image_files(places, lambda line: print(f"sppcls: warning: {line}", file=sys.stderr))
    loaded = use.load_detector(detector)
    for folder, option in ((draw, "--draw"), (out if format_ == "voc" else None, "--out")):
        if folder is not None:
            make_folder(folder, option)
    bad = 0

    def watched() -> Iterator[Found]:
        nonlocal bad
        for number, photo in enumerate(detect(loaded, files, workers=workers)):
            if photo.error is not None:
                bad += 1
                print(one_line(f"sppcls: {photo.path}: {photo.error}"), file=sys.stderr)
            if photo.detections is not None:
                photo = replace(photo, detections=loaded.worth_showing(photo.detections, min_score))
                if draw is not None:
                    _draw(photo, draw, number, loaded)
            yield photo

    if format_ == "voc":
        assert out is not None
        pairs = [(p.path.stem, p.detections) for p in watched() if p.detections is not None]
        write_voc(out, pairs, loaded.classes)
    else:
        as_text = {"table": as_table, "json": as_json, "csv": as_csv, "coco": as_coco}[format_]
        with results(out) as file:
            for text in as_text(watched(), loaded.classes):
                write(file, text)
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
