"""``sppcls detect evaluate``: average precision of a detector on images with boxes."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sppcls._util.console import table
from sppcls._util.files import check_new_file, write_csv
from sppcls.cli.command import command
from sppcls.cli.common import between
from sppcls.cli.detect_common import DetectorFile, DetectorUse, JudgedBoxes, Work, bar, make_folder

if TYPE_CHECKING:
    from sppcls.detection.ap import Result

_COLUMNS = ["class", "objects", "11-point", "interval", "all-point", "interval"]


def _iou(text: str) -> float:
    value = between(0)(text)
    if value > 1:
        raise ArgumentTypeError(f"{text}: must be above 0, and 1 at most")
    return value


@command
def run(
    detector: DetectorFile,
    *,
    images: JudgedBoxes,
    iou: Annotated[float, _iou] = 0.5,
    proposals: str | None = None,
    out: Path | None = None,
    pictures: Path | None = None,
    overwrite: bool = False,
    work: Work,
    use: DetectorUse,
) -> int:
    """Average precision of a detector by VOC's rules: 11-point (VOC2007) and all-point (from VOC2010 on), for each class
    and as their mean (mAP). Objects marked as difficult count neither for nor against. COCO's figures too, if sppcls[coco]
    is installed.

    examples:
      sppcls detect evaluate DET --data SET --pictures pictures
      sppcls detect evaluate DET --data SET --split val --out ap.csv

    Args:
        detector (DET): detector.ckpt of `sppcls detect train`
        iou: overlap (IoU) that makes a box right
        proposals (HOW): other windows: selective_search, grid, or a file (the detector's)
        out (FILE): also write the figures to this CSV file; the mean has no class
        pictures (DIR): also draw curves, a confusion matrix and the surest mistakes in this folder
        overwrite: replace the file if it is there
    """
    if out is not None:
        check_new_file(out, overwrite)
    from sppcls.detection.ap import judge
    from sppcls.detection.coco import coco_figures, has_coco
    from sppcls.detection.predict import detect_set
    from sppcls.detection.proposals import make_proposer

    loaded = use.load_detector(detector)
    judged = images.read().as_classes(loaded.classes)
    loaded.proposer.check()
    if pictures is not None:
        make_folder(pictures, "--pictures")
    proposer = loaded.proposer if proposals is None else make_proposer(proposals, loaded.proposer.limit)
    found = detect_set(loaded, judged, proposer, work.kept, workers=work.workers, say=print, progress=bar)
    result = judge(judged, found, iou)
    print(f"{judged.name}, {judged.split}: {len(judged):,} images; a box is right from IoU {iou:g} on")
    print("average precision in per cent, with 95 % intervals over images\n")
    print(result_table(result))
    if has_coco():
        figures = ", ".join(f"{name} {value:.1f}" for name, value in coco_figures(judged, found).items())
        print(f"\nCOCO's own rules: {figures}")
    spent = ", ".join(f"{stage} {total / len(judged):.3f}" for stage, total in loaded.seconds.items())
    print(f"\nseconds per image: {spent} (windows and maps only where they were not kept)")
    if out is not None:
        _write(out, result)
        print(f"{out}: these figures")
    if pictures is not None:
        from sppcls.detection.pictures import write_pictures

        write_pictures(pictures, judged, found, result, loaded)
        print(
            f"{pictures}: precision and recall, what is confused, the surest mistakes; also for TensorBoard"
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
    total = sum(one.objects for one in result.classes)
    every = [(one.name, one.objects, one.ap, one.interval) for one in result.classes]
    rows = []
    for name, objects, values, intervals in [*every, ("", total, result.mean, result.interval)]:
        for measure, value in values.items():
            figures = dict(zip(("ap", "low", "high"), (value, *intervals[measure]), strict=True))
            shown = {key: f"{figure:.4f}" for key, figure in figures.items()}
            rows.append({"class": name, "objects": objects, "measure": measure, **shown})
    write_csv(path, rows, option="--out")
