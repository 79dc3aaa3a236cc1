"""What is refused before torch is loaded, and ``--data``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sppcls.cli.main import main
from sppcls.config.data_word import with_data_words
from sppcls.errors import ConfigError

RUN = """
import sys
from sppcls.cli.main import main
status = main(sys.argv[1:])
print("torch" in sys.modules)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "--data", "{0}/nowhere"], "data.root={0}/nowhere: no such folder"),
        (["train", "data=folder", "data.root={0}/last.ckpt"], "data.root={0}/last.ckpt: is a file, a folder"),
        (
            ["train", "evaluation.protocols=[center,ten_vew]"],
            "protocol ten_vew: no such protocol (did you mean 'ten_view'?)",
        ),
        (["train", "ckpt_path={0}"], "{0}: no run's folder; name one, or a checkpoint"),
        (
            ["evaluate", "{0}/last.ckpt", "--protocol", "full+xyz"],
            "protocol xyz: no such protocol; choose from",
        ),
        (["evaluate", "{0}/last.ckpt", "--data", "{0}/nowhere"], "data.root={0}/nowhere: no such folder"),
        (["evaluate", "{0}/last.ckpt", "--data", "data.root={0}/no"], "data.root={0}/no: no such folder"),
    ],
)
def test_slips_are_told_before_torch_is_loaded(tmp_path: Path, words: list[str], line: str) -> None:
    place = tmp_path / "a" if "ckpt_path={0}" in words else tmp_path
    place.mkdir(exist_ok=True)
    (tmp_path / "last.ckpt").write_bytes(b"x")
    told = subprocess.run(
        [sys.executable, "-c", RUN, *(word.format(place) for word in words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert told.returncode == 1
    assert told.stdout == "False\n"
    assert told.stderr.startswith(f"sppcls: error: {line.format(place)}")
    assert told.stderr.count("\n") == 1


def test_data_is_a_folder_a_choice_or_words_of_its_own() -> None:
    for words, written_out in (
        (["--data", "PHOTOS", "seed=1"], ["data=folder", "data.root=PHOTOS", "seed=1"]),
        (["-m", "--data=my photos", "seed=1"], ["-m", "data=folder", 'data.root="my photos"', "seed=1"]),
        (["--data", "shapes"], ["data=shapes"]),
        (["--data", "./shapes"], ["data=folder", "data.root=./shapes"]),
        (["--data", "data.root=x"], ["data.root=x"]),
        (["seed=1", "--", "--data"], ["seed=1", "--", "--data"]),
    ):
        assert with_data_words(words, ["shapes"]) == written_out
    for words in (["--data"], ["--data", "--cfg"], ["--data="]):
        with pytest.raises(ConfigError, match=r"^--data: name a folder of photos"):
            with_data_words(words, ["shapes"])


@pytest.mark.parametrize("command", ["train", "sizes", "search"])
def test_each_command_takes_it(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = {"train": [], "sizes": [], "search": ["n_trials=1", "optimizer.lr=0.1,0.2"]}[command]
    assert main([command, "--data", str(tmp_path / "photos"), *more]) == 1
    assert f"data.root={tmp_path}/photos: no such folder" in capsys.readouterr().err
