"""``sppcls detect predict``: boxes of objects in photos."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sppcls._util.console import one_line
from sppcls._util.files import check_local, check_new_file
from sppcls.cli.command import command
from sppcls.cli.common import NotNegative
from sppcls.cli.detect_common import DetectorFile, DetectorUse, bar, make_folder
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
    """Find objects in photos. A photo that cannot be read is named on stderr, and the rest is searched; the exit status is
    1 then.

    examples:
      sppcls detect predict DET photos/ --draw drawn
      sppcls detect predict DET photo.jpg --format json --out found.json

    Args:
        detector (DET): detector.ckpt of `sppcls detect train`
        places (IMAGE|FOLDER): image files, and folders of them
        min_score (S): leave out boxes of lower scores (for each class the score of the best F1 on training images)
        draw (DIR): also draw the boxes on copies of the photos, in this folder
        format_: see below
        out (FILE): where the results go (stdout); for voc a folder
        overwrite: replace files that exist
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
    from tqdm import tqdm

    from sppcls.data import image_files
    from sppcls.detection.output import as_coco, as_csv, as_json, as_table, voc_name, write_voc
    from sppcls.detection.predict import detect

    files = image_files(places, lambda line: print(f"sppcls: warning: {line}", file=sys.stderr))
    loaded = use.load_detector(detector)
    pictures: list[str] = []
    if draw is not None:
        pictures = picture_names(files)
        if own := {path.resolve() for path in files} & {(draw / name).resolve() for name in pictures}:
            raise ConfigError(f"--draw {draw}: would replace the photo {min(own).name}; name another folder")
        make_folder(draw, "--draw", pictures, overwrite)
    if format_ == "voc" and out is not None:
        make_folder(out, "--out", map(voc_name, loaded.classes), overwrite)
    bad = shown = 0

    def watched() -> Iterator[Found]:
        nonlocal bad, shown
        photos: Iterable[Found] = detect(loaded, files, workers=workers)
        if out is not None or not sys.stdout.isatty():  # there the results show how far it is
            photos = bar("photos")(photos, len(files))
        for number, photo in enumerate(photos):
            if photo.error is not None:
                bad += 1
                tqdm.write(one_line(f"sppcls: {photo.path}: {photo.error}"), file=sys.stderr)
            if photo.detections is not None:
                kept = loaded.worth_showing(photo.detections, min_score)
                shown += len(kept.scores)
                photo = replace(photo, detections=kept)
                if draw is not None:
                    _draw(photo, draw / pictures[number], loaded)
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
    if not shown and bad < len(files):
        low = f"--min-score {loaded.choice.min_score:g} shows all boxes"
        hint = f"; {low}" if min_score is None or min_score > loaded.choice.min_score else ""
        print(f"sppcls: nothing was found that is sure enough{hint}", file=sys.stderr)
    return 1 if bad else 0


def picture_names(files: Sequence[Path]) -> list[str]:
    """A name for the picture of each photo; of photos of one name in several folders the later ones get a number."""
    names: dict[str, None] = {}
    for path in files:
        same = (f"{path.stem}{f'-{number}' * bool(number)}.jpg" for number in itertools.count())
        names[next(name for name in same if name not in names)] = None
    return list(names)


def _draw(photo: Found, path: Path, detector: Detector) -> None:
    from sppcls._util.files import replacing
    from sppcls.data import read_image
    from sppcls.data.pixel_range import trained_pixel_range
    from sppcls.detection.output import draw

    assert photo.detections is not None
    pixels = read_image(photo.path, pixel_range=trained_pixel_range(detector.regions.net.model_info))
    with replacing(path, "--draw") as temporary:
        draw(pixels, photo.detections, detector.classes).save(temporary, quality=90)
