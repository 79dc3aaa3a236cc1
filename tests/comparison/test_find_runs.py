"""Reading run folders, whole and broken ones."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from written_runs import misses, save_answers, write_run, write_sweep

from sppcls.comparison import Measure, find_runs, read_answers, read_run
from sppcls.errors import ConfigError, DataError

CENTER = Measure("center", "96")


def test_a_run_is_read_with_its_answers(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", seed=4, right=misses(40, 1, 2, 7))
    run = read_run(folder)
    assert (run.seed, run.finished, run.epochs, run.main) == (4, True, 2, CENTER)
    assert run.errors[CENTER][0] == 7.5
    assert run.answers[CENTER].errors[0] == 7.5
    assert np.flatnonzero(~run.answers[CENTER].hit1).tolist() == [1, 2, 7]
    assert run.last("pixels_seen") == 200 * 96 * 96
    assert run.images_per_s == 20


def test_a_run_of_version_0_1_has_its_main_size_by_name(tmp_path: Path) -> None:
    changes = {"sizes__kind": "alternate", "sizes__sizes": [96, 72], "trainer__max_epochs": 3}
    run = read_run(write_run(tmp_path / "a", error=20, old=True, **changes))
    assert run.finished
    assert run.last("pixels_seen") == 100 * (96 * 96 + 72 * 72 + 96 * 96)
    assert run.result == {}
    assert set(run.errors) == {CENTER, Measure("center", "72")}


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "metrics.csv").unlink(), "no metrics yet"),
        (lambda f: (f / "metrics.csv").write_text(""), "no metrics yet"),
        (
            lambda f: (f / "metrics.csv").write_text("epoch,images_seen,size,val_96/top1_error\n"),
            "no metrics yet",
        ),
        (
            lambda f: (f / "metrics.csv").write_text("epoch,step\n0,1\n"),
            "no column images_seen: of another version",
        ),
        (lambda f: (f / "metrics.csv").write_bytes(b"\xff\xfe\x00"), "metrics.csv is damaged"),
        (lambda f: (f / "config.yaml").write_text(""), "config.yaml is empty"),
        (lambda f: (f / "config.yaml").write_text("seed: 0\ndata: {name: [\n"), "damaged or half-written"),
        (lambda f: (f / "config.yaml").write_text("seed: 0\ntrainer: {}\n"), "has no trainer.max_epochs"),
        (lambda f: (f / "config.yaml").write_text("just words\n"), "has no seed"),
        (lambda f: (f / "config.yaml").unlink(), "has no config.yaml"),
        (lambda f: replace(f / "config.yaml", "- 96", "- []"), "not as this version of sppcls writes it"),
        (
            lambda f: replace(f / "config.yaml", "shorter_side: null", "- 5"),
            "not as this version of sppcls writes it",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path, damage: object, reason: str) -> None:
    write_run(tmp_path / "runs" / "good", error=20)
    bad = write_run(tmp_path / "runs" / "bad", error=20)
    damage(bad)  # type: ignore[operator]
    runs, problems = find_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["good"]
    assert len(problems) == 1
    assert problems[0].startswith(f"{bad}: ")
    assert reason in problems[0]
    assert "\n" not in problems[0]


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    write_run(tmp_path / "good", error=20)
    (tmp_path / "nothing").mkdir()
    runs, problems = find_runs([tmp_path])
    assert len(runs) == 1
    assert problems == [f"{tmp_path / 'nothing'}: is empty"]


def test_a_half_written_last_line_is_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", error=20, epochs=1)
    with open(folder / "metrics.csv", "a") as file:
        file.write("1,200,18")
    runs, problems = find_runs([folder])
    assert (runs[0].epochs, runs[0].finished) == (1, False)
    assert problems == [f"{folder}: the last line of metrics.csv is half-written and left out"]


def test_a_run_that_goes_on_to_more_epochs_is_unfinished(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", right=misses(40, 3))
    text = (folder / "config.yaml").read_text().replace("max_epochs: 2", "max_epochs: 5")
    (folder / "config.yaml").write_text(text)
    run = read_run(folder)
    assert not run.finished
    assert run.answers == {}


def test_no_path_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone: no such folder"):
        find_runs([tmp_path / "gone"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="file: a file; name run folders"):
        find_runs([tmp_path / "file"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no run that can be compared.*is empty"):
        find_runs([tmp_path / "empty"])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can look into, and rights that a locked one in it withholds, even from root."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        user = os.geteuid()
        yield Path(name)
        if user == 0:
            os.seteuid(0)
        for path in Path(name).rglob("*"):
            if path.is_dir():
                os.chmod(path, 0o755)


def test_folders_that_cannot_be_read(open_folder: Path) -> None:
    write_run(open_folder / "runs" / "good", error=20)
    locked = write_run(open_folder / "runs" / "locked", error=20)
    os.chmod(locked, 0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(ConfigError, match=r"locked: cannot be read \(Permission denied\)"):
        find_runs([locked])
    runs, problems = find_runs([open_folder])
    assert [run.folder.name for run in runs] == ["good"]
    assert problems == [f"{locked}: cannot be read (Permission denied)"]


def test_a_sweep_gives_order_and_values_and_names_what_has_not_started(tmp_path: Path) -> None:
    jobs = {
        f"{cell}-seed{seed}": {"cell": cell, "seed": str(seed)}
        for cell in ("wide", "narrow")
        for seed in (0, 1)
    }
    write_sweep(tmp_path / "sweep", jobs)
    for name in list(jobs)[:3]:
        write_run(tmp_path / "sweep" / name, seed=int(name[-1]), error=20)
    runs, problems = find_runs([tmp_path])
    assert [run.folder.name for run in runs] == ["wide-seed0", "wide-seed1", "narrow-seed0"]
    assert runs[0].values == {"cell": "wide"}
    assert problems == [f"{tmp_path / 'sweep' / 'narrow-seed1'}: has not started"]
    alone, _ = find_runs([tmp_path / "sweep" / "narrow-seed0"])
    assert alone[0].values == {"cell": "narrow"}


def test_a_damaged_sweep_file_does_not_hide_its_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "a-seed0", error=20)
    (tmp_path / "sweep.json").write_text('{"jobs": [')
    runs, problems = find_runs([tmp_path])
    assert len(runs) == 1
    assert "sweep.json: is damaged" in problems[0]


def test_a_run_named_twice_or_linked_to_counts_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "runs" / "a", error=20)
    (tmp_path / "runs" / "again").symlink_to(folder)
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    runs, _ = find_runs([folder, tmp_path])
    assert len(runs) == 1


def evaluation(folder: Path, name: str, right: np.ndarray, **setting: str) -> None:
    save_answers(folder / name, right, **setting)
    (folder / name).parent.joinpath("errors.csv").write_text("protocol,size\n")


def test_evaluations_of_the_last_weights_add_sizes_and_protocols(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", right=misses(40, 1, 2))
    evaluation(folder, "evaluation-last/full_128.npz", misses(40, 5), protocol="full", size="128")
    evaluation(folder, "mine/deep/center_96.npz", misses(40, 1, 2))
    evaluation(folder, "mine/deep/center_64.npz", misses(40, 1, 2, 3, 4), size="64")
    evaluation(folder, "mine/other/ten_view_96.npz", misses(40), protocol="ten_view")
    run = read_run(folder)
    assert {str(measure): errors[0] for measure, errors in run.errors.items()} == {
        "val_96": 5.0, "val_full_128": 2.5, "val_64": 10.0, "val_ten_view_96": 0.0,
    }  # fmt: skip
    assert set(run.answers) == set(run.errors)
    assert run.notes == []


def test_other_weights_and_other_images_are_not_mixed_in(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", right=misses(40, 1, 2))
    evaluation(folder, "evaluation-best/full_96.npz", misses(40, 5), protocol="full")
    evaluation(folder, "unknown/full_96.npz", misses(40, 5), protocol="full")
    evaluation(folder, "stale/center_96.npz", misses(40, 5))
    evaluation(folder, "evaluation-last/full_128.npz", misses(30, 5), protocol="full", size="128")
    evaluation(folder, "evaluation-last-2/center_64.npz", misses(40, 5), size="64", prefix="train")
    run = read_run(folder)
    assert set(run.errors) == {CENTER}
    text = "\n".join(run.notes)
    assert "unknown/ is not used" in text
    assert "stale/ is not used" in text
    assert "evaluation-last/full_128.npz is about other images" in text
    assert "evaluation-last-2/center_64.npz is about other images" in text
    assert "evaluation-best" not in text


def test_answers_that_do_not_fit_the_metrics_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", right=misses(40, 1, 2))
    save_answers(folder / "predictions" / "val_96.npz", misses(40, 1, 2, 3))
    run = read_run(folder)
    assert run.answers == {}
    assert run.notes == ["predictions/val_96.npz does not fit the last row of metrics.csv and is left out"]


def test_files_that_hold_no_predictions(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", features=np.zeros(3))
    with pytest.raises(DataError, match=r"other.npz: has no path, so it holds no predictions"):
        read_answers(tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:100])
    with pytest.raises(DataError, match=r"cut.npz: cannot be read \(it is damaged"):
        read_answers(tmp_path / "cut.npz")
    with pytest.raises(DataError, match=r"gone.npz: cannot be read \(No such file"):
        read_answers(tmp_path / "gone.npz")
    save_answers(tmp_path / "uneven.npz", misses(4))
    with np.load(tmp_path / "uneven.npz") as file:
        arrays = {**file, "label": np.zeros(3, dtype=np.int32)}
    np.savez(tmp_path / "uneven.npz", **arrays)
    with pytest.raises(DataError, match=r"one row for each image"):
        read_answers(tmp_path / "uneven.npz")


def test_answers_line_up_whatever_order_they_were_written_in(tmp_path: Path) -> None:
    save_answers(tmp_path / "a.npz", misses(40, 3, 30))
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    order = np.random.default_rng(0).permutation(40)
    for key in ("path", "label", "top_class", "top_score"):
        arrays[key] = arrays[key][order]
    np.savez(tmp_path / "b.npz", **arrays)
    first, second = read_answers(tmp_path / "a.npz"), read_answers(tmp_path / "b.npz")
    assert first.images == second.images
    assert np.array_equal(first.hit1, second.hit1)


def test_an_address_is_told_from_a_folder() -> None:
    with pytest.raises(
        ConfigError, match="^s3://bucket/runs: is a URL; runs are read from folders, such as a mounted"
    ):
        find_runs(["s3://bucket/runs"])
