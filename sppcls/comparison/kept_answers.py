"""Errors on test images, and answers to every image, as far as they are of the weights after the last epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from sppcls.comparison.answers import TEST, TEST_BEST, Answers, LabelAnswers, Measure, read_answers
from sppcls.comparison.runs import Run
from sppcls.errors import DataError
from sppcls.runs.names import METRICS, PREDICTIONS, PROTOCOLS, RESULT

# An error in metrics.csv and one counted from kept answers agree if they differ by no more, in points: a score that
# is nearly a tie may fall the other way in another batch or on another device.
AGREES = 0.1


def find_test_errors(run: Run) -> None:
    """Errors on the test images, from ``result.json``: what lies in ``predictions/`` may be of an earlier end."""
    test = run.result.get("test") or {}
    for images, weights in ((TEST, "last"), (TEST_BEST, "best")):
        found = test.get(weights, {})
        for name in found:
            where, _, figure = name.partition("/")
            if figure == run.main.figure():
                # Of test_224, seen as in training, or of a protocol, test_ten_view_224.
                protocol, _, size = where.removeprefix(f"{images}_").rpartition("_")
                errors = float(found[name]), float(found.get(f"{where}/top5_error", math.nan))
                measure = Measure(protocol or run.training_view, size, images, run.main.multi_label)
                run.errors[measure] = errors


def find_answers(run: Run) -> None:
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
        other = top in (PREDICTIONS, PROTOCOLS) or top.startswith((".", "evaluation-best"))
        if not other and (path.parent / "errors.csv").is_file() and not path.stem.endswith("_recalibrated"):
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


def _read_all(run: Run, paths: Sequence[Path]) -> Iterator[Answers | LabelAnswers]:
    for path in paths:
        try:
            yield read_answers(path)
        except DataError:
            run.notes.append(f"{path.relative_to(run.folder)} holds no predictions that can be read")


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
