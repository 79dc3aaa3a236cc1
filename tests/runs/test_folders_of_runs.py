"""A folder in place of a checkpoint: what to type is named, the newest first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sppcls.cli.main import main
from sppcls.errors import CheckpointError
from sppcls.runs.checkpoint import read_checkpoint
from sppcls.runs.names import BEST, LAST, checkpoints_below, no_checkpoint, no_file


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``runs/`` with five runs, of which each is newer than the one before, and a detector."""
    monkeypatch.chdir(tmp_path)
    files = [
        "a/1/best.ckpt",
        "a/1/last.ckpt",
        "a/2/last.ckpt",
        "b/3/best.ckpt",
        "b/4/last.ckpt",
        "s/b/5/best.ckpt",
    ]
    for age, name in enumerate([*files, "detect/voc/detector.ckpt"]):
        path = Path("runs", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (age, age))
    return Path("runs")


def test_the_newest_of_each_run_come_first(runs: Path) -> None:
    named = ["s/b/5/best.ckpt", "b/4/last.ckpt", "b/3/best.ckpt", "a/2/last.ckpt", "a/1/best.ckpt"]
    assert checkpoints_below(runs) == [runs / name for name in named]
    assert checkpoints_below(runs / "a" / "1", (LAST, BEST)) == [runs / "a/1/last.ckpt"]
    assert checkpoints_below(runs / "nowhere") == []


SHOWN = "runs/s/b/5/best.ckpt (the newest), runs/b/4/last.ckpt, runs/b/3/best.ckpt and 2 more"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("predict runs photo.jpg", f"runs: a folder; name a checkpoint file such as {SHOWN}"),
        ("evaluate runs", f"runs: a folder; name a checkpoint file such as {SHOWN}"),
        ("ensemble runs/b runs/a", "runs/b: a folder; name a checkpoint file such as runs/b/4/last.ckpt (the newest), runs/b/3/best.ckpt"),
        ("export runs/a/1", "runs/a/1: a folder; name a checkpoint file such as runs/a/1/best.ckpt"),
        ("predict runs/a/1/best.ckpt . --with runs/b/3", "runs/b/3: a folder; name a checkpoint file such as runs/b/3/best.ckpt"),
        ("detect predict runs photo.jpg", "runs: a folder; name a checkpoint file such as runs/detect/voc/detector.ckpt"),
        ("detect train runs/detect --data shapes", "runs/detect: a folder without best.ckpt or last.ckpt; name such a file"),
        ("detect export photo.jpg", "photo.jpg: is an image; CKPT comes first: detector.ckpt of a run"),
        ("train ckpt_path=runs", "runs: a folder of runs; name one, such as runs/s/b/5 (the newest), runs/b/4, runs/b/3 and 2 more"),
        ("train ckpt_path=runs/detect", "runs/detect: no run's folder; name one, or a checkpoint"),
    ],
)  # fmt: skip
def test_a_command_says_what_to_type(
    words: str, line: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 1
    assert capsys.readouterr().err == f"sppcls: error: {line}\n"


def test_python_says_it_too(runs: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"runs: a folder; name a checkpoint file such as runs/s/b/5/best.ckpt"
    ):
        read_checkpoint(runs)
    assert no_file(runs / "detect") == "a folder without best.ckpt or last.ckpt; name such a file"
    assert no_checkpoint(runs / "a").startswith(
        "a folder of runs; name one, such as runs/a/2 (the newest), runs/a/1"
    )
