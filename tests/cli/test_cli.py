"""The command line as a user meets it: real processes, their output and exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from forked import Loaded

from sppcls import compose
from sppcls._version import __version__
from sppcls.cli.main import main
from sppcls.cli.train_help import train_help
from sppcls.config.compose import group_choices
from sppcls.config.schema import as_dict
from sppcls.engine.plan import plan

ROOT = Path(__file__).resolve().parents[2]


def sppcls(*words: str, cwd: Path, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sppcls.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_help_begins_with_what_is_used_most_and_fits_two_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = train_help()
    keys, groups = text.index("the keys used most"), text.index("config groups (the default")
    assert text[keys:groups].count("=") >= 10
    assert "    optimizer.lr=" in text[keys:groups]
    assert len(text.splitlines()) <= 130
    for group, choices in group_choices().items():
        for choice in choices if group != "experiment" and len(choices) > 1 else []:
            section = re.split(r"\n\n", text[text.index(f"\n  {group}=") + 1 :])[0]
            # The name, perhaps others of the same meaning, and the meaning, on the next line if the names are long.
            row = rf"^    (?:\S+,\s+)*{re.escape(choice)}\*?(?:,\s+\S+)*\s+(\S.{{2}})"
            assert re.search(row, section, re.M), f"{group}={choice} has a line of meaning"


def test_help_all_lists_every_group_choice_and_key(tmp_path: Path) -> None:
    done = sppcls("train", "--help", "all", cwd=tmp_path)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 120
    for group, choices in group_choices().items():
        for choice in choices:
            assert re.search(rf"\b{re.escape(choice)}\b", done.stdout), f"{group}={choice}"
    for group, keys in as_dict(compose([])).items():
        for key in keys if isinstance(keys, dict) and group not in ("callbacks", "logger") else []:
            assert f"{group}.{key}=" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"]])
def test_without_a_command(words: list[str], tmp_path: Path) -> None:
    done = sppcls(*words, cwd=tmp_path)
    assert done.returncode == (0 if words else 1)
    assert "sppcls" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["train", "--version"],
        ["train", "seed=1", "--version", "-m"],
        ["sizes", "--version"],
        ["predict", "--version"],
    ],
)
def test_every_command_has_the_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert capsys.readouterr() == (f"sppcls {__version__}\n", "")


@pytest.mark.parametrize("words", [["train.py"], ["-m", "sppcls"], ["-m", "sppcls", "train"]])
def test_the_programs_have_the_same_version(loaded: Loaded, words: list[str], tmp_path: Path) -> None:
    process = loaded.start([*words, "--version"])
    try:
        output, _ = process.communicate()
    finally:
        process.close()
    assert (process.returncode, output) == (0, f"sppcls {__version__}\n")


def assert_one_line(status: int, errors: str, message: str, folder: Path) -> None:
    assert status != 0
    assert message in errors
    assert errors.startswith("sppcls: error: ")
    assert errors.count("\n") == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fly"], "fly: unknown command; choose from train, sizes, "),
        (["evalute"], "evalute: unknown command (did you mean 'evaluate'?); choose from train, sizes, "),
        (["train", "data=folder", "data.root=nowhere"], "nowhere"),
    ],
)
def test_the_program_ends_with_one_line_and_leaves_nothing_behind(
    words: list[str], message: str, tmp_path: Path
) -> None:
    done = sppcls(*words, cwd=tmp_path)
    assert_one_line(done.returncode, done.stderr, message, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "pyramid.level=[4]"], "did you mean 'levels'?"),
        (["train", "pyramid=none"], "180x180"),
        (["train", "--epochs", "3"], "--epochs: unknown option (did you mean 'trainer.max_epochs'?)"),
        (["train", "-m", "resnet18"], "resnet18: give key=value words"),
        (["train", "ckpt_path=nothing.ckpt"], "ckpt_path=nothing.ckpt: no such checkpoint or run folder"),
        (["sizes", "backbone=zf6"], "backbone=zf6: choose from"),
        (["eval"], "eval: unknown command (did you mean 'evaluate'?)"),
        (["--halp"], "--halp: unknown option (did you mean '--help'?)"),
        (["--hepl"], "--hepl: unknown option (did you mean '--help'?)"),
        (
            ["detect", "trian"],
            "trian: unknown verb; choose from windows, train, evaluate, combine, predict, export (did you mean 'train'?)",
        ),
        (["detect", "fly"], "predict, export; see sppcls detect --help"),
        (["train", "--halp"], "--halp: unknown option (did you mean '--help'?)\n"),
        (["train", "--multrun"], "--multrun: unknown option (did you mean '--multirun'?)\n"),
        (["train", "--foo"], "--foo: unknown option; keys are set as key=value"),
        (["search", "--dat", "X"], "--dat: unknown option (did you mean '--data'?)"),
        (["predict", "--treshold", ".3"], "--treshold: unknown option (did you mean '--threshold'?)"),
        (
            ["sizes", "--epochs", "3"],
            "--epochs: unknown option (did you mean 'trainer.max_epochs'?); type trainer.max_epochs=3",
        ),
        (["sizes", "--conifg-dir", "X"], "--conifg-dir: unknown option (did you mean '--config-dir'?)"),
        (
            ["sizes", "resnet18"],
            "resnet18: give key=value words, such as trainer.max_epochs=3; did you mean backbone=resnet18?",
        ),
        (
            ["evaluate", "x.ckpt", "--split", "tets"],
            "--split tets: choose from val, test, train, all (did you mean 'test'?)",
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status = main(words)
    assert_one_line(status, capsys.readouterr().err, message, tmp_path)


def test_the_plan_shows_what_a_hand_count_gives() -> None:
    text = plan(
        compose(["data.num_train=100", "data.batch_size=32", "trainer.max_epochs=3", "scheduler=constant"])
    )
    rows = [line.split() for line in text.splitlines()[2:5]]
    # ceil(100 / 32) = 4 steps of 25 images; 224 and 180 in turn.
    assert rows == [
        ["1", "224", "25", "4", "100", "0.01"],
        ["2", "180", "25", "4", "100", "0.01"],
        ["3", "224", "25", "4", "100", "0.01"],
    ]
    # 13 cells in 6 bins: every bin 3 cells; 10 cells in 6 bins: 2 or 3.
    assert re.search(r"224 +13 x 13 +6 x 6 +36 +3 x 3 +100 %", text)
    assert re.search(r"180 +10 x 10 +6 x 6 +36 +2-3 x 2-3 +100 %", text)


def test_the_plan_of_sliding_bins_shows_what_they_leave_out() -> None:
    # Map 10, 6 bins: windows of 2 at stride 1, so 7 of 10 cells of an axis: 49 of 100.
    text = plan(compose(["pyramid.bin_rule=sliding", "data.num_train=40"]))
    assert re.search(r"180 +10 x 10 +6 x 6 +36 +2 x 2 +49 %", text)


@pytest.mark.parametrize("words", [["--help"], ["data.batch_sise=4"], ["trainer.max_epochs=0"]])
def test_help_and_wrong_words_are_answered_without_loading_torch(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from sppcls.cli.main import main; status = main(['train', *sys.argv[1:]]);"
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == (0 if words == ["--help"] else 1)
    assert done.stderr.splitlines()[-1] == "False", done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["predict", "nothing.ckpt", "photo.jpg"], "nothing.ckpt: no such checkpoint"),
        (["evaluate", "runs"], "runs: a folder without best.ckpt or last.ckpt; name such a file"),
        (["predict", "some.ckpt", "nothing.jpg"], "nothing.jpg: no such file or folder"),
        (["features", "some.ckpt", "nowhere", "--out", "x.npz"], "nowhere: no such file or folder"),
        (["transfer", "some.ckpt", "--data", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_before_torch_is_loaded(
    tmp_path: Path, words: list[str], line: str
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "some.ckpt").touch()
    program = (
        "import sys; from sppcls.cli.main import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert line in done.stderr
    assert done.stdout == "False\n"
