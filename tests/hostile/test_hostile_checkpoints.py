"""Whole files of other programs: a real checkpoint with one part of it changed is one line that names file and part."""

from __future__ import annotations

import operator
import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import TINY

from sppcls import compose, train
from sppcls.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run, whose averaged weights are kept too."""
    place = tmp_path_factory.mktemp("run")
    words = [*TINY, "trainer.max_epochs=1", "ema.enabled=true", f"runs_dir={place}", "run_name=run"]
    return Path(train(compose(words))["folder"])


GONE = object()


def changed(run: Path, path: Path, where: str, value: Any) -> Path:
    """A copy of the run's folder, and in it a ``last.ckpt`` with another value at a place such as ``loops/fit_loop``."""
    checkpoint = torch.load(run / "last.ckpt", weights_only=True)
    *inner, last = [int(part) if part.isdecimal() else part for part in where.split("/")]
    holder = reduce(operator.getitem, inner, checkpoint)
    if value is GONE:
        del holder[last]
    else:
        holder[last] = value(holder[last]) if callable(value) else value
    path.mkdir(exist_ok=True)
    (path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    torch.save(checkpoint, path / "last.ckpt")
    return path / "last.ckpt"


def within_itself(_: object) -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def one_group(state: list[Any]) -> list[Any]:
    groups = state[0]["param_groups"]
    groups[0]["params"] += groups.pop()["params"]
    return state


RESUMED: list[tuple[str, Any, str]] = [
    ("sppcls_progress", [1], "damaged: sppcls_progress is not"),
    ("sppcls_progress", GONE, "not resumed: it lacks sppcls_progress"),
    ("sppcls_progress/best", 3, "damaged: sppcls_progress is not"),
    ("sppcls_progress/best/epoch", "one", "damaged: sppcls_progress is not"),
    ("sppcls_progress/plateau", {}, "damaged: sppcls_progress is not"),
    ("sppcls_progress/val_results", {"96": 3}, "damaged: sppcls_progress is not"),
    ("sppcls_progress/train_counts", [1.0], "damaged: sppcls_progress is not"),
    ("sppcls_progress/bad_images", 7, "damaged: sppcls_progress is not"),
    ("sppcls_progress/images_seen", "many", "damaged: sppcls_progress is not"),
    ("sppcls_progress/epoch_length", None, "damaged: sppcls_progress is not"),
    ("epoch", "first", "damaged: epoch is not"),
    ("global_step", None, "damaged: global_step is not"),
    ("optimizer_states", GONE, "not resumed: it lacks optimizer_states"),
    ("optimizer_states", [], "damaged: optimizer_states is not"),
    ("optimizer_states/0/state/0/momentum_buffer", torch.zeros(2), "damaged: optimizer_states is not"),
    ("optimizer_states/0/state/0", {"step": torch.zeros(())}, "damaged: optimizer_states is not"),
    ("optimizer_states/0/param_groups/0/params", [3], "damaged: optimizer_states is not"),
    ("optimizer_states", one_group, "the optimizer has groups of [19] parameters there, of [7, 12]"),
    ("pytorch-lightning_version", GONE, "not resumed: it lacks pytorch-lightning_version"),
    ("pytorch-lightning_version", "newest", "damaged: its state is not"),
    ("loops", {}, "damaged: loops is not"),
    ("loops/fit_loop", {}, "damaged: loops is not"),
    ("loops/fit_loop/epoch_loop.batch_progress", GONE, "damaged: loops is not"),
    ("loops/fit_loop/epoch_loop.val_loop.batch_progress", {}, "damaged: its state is not"),
    ("loops/fit_loop/epoch_progress/current/ready", "soon", "damaged: loops is not"),
    ("lr_schedulers", GONE, "not resumed: it lacks lr_schedulers"),
    ("callbacks", [1], "damaged: its state is not"),
    ("averaging_state", {}, "damaged: its state is not"),
    ("current_model_state", {"net.x": torch.zeros(1)}, "damaged: its state is not"),
    ("sppcls/config/ema", {}, "damaged: config.ema is not"),
    ("sppcls/config/optimizer", {}, "damaged: config.optimizer is not"),
    ("sppcls/config/optimizer/name", "adamw", "damaged: optimizer_states is not"),
    ("sppcls/architecture/backbone/width", torch.zeros(2), "damaged: architecture is not"),
]


def label(value: Any) -> str:
    """Of a case; without the address of an object, which differs between the processes of tests."""
    return getattr(value, "__name__", None) or re.sub(r"<(\w+).*", r"\1", str(value))[:40]


@pytest.mark.parametrize(("where", "value", "reason"), RESUMED, ids=label)
def test_what_a_run_cannot_go_on_from_is_one_line(
    where: str, value: Any, reason: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(run, tmp_path / "odd", where, value)
    config = path.with_name("config.yaml").read_bytes()
    capsys.readouterr()
    assert main(["train", f"ckpt_path={path}", "trainer.max_epochs=2"]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"sppcls: error: {path}: ")
    assert "\n" not in error
    assert reason in error
    assert path.with_name("config.yaml").read_bytes() == config


USED: list[tuple[str, Any]] = [
    ("seed", torch.zeros(2)),
    ("seed", {1, 2}),
    ("data/root", within_itself),
    ("trainer", [1]),
    ("evaluation", [1]),
    ("evaluation", None),
    ("data", "here"),
]


@pytest.mark.parametrize(("where", "value"), USED, ids=label)
@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_a_config_that_is_none_is_one_line(
    command: str, where: str, value: Any, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(run, tmp_path / "odd", f"sppcls/config/{where}", value)
    capsys.readouterr()
    assert main([command, str(path) if command == "evaluate" else f"ckpt_path={path}"]) == 1
    error = capsys.readouterr().err.strip()
    assert error == f"sppcls: error: {path}: damaged: config is not as sppcls writes it"


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        ("evaluation/protocols", 5, "evaluation.protocols"),
        ("trainer/max_epochs", "many", "trainer.max_epochs"),
    ],
)
def test_an_impossible_value_in_a_config_is_one_line(
    where: str, value: Any, reason: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(run, tmp_path / "odd", f"sppcls/config/{where}", value)
    capsys.readouterr()
    assert main(["evaluate", str(path)]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("sppcls: error: ")
    assert "\n" not in error
    assert reason in error


def test_the_checkpoint_as_it_is_goes_on(run: Path, tmp_path: Path) -> None:
    path = changed(run, tmp_path / "same", "epoch", lambda epoch: epoch)
    assert main(["train", f"ckpt_path={path}", "trainer.max_epochs=2"]) == 0
