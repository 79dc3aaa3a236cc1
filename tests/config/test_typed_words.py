"""Words as people type them: paths of any text, any order, other programs' names, config files of any editor."""

from __future__ import annotations

import codecs
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from forked import Loaded
from hydra import compose as hydra_compose
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sppcls
from sppcls import compose
from sppcls.config.command_line import read_command_line
from sppcls.config.compose import CONFIG_NAME, compose_unchecked, hydra_session
from sppcls.config.grammar import hydra_word
from sppcls.config.restore import restore
from sppcls.config.schema import as_dict
from sppcls.engine.callbacks.saving import resume_word
from sppcls.errors import ConfigError, SppclsError
from sppcls.sweeps.plan import plan_sweep

ROOT = Path(__file__).resolve().parents[2]

ODD = [
    "新加卷2", "photos (1)", "it's", "a=b", "#1", "a+b&c", 'a "b" c', "[a]", "{a}", "a,b", "a, b", " photos ", "C:\\photos",
    "a\\", "$5", "${x", "a}b${", "epoch=10-step=99.ckpt", "1e3", "007", "true", "x:y", "100%", "a;b|c<d>", "`ls`", "!x", "*?",
    "a'b\"c\\\"d", "é\u0301", "@here", "-x", "\ttab", "choice(a)", "interval(0,1)", "'half", "\\'",
]  # fmt: skip

# No path has a NUL; half characters cannot be written to a terminal.
TEXT = st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=12)
ODD_TEXT = st.text(st.sampled_from("\\\"'${}[](),=#~&+ :;%ab1新"), min_size=1, max_size=10)


def stands_for_itself(text: str) -> bool:
    """Whether the rules of docs/configs.md give a value no other meaning."""
    special = text.lower() in ("null", "???") or text.startswith("~") or os.path.expandvars(text) != text
    looked_up = re.search(r"\$\{.*\}", text)
    in_quotes = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return not (special or looked_up or in_quotes)


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_any_text_is_a_folder_as_it_stands(data: st.DataObject) -> None:
    any_text = (TEXT | ODD_TEXT | st.sampled_from(ODD)).filter(stands_for_itself)
    root, runs, weights, model = (data.draw(any_text) for _ in range(4))
    config = compose(["data=folder", f"data.root={root}", f"runs_dir={runs}"])
    assert (config.data.root, config.runs_dir) == (root, runs)
    # And it stays so in a run that is resumed.
    words = ["seed=1", f"backbone.weights={weights}", f"backbone.model={model}"]
    resumed = restore(as_dict(config), compose_unchecked(words), words, "last.ckpt")
    assert (resumed.data.root, resumed.backbone.weights, resumed.backbone.model) == (root, weights, model)
    assert resumed.seed == 1


@settings(max_examples=8, deadline=None)
@given(text=TEXT | ODD_TEXT | st.sampled_from(["null", "~", "$HOME", "${seed}", "'x'", '"', "a,b"]))
def test_any_text_survives_a_sweep_and_a_printed_command(text: str) -> None:
    assume(text != "???")  # OmegaConf's word for a missing value
    word = (
        f"data.root={text}" if stands_for_itself(text) and "," not in text else hydra_word("data.root", text)
    )
    for job in plan_sweep(["data=folder", "seed=0,1", word]).jobs:
        with hydra_session():  # as a launcher does, without us
            assert hydra_compose(CONFIG_NAME, overrides=job.overrides).data.root == text
    path = Path("runs") / text.replace("/", "_")
    (printed,) = shlex.split(resume_word(path))
    assert compose_unchecked([printed]).ckpt_path == str(path)


def answer(loaded: Loaded, words: list[str]) -> tuple[int | None, str]:
    """Exit status and output of a start of the real program."""
    process = loaded.start(words)
    try:
        output, _ = process.communicate()
        return process.returncode, output
    finally:
        process.close()


def test_odd_names_arrive_through_the_real_command(loaded: Loaded, tmp_path: Path) -> None:
    """Every odd name in several keys of one start, as a shell would hand it over."""
    keys = (
        "data.root",
        "data.cache_dir",
        "backbone.weights",
        "backbone.model",
        "run_name",
        "runs_dir",
        "ckpt_path",
    )
    for start in range(0, len(ODD), len(keys)):
        given = dict(zip(keys, ODD[start : start + len(keys)], strict=False))
        words = [f"{key}={value}" for key, value in given.items()]
        status, output = answer(loaded, ["-m", "sppcls", "train", "data=folder", *words, "--cfg", "job"])
        assert status == 0, output
        config = yaml.safe_load(output)
        for key, value in given.items():
            group, _, last = key.rpartition(".")
            # Hydra shows what OmegaConf would look up with its escapes.
            shown = (config[group] if group else config)[last]
            assert re.sub(r"(\\*)\\\$\{", "${", shown) == value, output


