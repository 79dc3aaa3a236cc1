"""COCO's figures of detections, by its own evaluation in ``pycocotools``.

Average precision there is a mean over 101 points of recall, a box may belong to its second-best object, and 100 boxes of an
image count at most. Difficult objects are given as crowds, which count neither for nor against.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from sppcls.detection.ap import Detections
from sppcls.detection.boxes import areas
from sppcls.detection.truth import DetectionSet
from sppcls.errors import ConfigError

COCO_MEASURES = ("AP", "AP50", "AP75")
"""Mean over IoU 0.5, 0.55, ... 0.95; at 0.5; at 0.75."""


def has_coco() -> bool:
    """Whether pycocotools is installed."""
    return find_spec("pycocotools") is not None


def coco_figures(images: DetectionSet, found: Sequence[Detections]) -> dict[str, float]:
    """COCO's average precision, in per cent, by :data:`COCO_MEASURES`; NaN without objects.

    Args:
        images: the set.
        found: detections of each image.

    Raises:
        ConfigError: pycocotools is not installed.
    """
    if not has_coco():
        raise ConfigError('COCO\'s figures need pycocotools: pip install "sppcls[coco]"')
    truth = import_module("pycocotools.coco").COCO()
    truth.dataset = {
        "images": [{"id": index} for index in range(len(images))],
        "categories": [{"id": number} for number in range(len(images.classes))],
        "annotations": _objects(images),
    }
    rows = [
        [index, *box[:2], *(box[2:] - box[:2]), score, label]
        for index, one in enumerate(found)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth.createIndex()
        results = truth.loadRes(np.array(rows, np.float64).reshape(-1, 7)) if rows else None
        if results is None:
            return dict.fromkeys(COCO_MEASURES, 0.0 if images.counts().any() else float("nan"))
        judged = import_module("pycocotools.cocoeval").COCOeval(truth, results, "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    values = 100 * np.where(judged.stats[:3] < 0, np.nan, judged.stats[:3])
    return dict(zip(COCO_MEASURES, map(float, values), strict=True))


def _objects(images: DetectionSet) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for index, one in enumerate(images.truths):
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        rows = zip(
            np.hstack([one.boxes[:, :2], sides]), areas(one.boxes), one.labels, one.difficult, strict=True
        )
        for box, area, label, hard in rows:
            about = {"image_id": index, "category_id": int(label), "bbox": box.tolist(), "area": float(area)}
            # An id of 0 would count as no match.
            found.append({"id": len(found) + 1, **about, "iscrowd": int(hard)})
    return found
