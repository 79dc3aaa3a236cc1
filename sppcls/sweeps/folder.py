"""The folder of a sweep: one per sweep, found again by the same command, never shared by two at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sppcls._util.console import table, terminal_columns
from sppcls._util.figures import KINDS
from sppcls._util.files import read_json, write_csv, write_json
from sppcls.errors import ConfigError
from sppcls.runs.folder import (
    check_writable,
    has_finished,
    in_use,
    lock_folder,
    numbered_folders,
)
from sppcls.runs.names import LAST, SWEEP
from sppcls.runs.result import read_result
from sppcls.sweeps.job import Ended
from sppcls.sweeps.plan import SweepPlan

OUTCOMES = "jobs"


def save_outcome(sweep: Path, job: str, ended: Ended) -> None:
    """Keep how a job ended in the sweep's folder."""
    (sweep / OUTCOMES).mkdir(exist_ok=True)
    write_json(sweep / OUTCOMES / f"{job}.json", {"job": job, **asdict(ended)})


@contextmanager
def claim_sweep_folder(plan: SweepPlan) -> Iterator[Path]:
    """The folder of this sweep, locked: that of the same command before, or a new one.

    Raises:
        ConfigError: this very sweep is running, the folder cannot be written, or has another run of a job's name.
    """
    with claim_folder(plan.runs_dir, plan.name, SWEEP, plan.identity) as (folder, known):
        _check_names(folder, plan, known)
        _write_sweep(folder, plan, known)
        yield folder


@contextmanager
def claim_folder(
    runs_dir: Path, name: str, file: str, identity: str
) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """The folder ``runs_dir/name`` of many runs, locked, or ``name-2`` and so on if something else is there.

    Args:
        runs_dir: made if it is not there.
        name: of the folder.
        file: name of the JSON file that tells what a folder is; the caller writes it.
        identity: what has to stand under ``identity`` in that file for the folder to be the same one.

    Yields:
        The folder, and what its file says; None if the folder is new.

    Raises:
        ConfigError: the folder is in use, or cannot be written.
    """
    where = f"runs_dir={runs_dir}"
    for folder, new in numbered_folders(runs_dir / name, where, "choose another name="):
        if not new:
            if not folder.is_dir():
                raise ConfigError(f"{where}: {folder} is not a folder")
            check_writable(folder)
        # One that somebody else holds for the moment it takes to look is looked at by its file alone.
        known = read_json(folder / file)
        strangers = [p for p in folder.iterdir() if not p.name.startswith(".")] if known is None else []
        if strangers or (known is not None and known.get("identity") != identity):
            continue
        with ExitStack() as held:
            try:
                held.enter_context(lock_folder(folder))
            except ConfigError:
                known = _read_soon(folder / file)
                if known is None or known.get("identity") == identity:
                    raise
                continue
            known = read_json(folder / file)
            if known is not None and known.get("identity") != identity:
                continue
            yield folder, known
            return
    raise AssertionError("numbered_folders ends with an error")


def read_sweep(folder: Path) -> dict[str, Any] | None:
    """``sweep.json`` of a sweep's folder; None where there is none."""
    return read_json(folder / SWEEP)


