"""Sweeps of the real program: failing jobs, kills, Ctrl-C, and the same command again."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from forked import Loaded
from tiny_runs import wait_until

from sppcls import compose, train
from sppcls.errors import ConfigError, SppclsError
from sppcls.sweeps.folder import claim_sweep_folder
from sppcls.sweeps.launch import run_sweep
from sppcls.sweeps.plan import plan_sweep


def summary(sweep: Path) -> dict[str, dict[str, str]]:
    with open(sweep / "summary.csv", newline="") as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def running_job(sweep: Path, name: str, process) -> int:
    """Process number of a job that has saved something and is still training."""
    wait_until(lambda: (sweep / name / "last.ckpt").exists(), process)
    return int((sweep / name / ".lock").read_text().split()[0])


def wait_for_end(number: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{number}").exists() and "Z" not in Path(f"/proc/{number}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the job lives on without its sweep"
        time.sleep(0.1)


def incomplete(loaded: Loaded, words: list[str], children: int) -> tuple[str, str]:
    """What a sweep that starts ``children`` jobs says, and how it ends where a job fails."""
    done = loaded.run(["train.py", "-m", *words], children=children)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stdout, done.stderr


def test_a_failed_job_stops_no_other_and_is_tried_again(
    tiny: Callable[..., list[str]], loaded: Loaded, tmp_path: Path
) -> None:
    words = [*tiny("trainer.max_epochs=1", "name=lrs"), "optimizer.lr=1e30,0.2"]
    said, error = incomplete(loaded, words, children=2)
    assert "1 of 2 runs did not finish; the same command again resumes" in error
    sweep = tmp_path / "runs" / "lrs"
    places = [line for line in said.splitlines() if line.startswith("[")]
    assert places == ["[1/2] lr1e_30", "[2/2] lr0.2"]
    # What the header of every job says is printed once; each job's log has all of it.
    assert said.count("\nbackbone  ") == said.count("\ndevice  ") == 1
    assert said.count("\ntraining  ") == said.count("\nfolder  ") == 2
    # Where to look is said once, at the end.
    assert said.count("http://localhost:6006/") == said.count("tensorboard --logdir") == 1
    assert said.index("Report: ") < said.index("tensorboard --logdir")
    assert max(len(word) for word in said.split() if "localhost" in word) < 60
    assert "backbone  " in (sweep / "lr0.2" / "train.log").read_text()
    rows = summary(sweep)
    assert list(rows) == ["lr1e_30", "lr0.2"]
    assert [row["status"] for row in rows.values()] == ["failed", "finished"]
    assert "training stopped; try a lower optimizer.lr" in rows["lr1e_30"]["reason"]
    # What a job makes in its process is what the same words make in this one.
    alone = train(compose([*tiny("trainer.max_epochs=1"), "optimizer.lr=0.2"]))
    assert_same_weights(Path(alone["folder"]), sweep / "lr0.2")
    with open(sweep / "lr0.2" / "metrics.csv", newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(rows["lr0.2"]["val_96/top1_error"]) == pytest.approx(
        float(last["val_96/top1_error"]), abs=1e-3
    )
    assert 100 < int(rows["lr0.2"]["peak_memory_mib"]) < 8000
    kept = (sweep / "lr0.2" / "last.ckpt").stat().st_mtime_ns
    said, error = incomplete(loaded, words, children=1)
    assert "1 of 2" in error
    assert "1 finished, 0 begun, 1 new" in said
    assert "[1/2] lr1e_30 (less than 1 min left)" in said
    assert "[2/2]" not in said
    assert (sweep / "lr0.2" / "last.ckpt").stat().st_mtime_ns == kept


def test_killed_in_the_middle_and_run_again_it_ends_as_if_undisturbed(
    tiny: Callable[..., list[str]], program, tmp_path: Path
) -> None:
    words = tiny("data.num_train=120", "data.batch_size=2", "log.save_every_minutes=0.002")
    process = program(["-m", *words, "name=killed", "seed=0,1"], children=2)
    sweep = tmp_path / "runs" / "killed"
    wait_until(lambda: (sweep / "seed0" / "result.json").exists(), process)
    first = (sweep / "seed0" / "last.ckpt").stat().st_mtime_ns
    job = running_job(sweep, "seed1", process)
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for_end(job)  # it notices that its sweep is gone, saves and stops
    assert not (sweep / "seed1" / "result.json").exists()
    assert summary(sweep)["seed0"]["status"] == "finished", "written after every job"
    last = sweep / "seed1" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])  # damaged since: the one before it takes its place

    again = program(["-m", *words, "name=killed", "seed=0,1"], children=1)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert "2 runs: 1 finished, 1 begun, 0 new" in output
    assert "[2/2] seed1 resumed (" in output
    assert (sweep / "seed0" / "last.ckpt").stat().st_mtime_ns == first
    assert {row["status"] for row in summary(sweep).values()} == {"finished"}
    undisturbed = train(compose([*words, "seed=1", "run_name=whole"]))
    assert_same_weights(Path(undisturbed["folder"]), sweep / "seed1")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_saves_its_running_job_and_says_what_is_done(
    tiny: Callable[..., list[str]], program, tmp_path: Path, signum: int
) -> None:
    words = tiny("data.num_train=2000", "data.batch_size=2", "log.save_every_minutes=0.002", "name=stopped")
    process = program(["-m", *words, "seed=0,1"], children=1)
    sweep = tmp_path / "runs" / "stopped"
    job = running_job(sweep, "seed0", process)
    if signum == signal.SIGINT:
        with pytest.raises(ConfigError, match=f"in use by process {process.pid}"):
            run_sweep([*words, "seed=0,1"])  # the same sweep, while it runs
    process.send_signal(signum)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 128 + signum, output
    assert not Path(f"/proc/{job}").exists()
    rows = summary(sweep)
    assert [row["status"] for row in rows.values()] == ["stopped", "waiting"]
    assert rows["seed0"]["reason"].endswith("; saved.")
    outcome = json.loads((sweep / "jobs" / "seed0.json").read_text())
    assert outcome["status"] == "stopped"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["pyramid=none,l321", "sizes=multi_224_180", "sizes.sizes=[96,72]"],
            "job pyramid_none: sizes: ",
        ),
        (["data.batch_size=16,500"], "job batch_size500: data.batch_size=500: "),
        (["evaluation.protocols=[center],[nothing]"], "job protocols_nothing: "),
        (["seed=0,1", "hydra/launcher=nothing"], "hydra/launcher=nothing"),
    ],
)
def test_an_impossible_job_is_named_before_anything_is_made(
    tiny: Callable[..., list[str]], tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        run_sweep([*tiny(), *words])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_what_died_before_its_first_checkpoint_begins_anew_in_its_place(
    tiny: Callable[..., list[str]], loaded: Loaded, tmp_path: Path
) -> None:
    words = [*tiny("trainer.max_epochs=1", "name=dead"), "seed=0,1"]
    sweep = tmp_path / "runs" / "dead"
    with claim_sweep_folder(plan_sweep(words)):
        pass
    for name in ("seed0", "seed1"):
        (sweep / name).mkdir()
        (sweep / name / "config.yaml").write_text("half")
        (sweep / name / "events.out.tfevents.1").write_bytes(b"x")
    (sweep / "seed0" / "predictions").mkdir()
    (sweep / "seed0" / "predictions" / "val_96.npz").write_bytes(b"x")
    (sweep / "seed1" / "notes.txt").write_text("somebody's own")
    _, error = incomplete(loaded, words, children=1)
    assert "1 of 2" in error
    assert (sweep / "seed0" / "result.json").is_file()
    assert not (sweep / "seed0" / "events.out.tfevents.1").exists()
    assert (sweep / "seed1" / "notes.txt").read_text() == "somebody's own"
    assert "seed1: holds notes.txt, which no run writes" in summary(sweep)["seed1"]["reason"]
    assert sorted(p.name for p in sweep.iterdir() if p.name.startswith("seed")) == ["seed0", "seed1"]


def test_a_folder_of_its_own_is_said_and_why(
    tiny: Callable[..., list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, others = [*tiny("name=s"), "seed=0"], [*tiny("name=s"), "seed=0", "optimizer.lr=0.5"]
    for one in (others, words):
        with claim_sweep_folder(plan_sweep(one)):
            pass
    folder = tmp_path / "runs" / "s-2"
    (folder / "seed0").mkdir()
    (folder / "seed0" / "notes.txt").write_text("so that nothing is trained")
    with pytest.raises(SppclsError, match="1 of 1"):
        run_sweep(words)
    said = capfd.readouterr().out
    assert f"{folder.with_name('s')} is another sweep: {' '.join(others)}" in said
    assert f"Sweep {folder}: 1 runs: 0 finished, 0 begun, 1 new" in said
