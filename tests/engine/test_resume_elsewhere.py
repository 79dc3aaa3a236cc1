"""A run goes on although what it began with is gone; with another number of processes it says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sppcls import compose, load_classifier, train
from sppcls.cli.main import main
from sppcls.engine.preflight import RunChecks
from sppcls.errors import CheckpointError
from sppcls.runs.checkpoint import read_checkpoint

Words = Callable[..., list[str]]


def weights_of(folder: str) -> dict[str, torch.Tensor]:
    return read_checkpoint(Path(folder) / "last.ckpt")["state_dict"]


def test_what_a_run_began_with_may_be_gone(tiny: Words, tmp_path: Path) -> None:
    begun = train(compose(tiny("run_name=first", "trainer.max_epochs=1")))
    pretrained = tmp_path / "pretrained.pt"
    shutil.copy(begun["last_checkpoint"], pretrained)
    words = tiny(f"backbone.weights={pretrained}", "scheduler=constant")
    whole = train(compose([*words, "run_name=whole", "trainer.max_epochs=2"]))
    half = train(compose([*words, "run_name=half", "trainer.max_epochs=1"]))
    pretrained.unlink()
    again = [*words, "run_name=half", "trainer.max_epochs=2"]
    RunChecks().check(compose([*again, "ckpt_path=auto"]))
    train(compose([*again, f"ckpt_path={half['folder']}"]))
    one, other = weights_of(whole["folder"]), weights_of(half["folder"])
    assert all(torch.equal(one[name], other[name]) for name in one)
    load_classifier(half["last_checkpoint"])
    with pytest.raises(Exception, match=r"pretrained\.pt': no such file"):  # a new run does need it
        train(compose([*words, "run_name=new"]))


def test_a_config_folder_may_be_gone(tiny: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own" / "pyramid"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("levels: [2, 1]\nmode: max\nbin_rule: adaptive\n")
    words = [*tiny("run_name=run", "trainer.max_epochs=1", "scheduler=constant"), "pyramid=mine"]
    words = [word for word in words if not word.startswith("pyramid.")]
    assert main(["train", *words, "--config-dir", str(own.parent)]) == 0
    shutil.rmtree(own.parent)
    folder = tmp_path / "runs" / "shapes" / "run"
    assert main(["train", f"ckpt_path={folder}", "trainer.max_epochs=2"]) == 0, capsys.readouterr().err
    assert read_checkpoint(folder / "last.ckpt")["epoch"] == 1


def test_another_number_of_processes_is_one_line_that_says_how_to_go_on(
    tiny: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tiny("run_name=run", "trainer.max_epochs=1", "scheduler=constant")
    path = train(compose(words))["last_checkpoint"]
    more = ["train", f"ckpt_path={path}", "trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=2"]
    capsys.readouterr()
    assert main(more) == 1
    error = capsys.readouterr().err
    assert error == (
        f"sppcls: error: {path}: trained by 1 process(es), this run would have 2 and other steps: "
        "add data.batch_size=8 to keep its batches, or resume with 1 "
        "(trainer.devices x trainer.num_nodes), or begin a new run with its convolutions: "
        f"backbone.weights={path}\n"
    )
    monkeypatch.setenv("RANK", "1")  # as torchrun would have started it
    assert main(more) == 1
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("RANK")
    # And what it says to type works.
    assert main(["train", *tiny("run_name=new", "trainer.max_epochs=1"), f"backbone.weights={path}"]) == 0


def test_checkpoints_of_older_versions_name_their_devices(tiny: Words, tmp_path: Path) -> None:
    path = Path(
        train(compose(tiny("run_name=run", "trainer.max_epochs=1", "scheduler=constant")))["last_checkpoint"]
    )
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["sppcls_progress"].pop("processes") == 1
    checkpoint["sppcls"]["config"]["trainer"]["devices"] = 3
    torch.save(checkpoint, path)
    words = tiny("run_name=run", "trainer.max_epochs=2", "scheduler=constant", "trainer.devices=2")
    words += ["trainer.strategy=ddp", f"ckpt_path={path}"]
    with pytest.raises(CheckpointError, match=r"trained by 3 process\(es\), this run would have 2"):
        train(compose(words))
