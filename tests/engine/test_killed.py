"""Runs killed at chosen moments and gone on with; tests/long kills them at many more."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from killing import STATEFUL, Runs, differences
from tiny_runs import TINY

from sppcls.runs.checkpoint import DamagedError, read_checkpoint

WORDS = [*TINY, *STATEFUL, "log.save_every_minutes=0.0001", "ckpt_path=auto"]


@pytest.mark.parametrize(
    ("moments", "workers"),
    [
        ([("validation_step", 5)], 0),
        ([("training_step", 8), ("training_step", 6)], 2),
        ([("write_record", 400), ("fsync", 2)], 0),
        ([("link_or_copy", 6), ("_closing_lines", 1)], 0),
    ],
    ids=["validating", "training, twice", "in a checkpoint, twice", "between last and best, and at the end"],
)
def test_a_run_killed_ends_as_if_nothing_had_happened(
    runs: Runs, whole: Path, tmp_path: Path, moments: list[tuple[str, int]], workers: int
) -> None:
    words = [*WORDS, f"runs_dir={tmp_path}", "run_name=killed", f"data.workers={workers}"]
    for call, number in moments:
        ended = runs.start(words, {"call": call, "number": number}, loaders_too=True)
        assert ended.status == -9, ended.output
    ended = runs.start(words)
    assert ended.status == 0, ended.output
    assert differences(whole, tmp_path / "shapes" / "killed") == []


@pytest.fixture(scope="module")
def half(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``runs_dir`` of a run killed in its second epoch."""
    place = tmp_path_factory.mktemp("half")
    ended = runs.start(
        [*WORDS, f"runs_dir={place}", "run_name=half"], {"call": "training_step", "number": 19}
    )
    assert ended.status == -9, ended.output
    return place


def damaged(data: bytes) -> list[tuple[str, bytes]]:
    """The bytes of a checkpoint as failing disks and broken transfers leave them."""
    middle = len(data) // 2
    cuts = [(f"cut to {n}", data[:n]) for n in (0, 1, 3, 4, 100, middle, len(data) - 22, len(data) - 1)]
    zeros = data[:middle] + bytes(4096) + data[middle + 4096 :]
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    return [*cuts, ("4096 zeros", zeros), ("one bit", flipped), ("all zeros", bytes(len(data)))]


def test_damage_of_any_kind_is_noticed_and_told_in_one_line(half: Path, tmp_path: Path) -> None:
    data = (half / "shapes" / "half" / "last.ckpt").read_bytes()
    path = tmp_path / "bad.ckpt"
    for what, content in [*damaged(data), *((f"cut to {n}", data[:n]) for n in range(0, len(data), 997))]:
        path.write_bytes(content)
        with pytest.raises(DamagedError) as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value), what
        assert "\n" not in str(caught.value), what
    path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])
    torch.load(path, weights_only=True)  # torch alone would have taken a flipped bit


def test_auto_goes_on_from_the_checkpoint_before_a_damaged_one(runs: Runs, whole: Path, half: Path) -> None:
    folder = half / "shapes" / "half"
    assert {p.name for p in folder.glob("*.ckpt")} == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    previous = torch.load(folder / "previous.ckpt", weights_only=True)
    last = torch.load(folder / "last.ckpt", weights_only=True)
    assert previous["global_step"] < last["global_step"]
    (folder / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:-1000])
    named = runs.start([f"ckpt_path={folder / 'last.ckpt'}", f"runs_dir={half}"])
    assert named.status == 1
    assert named.output.count("\n") == 1
    assert "damaged, cut short" in named.output
    assert f"ckpt_path={folder} resumes from the one before it" in named.output
    words = [*WORDS, f"runs_dir={half}", "run_name=half"]
    ended = runs.start([f"ckpt_path={folder}", f"runs_dir={half}"])
    assert ended.status == 0, ended.output
    assert "damaged, cut short" in ended.output
    assert "resuming from previous.ckpt, written in epoch 1" in ended.output
    assert differences(whole, folder) == []
    # Of a finished run only the best is left; what came after it is trained again.
    (folder / "last.ckpt").unlink()
    (folder / "last.ckpt").write_bytes(b"")
    ended = runs.start(words)
    assert ended.status == 0, ended.output
    assert "resuming from best.ckpt" in ended.output
    assert differences(whole, folder) == []
    for path in folder.glob("*.ckpt"):
        path.unlink()
        path.write_bytes(b"")
    ended = runs.start(words)
    assert ended.status == 1
    assert f"{folder / 'last.ckpt'}: damaged, cut short or not a checkpoint" in ended.output
