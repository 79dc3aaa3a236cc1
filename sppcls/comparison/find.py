"""Find the run folders below the paths that a person names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sppcls._util.files import check_local, read_json
from sppcls.comparison.read_run import read_run
from sppcls.comparison.runs import Run
from sppcls.errors import ConfigError, DataError
from sppcls.runs.names import CONFIG, LAST, LOG, METRICS, RESULT, SEARCH, SWEEP

# What the runs of a search differ in, as :attr:`Run.values` says it.
TRIAL = "trial"


def find_runs(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[Run], list[str]]:
    """Every run folder among and below ``paths``.

    Args:
        paths: run folders, sweep folders, or any folders above them.

    Returns:
        The runs, in the order of the paths, of a sweep's jobs, and else of their names; and one line for each
        folder that cannot be used, or only in part, and why. Unfinished runs are among the runs.

    Raises:
        ConfigError: a path is not there or cannot be read, or there is no run in any of them.
    """
    search = _Search()
    for path in map(Path, paths):
        check_local(path, "runs are read from folders, such as a mounted bucket or a shared disk")
        try:
            names = os.listdir(path)
        except OSError as error:
            reason = {
                FileNotFoundError: "no such folder",
                NotADirectoryError: "a file; name run folders, or .npz files of predictions",
            }.get(type(error), f"cannot be read ({error.strerror})")
            raise ConfigError(f"{path}: {reason}") from None
        # A run that is named itself belongs to the sweep or search of the folder above it.
        search.walk(path, _jobs_of(path.resolve().parent) if CONFIG in names else {})
    if not search.runs:
        reason = f"; {search.problems[0]}" if search.problems else ""
        raise ConfigError(
            f"{', '.join(map(str, paths))}: no run that can be compared{reason} (a run folder has {CONFIG} and {METRICS})"
        )
    return search.runs, search.problems


# Jobs of a sweep in their order, and what was varied for each (the seed left out).
_Jobs = dict[str, dict[str, str]]


class _Search:
    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.problems: list[str] = []
        self._seen: set[Path] = set()

    def walk(self, folder: Path, jobs: _Jobs) -> None:
        """Take ``folder`` if it is a run, which may be one of ``jobs``, else look below it."""
        if folder.resolve() in self._seen:  # named twice, or linked to
            return
        self._seen.add(folder.resolve())
        try:
            entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        except OSError as error:
            self.problems.append(f"{folder}: cannot be read ({error.strerror})")
            return
        names = {entry.name for entry in entries}
        if CONFIG in names:
            self._take(folder, jobs)
        elif names & {METRICS, RESULT, LAST, LOG}:
            self.problems.append(f"{folder}: has no {CONFIG}: not a whole run folder")
        elif not entries:
            self.problems.append(f"{folder}: is empty")
        else:
            if names & {SWEEP, SEARCH}:
                jobs = _jobs_of(folder)
            if SWEEP in names and not jobs:
                self.problems.append(f"{folder / SWEEP}: is damaged; groups get their names from the configs")
            if SWEEP in names:
                self.problems += [f"{folder / job}: has not started" for job in jobs if job not in names]
            position = {job: number for number, job in enumerate(jobs)}
            below = [Path(entry.path) for entry in entries if entry.is_dir()]
            for child in sorted(below, key=lambda p: (position.get(p.name, len(jobs)), _natural(p.name))):
                self.walk(child, jobs)

    def _take(self, folder: Path, jobs: _Jobs) -> None:
        try:
            run = read_run(folder)
        except DataError as error:
            self.problems.append(f"{folder}: {error}")
            return
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):  # of some other shape
            self.problems.append(f"{folder}: {CONFIG} or {RESULT} is not as this version of sppcls writes it")
            return
        run.values = jobs.get(folder.resolve().name, {})
        self.problems += [f"{folder}: {note}" for note in run.notes]
        self.runs.append(run)


def _jobs_of(folder: Path) -> _Jobs:
    """What ``sweep.json`` says of its jobs; empty if there is none, or it cannot be read.

    The runs of a search differ in all that was drawn, so each goes by its name.
    """
    if not (folder / SWEEP).exists() and (folder / SEARCH).is_file():
        return {name: {TRIAL: name} for name in sorted(p.parent.name for p in folder.glob(f"*/{CONFIG}"))}
    try:
        sweep: Any = read_json(folder / SWEEP) or {}
        varied = {str(job["name"]): job["values"].items() for job in sweep["jobs"]}
        left_out = ("seed", "data.fold")
        return {n: {str(k): str(v) for k, v in values if k not in left_out} for n, values in varied.items()}
    except (KeyError, TypeError, AttributeError):
        return {}


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``seed10`` after ``seed9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
