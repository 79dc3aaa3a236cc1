"""Killed and resumed over and over: the run ends as if nothing had happened. `pytest -m long tests/long -s`."""

from __future__ import annotations

import random
import secrets
from pathlib import Path

import pytest
from forked import Loaded
from killing import SCHEDULES, STATEFUL, Runs, differences

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]


def folder_of(runs: Path, name: str) -> Path:
    """The folder in which a run has finished: one that dies before its first checkpoint begins anew in another."""
    (folder,) = [path.parent for path in runs.glob(f"shapes/{name}*/result.json")]
    return folder


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_killed_at_random_moments(tiny, loaded: Loaded, tmp_path: Path, schedule: str, workers: int) -> None:
    """Six kills: two in runs that are killed once, four in one run that is killed again and again."""
    seed = secrets.randbits(32)
    dice = random.Random(seed)
    words = [word for word in tiny(*STATEFUL, f"data.workers={workers}", "trainer.max_epochs=3")
             if not word.startswith("sizes.")] + SCHEDULES[schedule]  # fmt: skip
    with Runs(loaded) as runs:
        whole = runs.start([*words, "run_name=whole"])
        assert whole.status == 0, whole.output
        for attempt, kills in enumerate([1, 1, 4]):
            name = f"k{attempt}"
            mine = [*words, f"run_name={name}", "ckpt_path=auto", "log.save_every_minutes=0.0001"]
            moments = []
            for _ in range(kills):
                moments.append(dice.uniform(0.1, 0.95 * whole.seconds / (1 if kills == 1 else 2)))
                ended = runs.start(mine, {"seconds": moments[-1]}, loaders_too=dice.random() < 0.5)
                assert ended.status in (0, -9), ended.output
            last = runs.start(mine)
            assert last.status == 0, last.output
            found = differences(tmp_path / "runs/shapes/whole", folder_of(tmp_path / "runs", name))
            shown = ", ".join(f"{moment:.2f}" for moment in moments)
            print(
                f"{schedule}, {workers} workers: killed after {shown} of {whole.seconds:.2f} s: {found or 'same'}"
            )
            assert not found, f"seed {seed}"


CALLS = [("validation_step", 2), ("validation_step", 5), ("write_record", 3), ("write_record", 30), ("fsync", 1),
         ("fsync", 4), ("training_step", 7), ("optimizer_step", 3), ("on_validation_epoch_end", 2),
         ("on_train_epoch_end", 3), ("save_checkpoint", 2), ("setup", 1), ("load_state_dict", 1),
         ("closing_lines", 1)]  # fmt: skip


def test_killed_at_chosen_calls(tiny, loaded: Loaded, tmp_path: Path) -> None:
    """In validation, in the middle of writing a checkpoint, before it is safe on disk, while resuming, at the end."""
    words = tiny(*STATEFUL, "data.workers=0", "trainer.max_epochs=2")
    with Runs(loaded) as runs:
        assert runs.start([*words, "run_name=whole"]).status == 0
        for number, (call, count) in enumerate(CALLS):
            mine = [*words, f"run_name=c{number}x", "ckpt_path=auto", "log.save_every_minutes=0.0001"]
            moment = {"call": call, "number": count}
            resuming = call == "load_state_dict"
            first = runs.start(mine, {"call": "training_step", "number": 7} if resuming else moment)
            assert first.status == -9, (call, first.output)
            again = runs.start(
                mine, moment
            )  # the same moment once more, or the end where it does not come again
            assert again.status in (0, -9), (call, again.output)
            last = runs.start(mine)
            assert last.status == 0, (call, last.output)
            found = differences(tmp_path / "runs/shapes/whole", folder_of(tmp_path / "runs", f"c{number}x"))
            print(f"killed at call {count} of {call}: {found or 'same'}")
            assert not found, call


def test_killed_before_each_operation_on_a_file(tiny, loaded: Loaded, tmp_path: Path) -> None:
    """Between any two of them the folder is one that the run can go on from."""
    words = tiny(*STATEFUL, "data.workers=0", "trainer.max_epochs=2")
    with Runs(loaded) as runs:
        mine = [*words, "ckpt_path=auto", "log.save_every_minutes=0.0001"]
        whole = runs.start([*mine, "run_name=whole"])
        assert whole.status == 0
        wrong = {}
        for number in range(1, whole.operations + 1):
            name = f"o{number}x"
            ended = runs.start([*mine, f"run_name={name}"], {"operation": number})
            assert ended.status in (0, -9), ended.output
            last = runs.start([*mine, f"run_name={name}"])
            if last.status:
                wrong[number] = [last.output[-300:]]
                continue
            found = differences(tmp_path / "runs/shapes/whole", folder_of(tmp_path / "runs", name))
            print(f"killed before operation {number} of {whole.operations} on files: {found or 'same'}")
            if found:
                wrong[number] = found
        assert not wrong