def test_a_run_with_odd_names_is_trained_and_resumed_by_the_command_it_says(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*tiny_words, "runs_dir=a, (b) it's #1", "trainer.max_epochs=1"]
    status, output = answer(loaded, ["train.py", *words])
    assert status == 0, output
    (folder,) = Path("a, (b) it's #1").glob("shapes/*")
    status, output = answer(loaded, ["train.py", *shlex.split(resume_word(folder)), "trainer.max_epochs=2"])
    assert status == 0, output
    assert len((folder / "metrics.csv").read_text().splitlines()) == 3


def test_home_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("PHOTOS", "/mnt/photos")

    def root(text: str) -> str | None:
        return compose(["data=folder", f"data.root={text}"]).data.root

    assert root("~/photos") == "/home/ann/photos"
    assert root("~") == "/home/ann"
    assert root("$PHOTOS/a") == root("${PHOTOS}/a") == root("${oc.env:PHOTOS}/a") == "/mnt/photos/a"
    assert root("'~/photos'") == "~/photos"
    assert root("$NOBODY/a") == "$NOBODY/a"
    (tmp_path / "$PHOTOS").mkdir()
    (tmp_path / "~").mkdir()
    assert root("$PHOTOS") == "$PHOTOS"
    assert root("~") == "~"
    assert compose(["data=folder", "data.root=x", "backbone.weights=NULL"]).backbone.weights is None


def test_commas_separate_values_of_a_sweep_unless_they_are_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x,y").mkdir()

    def roots(value: str) -> list[str]:
        jobs = plan_sweep(["data=folder", f"data.root={value}", "seed=0"]).jobs
        return [compose_unchecked(job.overrides).data.root for job in jobs]

    assert roots("photos (1),it's") == ["photos (1)", "it's"]
    assert roots("'a, b',c=d") == ["a, b", "c=d"]
    assert roots("x,y") == ["x,y"]
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "cells: {one: [data=folder]}\nparams: {data.root: ['a, b', it's (1)]}\n"
    )
    jobs = plan_sweep(["+sweep=mine"], str(tmp_path)).jobs
    assert [compose_unchecked(job.overrides).data.root for job in jobs] == ["a, b", "it's (1)"]


def test_words_and_options_come_in_any_order(loaded: Loaded, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "pyramid").mkdir(parents=True)
    (own / "pyramid" / "mine.yaml").write_text("levels: [5, 1]\nmode: avg\nbin_rule: adaptive\n")
    for words in (
        ["seed=3", "--config-dir", str(own), "pyramid=mine", "--cfg", "job"],
        ["--cfg=job", "seed=3", "-cd", str(own), "pyramid=mine"],
        ["seed=3", f"--config-dir={own}", "-c", "job", "--", "pyramid=mine"],
    ):
        _, output = answer(loaded, ["train.py", *words])
        config = yaml.safe_load(output)
        assert (config["pyramid"]["levels"], config["seed"]) == ([5, 1], 3), words
    _, output = answer(loaded, ["-m", "sppcls", "sizes", "seed=3", "--config-dir", str(own), "pyramid=mine"])
    assert "5 x 5" in output
    line = read_command_line(["seed=0,1", "--config-dir", "d", "pyramid=l1", "-m"])
    assert line == (["seed=0,1", "pyramid=l1"], {"--config-dir": "d", "--multirun": ""})


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ("--epochs 5", "type trainer.max_epochs=5"),
        ("--lr=0.1", "type optimizer.lr=0.1"),
        ("--batch-size 4 seed=1", "type data.batch_size=4"),
        ("--gpus 2", "type trainer.devices=2"),
        ("--resume", "type ckpt_path=auto"),
        ("--resume runs/X", "type ckpt_path=runs/X"),
        ("--resume=runs/X", "type ckpt_path=runs/X"),
        ("resume=runs/X", "type ckpt_path=runs/X"),
        ("--data photos", "data.root=photos: no such folder"),
        ("--data flowers102", "data.root: missing; data=flowers102 needs"),
        ("--data.root photos", "type data.root=photos"),
        ("--model resnet18", "type backbone=resnet18"),
        ("epochs=5", "type trainer.max_epochs=5"),
        ("data.lr=0.1", "type optimizer.lr=0.1"),
        ("num_workers=0", "type data.workers=0"),
        ("resnet18", "did you mean backbone=resnet18?"),
        ("trainer.val_every=3", "choose from 1, 2, 4, 8"),
        ("optimizer.nesterov=true optimizer.momentum=0", "such as optimizer.momentum=0.9"),
        ("ckpt_path=last", "name a run's folder; ckpt_path=auto"),
        (
            "data=folder data.root=https://x.org/a.zip",
            "https://x.org/a.zip: is a URL; data.root takes a path",
        ),
    ],
)
def test_a_mistake_says_what_to_type(
    words: str,
    typed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    from sppcls.cli.main import main

    assert main(["train", *words.split()]) == 1
    said = capsys.readouterr().err
    assert typed in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_newest_run_is_named_for_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    from sppcls.cli.main import main

    for name, time in (("old", 1_000), ("new", 2_000), ("older", 500)):
        (tmp_path / "runs" / "a" / name).mkdir(parents=True)
        (tmp_path / "runs" / "a" / name / "last.ckpt").touch()
        os.utime(tmp_path / "runs" / "a" / name / "last.ckpt", (time, time))
    assert main(["train", "ckpt_path=last"]) == 1
    assert "the newest is runs/a/new;" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["class_wobble=1", "data.labls_of=1", "data.levels_x=3", "verbose=1"])
