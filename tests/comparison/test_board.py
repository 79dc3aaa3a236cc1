"""The TensorBoard data of a comparison, and the command that shows them."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import statistics
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
from written_runs import write_run

import sppcls
from sppcls.cli.main import main
from sppcls.comparison.board.logdir import write_board
from sppcls.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
# Never through a proxy that the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture(scope="module")
def board(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log folder of the trained runs."""
    return write_board(sppcls.compare([trained]), tmp_path_factory.mktemp("board"))


def scalars(folder: Path, tag: str) -> dict[int, float]:
    """Value by step, as TensorBoard reads it."""
    events = EventAccumulator(str(folder), {TENSORS: 0})
    events.Reload()
    if tag in events.Tags()["scalars"]:
        return {point.step: point.value for point in events.Scalars(tag)}
    return {}


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("group", "sizes"), [("single_96", "single"), ("multi_96_72", "multi")])
def test_the_mean_and_its_band_are_those_of_the_seeds_at_each_size(
    board: Path, trained: Path, group: str, sizes: str
) -> None:
    first, second = (rows(trained / f"{sizes}-seed{seed}") for seed in (0, 1))
    for tag, column in (("val_96/top1_error", "val_96/top1_error"), ("val_72/loss", "val_72/loss")):
        pairs = [(float(a[column]), float(b[column])) for a, b in zip(first, second, strict=True)]
        mean = dict(enumerate(map(statistics.fmean, pairs)))
        std = dict(enumerate(map(statistics.stdev, pairs)))
        assert scalars(board / "mean" / group, tag) == pytest.approx(mean)
        assert scalars(board / "mean" / group, column) == pytest.approx(mean)
        lower, upper = (scalars(board / "mean" / group, f"seeds_{tag}_{end}") for end in ("lower", "upper"))
        assert lower == pytest.approx({epoch: mean[epoch] - std[epoch] for epoch in mean})
        assert upper == pytest.approx({epoch: mean[epoch] + std[epoch] for epoch in mean})


@pytest.mark.parametrize(("group", "sizes"), [("single_96", "single"), ("multi_96_72", "multi")])
def test_behind_the_answer_is_a_bar_of_one_standard_deviation_for_each_group(
    board: Path, trained: Path, group: str, sizes: str
) -> None:
    pair = [float(rows(trained / f"{sizes}-seed{seed}")[-1]["val_96/top1_error"]) for seed in (0, 1)]
    mean, std = statistics.fmean(pair), statistics.stdev(pair)
    events = EventAccumulator(str(board / "mean" / group), {TENSORS: 0})
    events.Reload()
    tag = "final_by_group/Are several sizes better than one? No difference shown (top-1 error, %)"
    points = events.Scalars(tag)
    assert {point.step for point in points} == {["multi_96_72", "single_96"].index(group) + 1}
    assert {round(point.value, 3) for point in points} == {round(mean + i * std, 3) for i in (-1, 0, 1)}
    assert points[-1].value == pytest.approx(mean)
    smoothed = points[0].value
    for weight, point in enumerate(points[1:], start=2):  # as TensorBoard does at its start, with 0.6
        share = 0.4 / (1 - 0.6**weight)
        smoothed = (1 - share) * smoothed + share * point.value
    assert smoothed == pytest.approx(mean, abs=0.02 * std + 1e-4)


def test_a_run_has_its_own_events_and_its_errors_by_size_against_epochs_pixels_and_seconds(
    board: Path, trained: Path
) -> None:
    run, written = board / "seed1" / "multi_96_72", rows(trained / "multi-seed1")
    errors = [float(row["val_72/top1_error"]) for row in written]
    assert scalars(run, "val_72/top1_error") == pytest.approx(dict(enumerate(errors)))
    pixels = [48 * 96 * 96, 48 * 96 * 96 + 48 * 72 * 72]  # one epoch at each size
    assert scalars(run, "val_72_by_pixels/top1_error") == pytest.approx(
        dict(zip(pixels, errors, strict=True))
    )
    assert (
        scalars(run, "val_72_by_seconds/top1_error")[round(float(written[-1]["train_seconds"]))] == errors[-1]
    )
    assert scalars(run, "final/val_72/top1_error") == pytest.approx({1: errors[-1]})
    assert scalars(run, "step/loss")  # of the training itself


