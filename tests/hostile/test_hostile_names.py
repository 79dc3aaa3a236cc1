"""Names made to do harm (classes, images, runs, sweeps, results): nothing is run, outputs stay where they belong,
and no control character reaches a terminal."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import TINY

from sppcls import compose
from sppcls.cli.main import main
from sppcls.config.grammar import hydra_word
from sppcls.config.schema import as_dict
from sppcls.errors import ConfigError
from sppcls.runs.folder import base_folder
from sppcls.sweeps.plan import plan_sweep

CLASSES = [
    "-rf",
    "a\nb",
    "k=v,w",
    "100%s",
    "日本",
    "\x1b[31mred\x07",
    "$(touch ran)",
    "`touch ran`;x",
    "$\\frac$",
    "\u202eltr",
]

# What a shell, a path, Hydra, or OmegaConf might take for something else than a name.
NAMES = [
    "../../out",
    "/abs/olute",
    "..",
    "-rf",
    "$(touch ran)",
    "`touch ran`",
    "a;touch ran",
    "a\ntouch ran",
    "a|b&c",
    "\x1b[31m",
    "~/x",
]


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """Both streams, after a look for characters that a terminal would obey."""
    out, err = capsys.readouterr()
    assert [c for c in out + err if not c.isprintable() and c != "\n"] == []
    return out + err


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with photos of those classes and a network trained on them; what training printed."""
    root = tmp_path_factory.mktemp("hostile")
    for number, name in enumerate(CLASSES):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(5):
            colour = (20 * number, 50 * i, 100)
            Image.new("RGB", (120, 100), colour).save(root / "photos" / name / f"{i}\x1b[2J.png")
    # Shapes at the end of what there is, in training and in validation.
    for name, size in (("wide", (20_000, 1)), ("high", (1, 20_000))):
        for i in range(5):
            Image.new("RGB", size, (i, i, i)).save(root / "photos" / CLASSES[4] / f"{name}{i}.png")
    words = [word for word in TINY if not word.startswith(("data.num", "log.images"))]
    words += ["data=folder", f"data.root={root / 'photos'}", "data.batch_size=10", "trainer.max_epochs=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        status, out, err = captured([*("train", *words), "name='$(touch ran)'", "run_name='../../x;y'"])
    assert (status, err) == (0, "")
    return root, out


def captured(words: list[str]) -> tuple[int, str, str]:
    import contextlib
    import io

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def checkpoint(run: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(run[0])
    return str(next(Path("runs").rglob("last.ckpt")))


def test_training_stays_in_its_folder_and_prints_names_as_text(run: tuple[Path, str]) -> None:
    root, out = run
    assert sorted(path.name for path in root.iterdir()) == ["photos", "runs"]
    (folder,) = (path.parent for path in root.rglob("last.ckpt"))
    assert folder.relative_to(root) == Path("runs/_touch_ran_/_.._x_y")
    assert r"a\nb" in out
    for text in (out, (folder / "train.log").read_text()):
        assert [c for c in text if not c.isprintable() and c != "\n"] == []
    model_info = torch.load(folder / "last.ckpt", weights_only=True)["sppcls"]
    assert model_info["classes"] == sorted(CLASSES)


def test_predict_takes_the_names_and_the_shapes(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["predict", checkpoint, "photos", "--workers", "0", "--top", "1"]
    assert main(words) == 1  # the lines of pixels would not fit into a map, and are named
    assert printed(capsys).splitlines()[-1] == "sppcls: 10 of 60 images could not be classified"
    assert main([*words, "--format", "json", "--out", "out.json"]) == 1
    printed(capsys)
    answers = json.loads(Path("out.json").read_text())
    os.remove("out.json")
    assert sum("too elongated" in (answer["error"] or "") for answer in answers) == 10
    assert {Path(answer["path"]).parent.name for answer in answers} == set(CLASSES)
    assert main([*words, "--format", "csv", "--out", "$(touch ran).csv"]) == 1
    with open("$(touch ran).csv", newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 61
    os.remove("$(touch ran).csv")
    assert not Path("ran").exists()


def test_evaluate_features_and_compare_take_them_too(
    checkpoint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "`touch ran`"
    assert main(["evaluate", checkpoint, "--protocol", "full", "--workers", "0", "--out", str(out)]) == 1
    assert "is too elongated" in printed(capsys)
    (answers,) = out.glob("*.npz")
    assert main(["compare", str(answers), str(answers)]) == 0
    printed(capsys)
    features = tmp_path / "$HOME.npz"
    assert (
        main(["features", checkpoint, "photos", "--layer", "spp", "--workers", "0", "--out", str(features)])
        == 1
    )
    printed(capsys)
    assert len(np.load(features)["features"]) == 50
    assert not Path("ran").exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("photo", ["wide0.png", "high0.png"])
def test_explain_refuses_a_line_of_pixels(
    photo: str, checkpoint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "-rf.png"
    assert main(["explain", checkpoint, f"photos/{CLASSES[4]}/{photo}", "--out", str(out)]) == 1
    text = printed(capsys)
    assert "409600" in text
    assert text.count("\n") == 1
    assert not out.exists()


def test_explain_writes_odd_names_as_text(
    checkpoint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "-rf.png"
    assert main(["explain", checkpoint, f"photos/{CLASSES[5]}/0\x1b[2J.png", "--out", str(out)]) == 0
    assert r"0\x1b[2J.png" in printed(capsys)
    assert out.is_file()


def test_an_error_shows_a_name_as_text(
    checkpoint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words in (
        ["predict", checkpoint, "\x1b[2J\nnowhere.png"],
        ["evaluate", "\x1b[2J.ckpt"],
        ["sizes", "data=folder", hydra_word("data.root", tmp_path / "\x1b[2J")],
        ["\x1b[2J"],
    ):
        assert main(words) != 0
        text = printed(capsys)
        assert text.startswith("sppcls: error: ")
        assert text.count("\n") == 1
        assert r"\x1b[2J" in text


@pytest.mark.parametrize("name", NAMES)
def test_a_run_stays_below_its_folder_whatever_its_name(name: str) -> None:
    for key in ("name", "run_name"):
        folder = base_folder(compose([f"{key}={_quoted(name)}", "runs_dir=RUNS"]))
        assert folder.parts[0] == "RUNS"
        assert len(folder.parts) == 3
        assert ".." not in folder.parts
        assert set("$`;|&~\n\x1b/ ") & set("".join(folder.parts)) == set()
    plan = plan_sweep([f"name={_quoted(name)}", "seed=0,1"])
    assert plan.name == Path(plan.name).name
    assert plan.name not in ("", ".", "..")
    assert set("$`;|&~\n\x1b ") & set(plan.name) == set()


def _quoted(text: str) -> str:
    return "'" + text + "'"


def test_a_saved_config_cannot_ask_for_the_environment(
    run: tuple[Path, str],
    checkpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A checkpoint from somewhere else must not make the program show what is in the environment here."""
    monkeypatch.setenv("SECRET", "hunter2")
    saved = torch.load(checkpoint, weights_only=True)
    saved["sppcls"]["config"]["data"]["root"] = "${oc.env:SECRET}"
    torch.save(saved, tmp_path / "foreign.ckpt")
    for words in (
        ["train", f"ckpt_path={tmp_path / 'foreign.ckpt'}"],
        ["evaluate", str(tmp_path / "foreign.ckpt")],
    ):
        assert main(words) == 1
        text = printed(capsys)
        assert "holds ${...}" in text
        assert "hunter2" not in text


def test_a_variable_in_a_word_is_looked_up_or_said_to_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one's own command line ``${oc.env:...}`` is OmegaConf's, for job numbers and the like; nothing else is run."""
    monkeypatch.setenv("JOB", "7")
    assert as_dict(compose(["run_name=job-${oc.env:JOB}"]))["run_name"] == "job-7"
    for word in ("run_name=${oc.env:NO_SUCH_VARIABLE}", "run_name=${sh:ls}", "run_name=${nowhere}"):
        with pytest.raises(ConfigError) as caught:
            compose([word])
        assert "\n" not in str(caught.value)