def test_nothing_far_off_is_suggested(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([word])
    assert "unknown key" in str(caught.value)
    assert "did you mean" not in str(caught.value)


EXPERIMENT = "# @package _global_\nseed: 7\noptimizer:\n  lr: 0.5\n"


@pytest.mark.parametrize(
    "content",
    [EXPERIMENT.encode(), codecs.BOM_UTF8 + EXPERIMENT.encode(), EXPERIMENT.replace("\n", "\r\n").encode()],
    ids=["plain", "BOM", "CRLF"],
)
def test_an_experiment_of_ones_own_is_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_bytes(content)
    config = compose(["experiment=mine"], tmp_path)
    assert (config.seed, config.optimizer.lr) == (7, 0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (EXPERIMENT.encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        (b"# @package _global_\nname: caf\xe9\n", "line 2: is not in UTF-8; save the file as UTF-8"),
        (
            b"# @package _global_\noptimizer:\n\tlr: 1\n",
            "line 3: is indented by a tab; YAML takes blanks only",
        ),
        (b"# @package _global_\nseed: 1\nseed: 2\n", "line 3: found duplicate key seed"),
        (b"# @package _global_\n- seed\n", "is a list; a config has lines of the form key: value"),
        (b"# @package _global_\nseed: [1\n", "line 3: expected ',' or ']', but got '<stream end>'"),
        (b"seed: 1\n", "an experiment begins with the line # @package _global_"),
        (b"# @package\nseed: 1\n", "Expected header format: KEY VALUE, got '@package'"),
    ],
)
def test_a_file_of_ones_own_that_cannot_be_used_is_named(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        compose(["experiment=mine"], tmp_path)
    assert str(caught.value) == f"{file}: {message}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("predict CKPT https://x.org/a.jpg", "https://x.org/a.jpg: is a URL; sppcls predicts image files"),
        ("explain CKPT https://x.org/a.jpg", "https://x.org/a.jpg: is a URL; sppcls explains image files"),
        ("features CKPT s3://b/x --out f.npz", "s3://b/x: is a URL; sppcls reads folders of images"),
        ("evaluate https://x.org/a.ckpt", "https://x.org/a.ckpt: is a URL; sppcls reads checkpoint files"),
        (
            "explain CKPT folder",
            "folder: a folder; name one image in it, or count errors over all with --set folder",
        ),
        ("predict folder photo.jpg", "folder: a folder; name a checkpoint file such as folder/best.ckpt"),
        ("predict photo.jpg CKPT", "photo.jpg: is an image; CKPT comes first"),
        ("export net.onnx", "net.onnx: is an exported network; CKPT comes first"),
        ("evaluate run.zip", "run.zip: is an archive; CKPT comes first"),
        ("evaluate val_224.npz", "val_224.npz: holds predictions or features; `sppcls compare` takes"),
        ("evaluate CKPT --data photos", "data.root=photos: no such folder"),
    ],
)
def test_what_a_command_cannot_take_is_said_before_it_loads(
    words: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    from sppcls.cli.main import main

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "best.ckpt").touch()
    (tmp_path / "CKPT").touch()
    assert main(words.split()) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"sppcls: error: {message}")
    assert said.count("\n") == 1


def test_the_module_starts_and_lists_its_functions(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sppcls", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: sppcls <command>")
    assert "hydra" not in done.stderr
    assert {"train", "predict", "compose", "load_classifier", "__version__"} <= set(dir(sppcls))


def test_two_processes_are_refused_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    for words in (["trainer=ddp"], ["trainer.devices=2"]):
        config = compose([*tiny_words, *words, "trainer.accelerator=cpu"])
        with pytest.raises(SppclsError, match="cannot run in a notebook") as caught:
            sppcls.train(config)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