def test_writing_again_gives_the_same_and_leaves_the_runs_alone(trained: Path, tmp_path: Path) -> None:
    events = sorted(trained.glob("*/events*"))
    before = [path.read_bytes() for path in events]
    names = []
    for _ in range(2):
        write_board(sppcls.compare([trained]), tmp_path)
        names.append(sorted(str(path) for path in tmp_path.rglob("*")))
    assert names[0] == names[1]
    assert [path.read_bytes() for path in events] == before
    assert sorted(trained.glob("*/events*")) == events


def test_beside_the_runs_are_the_answers_and_the_means_and_a_later_report_replaces_them(
    tmp_path: Path,
) -> None:
    for seed, error in ((0, 30.0), (1, 50.0)):
        write_run(tmp_path / "runs" / f"one{seed}", error=error, seed=seed)
        write_run(tmp_path / "runs" / f"two{seed}", error=error + 4 * seed, seed=seed, sizes__sizes=[96, 72])
    for _ in range(2):
        assert main(["compare", str(tmp_path / "runs")]) == 0
        out = tmp_path / "runs" / "comparison"
        events = EventAccumulator(str(out), {TENSORS: 0})
        events.Reload()
        assert "comparison/1_answer" in events.Tags()["tensors"]
        assert any("better" in tag for tag in events.Tags()["images"])
        folders = list((out / "mean").iterdir())
        means = {folder.name: scalars(folder, "val_96/top1_error") for folder in folders}
        assert len(means) == 2
        assert sorted(curve[1] for curve in means.values()) == pytest.approx([40.0, 42.0])
        # The next comparison meets the report of this one, with the runs of TensorBoard in it.
        (out / "mean" / "of an earlier report").mkdir()
    assert not (tmp_path / "runs" / "seed0").exists()


def test_any_label_becomes_a_folder_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / "runs" / name, error=30.0, data__root=f"photos/{'x' * 300}/{name}")
    board = write_board(sppcls.compare([tmp_path / "runs"]), tmp_path / "board")
    for place in ("mean", "seed0"):
        found = list((board / place).iterdir())
        assert len(found) == 2
        for folder in found:
            assert scalars(folder, "val_96/top1_error") == pytest.approx({0: 40.0, 1: 30.0})


def test_a_folder_with_something_else_is_left_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "runs").mkdir()
    with pytest.raises(ConfigError, match="holds something else"):
        write_board(sppcls.compare([trained]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "runs"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_a_port_that_was_asked_for_and_is_taken_is_one_line(
    trained: Path, taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--port {taken}: is taken" in one_line(capsys, ["board", str(trained), "--port", str(taken)])


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_what_is_no_port_is_one_line(trained: Path, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{port}: must be" in one_line(capsys, ["board", str(trained), "--port", port])


def test_folders_without_runs_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, other, file = tmp_path / "empty", tmp_path / "other", tmp_path / "file"
    empty.mkdir()
    (other / "photos").mkdir(parents=True)
    (other / "photos" / "a.txt").write_text("no run")
    file.write_text("")
    for path, reason in (
        (empty, "is empty"),
        (other, "no run that can be compared"),
        (file, "a file; name run folders"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        err = one_line(capsys, ["board", str(path)])
        assert str(path) in err
        assert reason in err


def test_an_unreadable_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")
    assert f"{locked}: cannot be read (Permission denied)" in one_line(capsys, ["board", str(locked)])


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "File name too long" in one_line(capsys, ["board", str(tmp_path / ("x" * 300))])


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_next_free_port_is_taken_and_said_and_nothing_is_left_at_the_end(
    trained: Path, tmp_path: Path, end: signal.Signals
) -> None:
    with socket.socket() as holder, contextlib.ExitStack() as stop:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # taken already
            holder.bind(("127.0.0.1", 6006))
            holder.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "sppcls.cli.main", "board", str(trained)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As in a terminal, however the tests were started.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        stop.callback(process.kill)  # whatever fails below
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C ends it" in line:
                break
        said = "".join(lines)
        assert "Port 6006 is taken; using " in said, said
        port = int(said.split("using ")[1].split(".")[0])
        with DIRECT.open(f"http://127.0.0.1:{port}/data/runs", timeout=60) as answer:
            assert b'"mean/multi_96_72"' in answer.read()
        assert list(tmp_path.glob("sppcls-*"))
        process.send_signal(end)
        rest = process.communicate(timeout=30)[0]
    assert process.returncode == 0, rest
    assert "TensorBoard has ended" in rest
    assert not list(tmp_path.glob("sppcls-*"))
    with pytest.raises(urllib.error.URLError):
        DIRECT.open(f"http://127.0.0.1:{port}/", timeout=5)
