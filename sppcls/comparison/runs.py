"""A run folder as a comparison sees it: what was asked for, what came out, and whether it is whole."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sppcls._util.figures import KINDS, MULTI_LABEL, ONE_LABEL
from sppcls.comparison.answers import (
    DETECTION,
    TEST,
    TEST_BEST,
    Answers,
    Judged,
    LabelAnswers,
    Measure,
    read_answers,
)
from sppcls.comparison.detectors import is_detector, read_detector
from sppcls.comparison.folds import repetition
from sppcls.config.old_versions import upgraded
from sppcls.errors import DataError
from sppcls.registry import TARGET
from sppcls.runs.metrics import read_metrics, renamed
from sppcls.runs.names import CONFIG, METRICS, PREDICTIONS, PROTOCOLS, RESULT
from sppcls.runs.result import read_result

# An error in metrics.csv and one counted from kept answers agree if they differ by no more, in points: a score that
# is nearly a tie may fall the other way in another batch or on another device.
AGREES = 0.1


@dataclass
class Run:
    """One run folder.

    Attributes:
        folder: where it is.
        config: nested, as in ``config.yaml``.
        seed: its seed; of a cross-validation a :class:`~sppcls.comparison.folds.Fold`.
        rows: a dict for every epoch with the numbers of ``metrics.csv`` (None: blank). ``pixels_seen`` and
            ``train_seconds`` are filled in for older runs, as far as the sizes and step times tell.
        result: ``result.json`` of a finished run; empty for older runs.
        finished: whether the last epoch that was asked for is there.
        main: where the headline error is measured.
        errors: top-1 and top-5 error in per cent of the weights after the last epoch; under measures of ``TEST_BEST``
            of those of the best. Of images with several labels what the mean average precision lacks, and NaN.
        answers: what these weights said to every image, where that was kept.
        values: what a sweep varied for this run, the seed left out; empty outside a sweep.
        notes: what was there but could not be used.
        tags: the columns of ``metrics.csv`` as they stand there, which are the tags of its own events.
    """

    folder: Path
    config: dict[str, Any]
    seed: int
    rows: list[dict[str, float | None]]
    result: dict[str, Any]
    finished: bool
    main: Measure
    errors: dict[Measure, tuple[float, float]] = field(default_factory=dict)
    answers: dict[Measure, Answers | LabelAnswers | Judged] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tags: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Name of its folder, with the one above it."""
        return "/".join(self.folder.parts[-2:])

    @property
    def written(self) -> os.stat_result:
        """When its figures were written."""
        metrics = self.folder / METRICS
        return (metrics if metrics.exists() else self.folder / RESULT).stat()

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return int(self.rows[-1]["epoch"] or 0) + 1

    @property
    def planned_epochs(self) -> int:
        """Epochs asked for."""
        return int(self.config["trainer"]["max_epochs"])

    @property
    def training_view(self) -> str:
        """Name of the view that training validates with; of a detector, what stands for it."""
        if self.main.protocol == DETECTION:
            return DETECTION
        side = (self.config.get("augment") or {}).get("shorter_side")
        return "center" if side is None else f"center_of_{side}"

    def column(self, measure: Measure) -> str | None:
        """The column of ``metrics.csv`` with the top-1 error of a measure, such as ``val_180/top1_error``."""
        if measure.protocol != self.training_view or measure.images:
            return None
        name = f"val_{measure.size}/{measure.figure()}"
        return name if name in self.rows[-1] else None

    def figure(self, measure: Measure, name: str) -> float | None:
        """A figure of :data:`~sppcls._util.figures.FIGURES` under a measure after the last epoch, or of the best; None
        where it was not written down."""
        test = self.result.get("test") or {}
        places = {
            "": self.rows[-1] | (self.result.get("protocols") or {}),
            TEST: test.get("last"),
            TEST_BEST: test.get("best"),
        }
        value = (places[measure.images] or {}).get(f"{measure.named(self.training_view)}/{name}")
        return float(value) if isinstance(value, int | float) else None

    def last(self, key: str) -> float | None:
        """A figure at the end of the run, such as ``pixels_seen``."""
        return self.rows[-1].get(key)

    @property
    def images_per_s(self) -> float | None:
        """Training images per second over the whole run."""
        parts = [(row.get("images_per_s"), row.get("epoch_seconds")) for row in self.rows]
        known = [(speed, seconds) for speed, seconds in parts if speed and seconds]
        total = sum(seconds for _, seconds in known)
        return sum(speed * seconds for speed, seconds in known) / total if total else None


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
        result = {}  # of the same run before it went on to more epochs
    finished = done == planned or result.get("stopped") is True
    run = Run(
        folder,
        config,
        repetition(config),
        rows,
        result,
        finished,
        Measure("", ""),
        notes=notes,
    )
    main = _main_size(config)
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
        _find_test_errors(run)
        _find_answers(run)
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
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
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
            rows.append({key: _number(key, texts[key]) for key in columns if key != "size"})
            if rows[-1]["epoch"] is None:
                raise ValueError
        except (TypeError, ValueError):
            if number + 1 < len(found):
                raise DataError(f"{METRICS}, line {number + 2}: damaged") from None
            del rows[number:]
            notes.append(f"the last line of {METRICS} is half-written and left out")
    if not rows:
        raise DataError("no metrics yet")
    sizes = [str(texts["size"]) for texts in found]
    _fill_in(rows, sizes)
    if "sizes" not in config["sizes"]:
        config["sizes"]["sizes"] = _sizes_seen(sizes)
    return rows, notes


