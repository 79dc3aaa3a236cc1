"""Reading a run folder, and telling whether it is whole."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from sppcls._util.figures import KINDS, MULTI_LABEL, ONE_LABEL
from sppcls.comparison.answers import DETECTION, Measure
from sppcls.comparison.detectors import is_detector, read_detector
from sppcls.comparison.folds import repetition
from sppcls.comparison.kept_answers import find_answers, find_test_errors
from sppcls.comparison.runs import Run
from sppcls.config.old_versions import upgraded
from sppcls.errors import DataError
from sppcls.registry import TARGET
from sppcls.runs.metrics import read_metrics, renamed
from sppcls.runs.names import CONFIG, METRICS
from sppcls.runs.result import read_result

# That of libyaml is ten times as fast, where PyYAML was built with it; its error lines are not shown here.
_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        DataError: it cannot be used; the message says why, without the folder's name.
    """
    config = _read_config(folder)
    if is_detector(config):
        return _detector_run(folder, config)
    rows, notes = _read_rows(folder, config)
    planned, done = int(config["trainer"]["max_epochs"]), int(rows[-1]["epoch"] or 0) + 1
    result = read_result(folder) or {}
    if result and result.get("epochs") != done:
        result = {}  # of the same run before it was continued for more epochs
    finished = done == planned or result.get("stopped") is True
    nowhere = Measure("", "")
    run = Run(folder, config, repetition(config), rows, result, finished, nowhere, notes=notes)
    main, _ = _main_size(config), run.bins  # sizes and pyramids of another shape are found out here
    several = any(key.endswith(f"/{MULTI_LABEL.main}") for key in rows[-1])
    run.main = Measure(run.training_view, str(result.get("main_size") or main), multi_label=several)
    run.tags = frozenset(rows[-1])
    run.rows = [renamed(row, run.main.size) for row in rows]
    last = run.rows[-1]
    for key, top1 in last.items():
        prefix, _, figure = key.partition("/")
        if prefix.startswith("val_") and figure == run.main.figure() and top1 is not None:
            top5 = last.get(f"{prefix}/top5_error")
            measure = run.main._replace(size=prefix.removeprefix("val_"))
            run.errors[measure] = (top1, math.nan if top5 is None else top5)
    if finished:
        find_test_errors(run)
        find_answers(run)
        if run.main not in run.errors:
            raise DataError("its last epoch was not validated (trainer.val_every)")
    return run


def _detector_run(folder: Path, config: dict[str, Any]) -> Run:
    """As a run of one epoch."""
    result, errors, judged = read_detector(folder)
    main = next(iter(errors))
    row: dict[str, float | None] = {"epoch": 0.0, "train_seconds": float(result["train_seconds"])}
    for measure, (error, _) in errors.items():
        row[f"{measure.named(DETECTION)}/{measure.figure()}"] = error
    return Run(folder, config, int(config["seed"]), [row], result, True, main, errors, {**judged})


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = yaml.load((folder / CONFIG).read_text(encoding="utf-8"), Loader=_SAFE_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise DataError(f"{CONFIG} is damaged or half-written") from None
    except OSError as error:
        raise DataError(f"{CONFIG} cannot be read ({error.strerror})") from None
    if not config:
        raise DataError(f"{CONFIG} is empty")
    kinds = {"seed": int, "trainer.max_epochs": int, "sizes.kind": str, "sizes.sizes": list, "pyramid": dict}
    for key, kind in kinds.items():
        value = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if key == "sizes.sizes" and TARGET in config["sizes"]:
            continue  # a schedule of somebody's own: metrics.csv says which sizes there were
        if not isinstance(value, kind):
            raise DataError(f"{CONFIG} has no {key}: half-written, or of another version of sppcls")
    return upgraded(config)


def _read_rows(folder: Path, config: dict[str, Any]) -> tuple[list[dict[str, float | None]], list[str]]:
    metrics = read_metrics(folder)
    found, columns = metrics.lines, metrics.columns
    if not found:
        raise DataError("no metrics yet")
    known = [re.sub("^val_.+/", "val/", column) for column in columns]
    error = next((kind.main for kind in KINDS if f"val/{kind.main}" in known), ONE_LABEL.main)
    for column in ("epoch", "images_seen", "size", f"val/{error}"):
        if column not in known:
            raise DataError(f"{METRICS} has no column {column}: of another version of sppcls")
    rows, notes = [], []
    for number, texts in enumerate(found):
        try:
            rows.append({key: _number(texts[key]) for key in columns if key != "size"})
            if rows[-1]["epoch"] is None:
                raise ValueError
        except (TypeError, ValueError):
            if number + 1 < len(found):
                raise DataError(f"{METRICS}, line {number + 2}: damaged") from None
            del rows[number:]
            notes.append(f"the last line of {METRICS} is half-written and left out")
    if not rows:
        raise DataError("no metrics yet")
    if "sizes" not in config["sizes"]:
        config["sizes"]["sizes"] = _sizes_seen([str(texts["size"]) for texts in found])
    return rows, notes


def _sizes_seen(labels: list[str]) -> list[Any]:
    """Distinct sizes, such as 224 and [180, 240], of the labels that epochs have; the largest first."""
    known = (label.split("x") for label in dict.fromkeys(labels) if label[:1].isdigit())
    found = sorted((list(map(int, s)) for s in known), key=lambda s: s[0] * s[-1], reverse=True)
    return [size[0] if len(size) == 1 else size for size in found] or [0]


def _number(text: str | None) -> float | None:
    value = math.nan if text == "" else float(text)  # type: ignore[arg-type]  # raises TypeError of None
    return value if math.isfinite(value) else None


def _main_size(config: dict[str, Any]) -> str:
    """As :func:`sppcls.config.build.val_sizes`: the largest training size if it is validated, else the largest."""
    trained, asked = config["sizes"]["sizes"], config["sizes"].get("val_sizes")
    pairs, validated = (
        [(s, s) if isinstance(s, int) else (s[0], s[1]) for s in sizes]
        for sizes in (trained, trained if asked is None else asked)
    )
    largest = max(pairs, key=lambda s: s[0] * s[1])
    height, width = largest if largest in validated else max(validated, key=lambda s: s[0] * s[1])
    return str(height) if height == width else f"{height}x{width}"
