"""The folder of a sweep: who gets it, and what its summary says."""

from __future__ import annotations

import csv
import fcntl
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sppcls.errors import ConfigError
from sppcls.runs.folder import lock_folder
from sppcls.sweeps.folder import claim_folder, claim_sweep_folder, save_outcome, write_summary
from sppcls.sweeps.job import Ended
from sppcls.sweeps.plan import plan_sweep


def finish(folder: Path) -> None:
    folder.mkdir()
    last = {"val_96/top1_error": 12.5}
    (folder / "result.json").write_text(json.dumps({"epochs": 2, "train_seconds": 60.0, "last": last}))


def summary(sweep: Path) -> dict[str, str]:
    with open(sweep / "summary.csv", newline="") as file:
        return {row["job"]: row["status"] for row in csv.DictReader(file)}


def test_the_summary_keeps_the_jobs_of_earlier_commands(
    tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    with claim_sweep_folder(plan_sweep(tiny("name=more", "seed=0,1"))) as sweep:
        finish(sweep / "seed0")
        save_outcome(sweep, "seed1", Ended("failed", "no memory", 1.0, 100.0))
        write_summary(sweep, {"seed0": 2, "seed1": 2})
    with claim_sweep_folder(plan_sweep(tiny("name=more", "seed=2,3"))) as again:
        assert again == sweep
        finish(sweep / "seed2")
        rows = write_summary(sweep, {"seed2": 2, "seed3": 2})
    assert [row["job"] for row in rows] == ["seed2", "seed3"]
    assert summary(sweep) == {
        "seed0": "finished", "seed1": "failed", "seed2": "finished", "seed3": "waiting",
    }  # fmt: skip


def test_a_job_whose_folder_was_removed_waits_again(tiny: Callable[..., list[str]], tmp_path: Path) -> None:
    with claim_sweep_folder(plan_sweep(tiny("name=gone", "seed=0,1"))) as sweep:
        save_outcome(sweep, "seed0", Ended("finished", "", 1.0, 100.0))
        write_summary(sweep, {"seed0": 2, "seed1": 2})
    assert summary(sweep) == {"seed0": "waiting", "seed1": "waiting"}


def test_other_values_of_one_name_are_not_taken_for_each_other(
    tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    with claim_sweep_folder(plan_sweep(tiny("name=sides", "sizes.sizes=[96,72],[80,64]"))) as sweep:
        finish(sweep / "sizes96_72")
    rectangles = plan_sweep(tiny("name=sides", "sizes.sizes=[[96,72]],[[80,64]]"))
    assert [job.name for job in rectangles.jobs] == ["sizes96_72", "sizes80_64"]
    refused = pytest.raises(
        ConfigError, match=r"^job sizes96_72: .*sizes96_72 is of sizes.sizes=\[96,72\]; name="
    )
    with refused, claim_sweep_folder(rectangles):
        pass


def test_of_two_sweeps_that_start_at_once_the_second_waits_to_see_what_the_first_is(tmp_path: Path) -> None:
    def first() -> None:
        (folder / "sweep.json").write_text('{"identity": "first"}')

    folder = tmp_path / "runs" / "both"
    folder.mkdir(parents=True)
    (folder / ".sweep.1.tmp.json").write_text("{")  # being written
    writing = threading.Timer(0.3, first)
    with lock_folder(folder):
        writing.start()
        with claim_folder(tmp_path / "runs", "both", "sweep.json", "second") as (own, known):
            assert (own.name, known) == ("both-2", None)
        refused = pytest.raises(ConfigError, match="both: in use by process")
        with refused, claim_folder(tmp_path / "runs", "both", "sweep.json", "first"):
            pass
    writing.join()


def test_who_only_looks_whether_a_folder_is_in_use_takes_it_from_nobody(tmp_path: Path) -> None:
    with open(tmp_path / ".lock", "w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        done = threading.Timer(0.3, fcntl.flock, (looking, fcntl.LOCK_UN))
        done.start()
        with lock_folder(tmp_path):
            pass
        done.join()