def _sizes_seen(labels: list[str]) -> list[Any]:
    """Distinct sizes, such as 224 and [180, 240], of the labels that epochs have; the largest first."""
    sides = [
        [int(side) for side in label.split("x")] for label in dict.fromkeys(labels) if label[:1].isdigit()
    ]
    found = sorted(sides, key=lambda size: size[0] * size[-1], reverse=True)
    return [size[0] if len(size) == 1 else size for size in found] or [0]


def _number(key: str, text: str | None) -> float | None:
    if text is None:
        raise TypeError(key)
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None


def _fill_in(rows: list[dict[str, float | None]], sizes: list[str]) -> None:
    """Pixels and seconds of runs that did not count them: from the size of every epoch, and its step times."""
    pixels: float | None = 0.0
    seconds: float | None = 0.0
    before = 0.0
    for row, size in zip(rows, sizes, strict=False):
        images = row["images_seen"] or before
        sides = [int(side) for side in size.split("x") if side.isdecimal()]
        area = sides[0] * sides[-1] if sides else None  # None: the size varied within the epoch
        pixels = None if pixels is None or area is None else pixels + (images - before) * area
        took = row.get("epoch_seconds")
        seconds = None if seconds is None or took is None else seconds + took
        before = images
        row.setdefault("pixels_seen", pixels)
        row.setdefault("train_seconds", seconds)


def _main_size(config: dict[str, Any]) -> str:
    """As :func:`sppcls.config.build.val_sizes`: the largest training size if it is validated, else the largest."""
    pairs = [(s, s) if isinstance(s, int) else (s[0], s[1]) for s in config["sizes"]["sizes"]]
    asked = config["sizes"].get("val_sizes")
    validated = pairs if asked is None else [(s, s) if isinstance(s, int) else (s[0], s[1]) for s in asked]
    largest = max(pairs, key=lambda s: s[0] * s[1])
    height, width = largest if largest in validated else max(validated, key=lambda s: s[0] * s[1])
    return str(height) if height == width else f"{height}x{width}"


def _find_test_errors(run: Run) -> None:
    """Errors on the test images, from ``result.json``: what lies in ``predictions/`` may be of an earlier end."""
    test = run.result.get("test") or {}
    for images, weights in ((TEST, "last"), (TEST_BEST, "best")):
        found = test.get(weights, {})
        for name in found:
            where, _, figure = name.partition("/")
            if figure == run.main.figure():
                top5 = float(found.get(f"{where}/top5_error", math.nan))
                run.errors[_test_measure(run, where, images)] = (float(found[name]), top5)


def _test_measure(run: Run, where: str, images: str) -> Measure:
    """Of ``test_224``, seen as in training, or of a protocol, ``test_ten_view_224``."""
    protocol, _, size = where.removeprefix(f"{images}_").rpartition("_")
    return Measure(protocol or run.training_view, size, images, run.main.multi_label)


