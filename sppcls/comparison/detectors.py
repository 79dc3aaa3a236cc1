"""The run folder of a detector as a comparison sees it: what its mean average precision lacks of 100 per cent."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sppcls.comparison.answers import DETECTION, Judged, Measure
from sppcls.errors import DataError
from sppcls.runs.names import JUDGED, RESULT
from sppcls.runs.result import read_result


def is_detector(config: dict[str, Any]) -> bool:
    """Whether a run's config makes a detector."""
    return bool((config.get("detection") or {}).get("checkpoint"))


def read_detector(
    folder: Path,
) -> tuple[dict[str, Any], dict[Measure, tuple[float, float]], dict[Measure, Judged]]:
    """What stands in ``result.json``, and the error and its draws under each measure, the main one first.

    Raises:
        DataError: there is no result yet, or it is damaged.
    """
    result = read_result(folder)
    if result is None or not isinstance(result.get("map"), dict):
        raise DataError("its detector is not finished yet; the same command again continues it")
    errors = {
        Measure(DETECTION, str(name)): (100 - float(value), math.nan) for name, value in result["map"].items()
    }
    try:
        with open(folder / f"{JUDGED}.npz", "rb") as raw, np.load(raw, allow_pickle=False) as file:
            images, count = str(file["images"]), int(file["count"])
            judged = {
                Measure(DETECTION, str(name)): Judged(images, count, 100 - column)
                for name, column in zip(file["measures"], file["draws"].T, strict=True)
            }
    except Exception:  # numpy raises nearly any type on damaged files
        raise DataError(f"{JUDGED}.npz is missing or damaged; remove {RESULT} and run it again") from None
    return result, errors, judged