def _read_soon(path: Path) -> dict[str, Any] | None:
    """What the process that has just locked a folder writes there."""
    deadline = time.monotonic() + 5
    while (found := read_json(path)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _check_names(folder: Path, plan: SweepPlan, known: dict[str, Any] | None) -> None:
    """Values that differ only in characters that a folder name cannot have are not taken for each other."""
    before = {job["name"]: job["values"] for job in (known or {}).get("jobs", [])}
    for job in plan.jobs:
        if before.get(job.name, job.values) != job.values:
            values = " ".join(f"{key}={value}" for key, value in before[job.name].items())
            raise ConfigError(
                f"job {job.name}: {folder / job.name} is of {values}; name=... makes another sweep of this one"
            )


def _write_sweep(folder: Path, plan: SweepPlan, known: dict[str, Any] | None) -> None:
    """Jobs of earlier commands of the same sweep stay: one may give more seeds than the next."""
    jobs = {job["name"]: job for job in (known or {}).get("jobs", [])}
    jobs.update({job.name: asdict(job) for job in plan.jobs})
    about = {"name": folder.name, "identity": plan.identity, "words": plan.words, "varied": plan.varied}
    write_json(folder / SWEEP, {**about, "jobs": list(jobs.values())})


def job_state(sweep: Path, name: str, epochs: int) -> str:
    """``finished``, ``begun`` (has a checkpoint to resume from) or ``new``."""
    if has_finished(sweep / name, epochs):
        return "finished"
    return "begun" if (sweep / name / LAST).is_file() else "new"


def seconds_taken(sweep: Path) -> list[float]:
    """How long each finished job of the sweep took; of one that was resumed, its training if that was longer than its last
    process."""
    taken = []
    for job in (read_sweep(sweep) or {}).get("jobs", []):
        result = read_result(sweep / job["name"])
        if result is not None:
            outcome = read_json(sweep / OUTCOMES / f"{job['name']}.json") or {}
            taken.append(max(float(result.get("train_seconds", 0)), float(outcome.get("seconds", 0))))
    return taken


def write_summary(sweep: Path, epochs: dict[str, int]) -> list[dict[str, str]]:
    """``summary.csv``: a row per job of the sweep with what became of it; returns those of the jobs in ``epochs``, which says
    how many each is to be trained for."""
    names = dict.fromkeys([job["name"] for job in (read_sweep(sweep) or {}).get("jobs", [])] + [*epochs])
    # One of an earlier command was trained for as many epochs as it was to be, if it has a result.
    rows = [_row(sweep, name, epochs.get(name, 0)) for name in names]
    write_csv(sweep / "summary.csv", rows)
    return [row for row in rows if row["job"] in epochs]


def _row(sweep: Path, name: str, epochs: int) -> dict[str, str]:
    outcome = read_json(sweep / OUTCOMES / f"{name}.json") or {}
    result = read_result(sweep / name) or {}
    finished = has_finished(sweep / name, epochs)
    if finished:
        outcome.update(status="finished", reason="")
    elif in_use(sweep / name):  # a cluster continues it, whatever became of the process that waited
        outcome.update(status="running", reason="")
    elif outcome.get("status") == "finished":  # and its folder was removed since
        outcome = {}
    row = {
        "job": name,
        "status": str(outcome.get("status", "waiting")),
        "reason": str(outcome.get("reason", "")),
        "epochs": str(result.get("epochs", "")),
        "seconds": f"{result['train_seconds']:.1f}" if finished else "",
        "peak_memory_mib": f"{outcome['peak_memory_mib']:.0f}" if "peak_memory_mib" in outcome else "",
    }
    if finished:
        for figures in (result.get("last", {}), *result.get("test", {}).values()):
            row |= {name: f"{value:.4f}" for name, value in figures.items() if name.endswith(_ERRORS)}
        row |= {f"mAP {measure}": f"{value:.4f}" for measure, value in result.get("map", {}).items()}
    return row


# Main errors, as figures are called.
_ERRORS = tuple(f"/{kind.main}" for kind in KINDS)


def summary_table(rows: list[dict[str, str]]) -> str:
    """The rows of :func:`write_summary` as aligned text."""
    errors = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if (key.endswith(_ERRORS) and not key.startswith("test_best_")) or key.startswith("mAP ")
    ]
    shown = []
    for row in rows:
        figures = [f"{float(row[key]):.2f}" if row.get(key) else "" for key in errors]
        minutes = f"{float(row['seconds']) / 60:.1f}" if row["seconds"] else ""
        cells = [row["job"], row["status"], row["epochs"], *figures, minutes, row["peak_memory_mib"]]
        shown.append([cell or "-" for cell in cells])
    header = ["run", "state", "epochs", *(f"{key}, %" for key in errors), "minutes", "MiB"]
    return table(shown, header, terminal_columns())