# --- answers kept for every image


def _find_answers(run: Run) -> None:
    """Answers of the weights after the last epoch: of the validation, of protocols, of ``sppcls evaluate``."""
    for answers in _read_all(run, sorted((run.folder / PREDICTIONS).glob("val_*.npz"))):
        measure = run.main._replace(size=answers.path.stem.removeprefix("val_"))
        _take(run, measure, answers, PREDICTIONS)
    _find_test_answers(run)
    for answers in _read_all(run, sorted((run.folder / PROTOCOLS).glob("*.npz"))):
        kept = run.result.get("protocols") or {}
        name = f"val_{answers.path.stem}_{answers.measure.size}/{answers.measure.figure()}"
        error = kept.get(name, answers.errors[0])
        if abs(error - answers.errors[0]) > AGREES:
            run.notes.append(f"{answers.path.name} in {PROTOCOLS}/ is of other weights and left out")
            continue
        size = answers.measure.size if answers.measure.side else run.main.size
        _take(run, answers.measure._replace(size=size, images=""), answers, PROTOCOLS)
    folders: dict[str, list[Path]] = {}
    for path in sorted(run.folder.glob("*/**/*.npz")):
        top = path.relative_to(run.folder).parts[0]
        if top in (PREDICTIONS, PROTOCOLS) or top.startswith((".", "evaluation-best")):
            continue
        if (path.parent / "errors.csv").is_file() and not path.stem.endswith("_recalibrated"):
            folders.setdefault(top, []).append(path)
    for top, paths in folders.items():
        _take_evaluation(run, top, list(_read_all(run, paths)))


def _find_test_answers(run: Run) -> None:
    test = run.result.get("test") or {}
    same = test.get("best", {}).get("epoch") == test.get("last", {}).get("epoch")
    for answers in _read_all(run, sorted((run.folder / PREDICTIONS).glob("test*.npz"))):
        protocol, size, images, several = answers.measure
        if f"test_{size}.npz" == answers.path.name.replace("test_best_", "test_"):
            protocol = run.training_view
        for kind in (TEST, TEST_BEST) if same else (images,):
            measure = Measure(protocol, size, kind, several)
            if measure in run.errors:
                _take(run, measure, answers, PREDICTIONS)


def _read_all(run: Run, paths: list[Path]) -> list[Answers | LabelAnswers]:
    found = []
    for path in paths:
        try:
            found.append(read_answers(path))
        except DataError:
            run.notes.append(f"{path.relative_to(run.folder)} holds no predictions that can be read")
    return found


def _take_evaluation(run: Run, top: str, found: list[Answers | LabelAnswers]) -> None:
    """Results of ``sppcls evaluate``, if they are of the last weights: its folder says so, or its centre view does."""
    checks = [a for a in found if a.measure == run.main]
    agrees = [abs(a.errors[0] - run.errors[run.main][0]) <= AGREES for a in checks if run.main in run.errors]
    if not (all(agrees) if top.startswith("evaluation-last") else agrees and all(agrees)):
        run.notes.append(f"{top}/ is not used: nothing shows that it tested the weights after the last epoch")
        return
    known = run.answers.get(run.main) or next(iter(checks), None)
    for answers in found:
        if answers.measure.images:  # those of another split have to be those of this run's test
            of_test = [a for m, a in run.answers.items() if m.images == TEST]
            fits = answers.measure.images == TEST and all(a.images == answers.images for a in of_test)
        else:
            fits = known is None or answers.images == known.images
        if not fits:
            run.notes.append(f"{answers.path.relative_to(run.folder)} is about other images and left out")
        elif answers.measure.side:
            _take(run, answers.measure, answers, top)


def _take(run: Run, measure: Measure, answers: Answers | LabelAnswers, place: str) -> None:
    if measure in run.answers:
        return
    if measure in run.errors and abs(run.errors[measure][0] - answers.errors[0]) > AGREES:
        where = RESULT if measure.images else f"the last row of {METRICS}"
        run.notes.append(f"{place}/{answers.path.name} does not fit {where} and is left out")
        return
    run.errors.setdefault(measure, answers.errors)
    run.answers[measure] = answers
