"""What fuzzing has found, each as small as it can be."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison.written_runs import misses, save_answers, write_run
from inference.saved_nets import save_net

from sppcls import compose
from sppcls._util.files import read_json
from sppcls.cli.main import main
from sppcls.comparison import compare, read_answers
from sppcls.config.checks import check_config
from sppcls.config.schema import as_dict
from sppcls.errors import CheckpointError, ConfigError, DataError
from sppcls.runs.checkpoint import load_classifier
from sppcls.runs.folder import is_same_run


def test_runs_that_differ_in_only_one_key_of_the_sizes_are_named(tmp_path: Path) -> None:
    for side in (96, 72):
        write_run(tmp_path / "a" / f"r{side}", error=20, sizes__sizes=[side])
    assert [group.label for group in compare([tmp_path / "a"]).groups] == ["single_72", "single_96"]
    for kind in ("random_epoch", "random_batch"):
        write_run(tmp_path / "b" / kind, error=20, sizes__kind=kind, sizes__sizes=[72, 96])
    labels = [group.label for group in compare([tmp_path / "b"]).groups]
    assert labels == ["random_batch_72_96", "random_72_96"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("augment.scale", [[0.5], 1.0]),
        ("data.mean", [0.5, 0.5, [0.5]]),
        ("optimizer.betas", [0.9, float("nan")]),
    ],
)
def test_a_list_of_numbers_holds_numbers(key: str, value: list[Any]) -> None:
    config = as_dict(compose([]))
    group, _, name = key.partition(".")
    config[group][name] = value
    with pytest.raises(ConfigError, match=f"{key}=.*must be a list of numbers"):
        check_config(config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config-name=x"], "Cannot find primary config 'x'"),
        (["sizes=224"], "sizes=224: choose from"),
        (["--config-dir", "--cfg", "job"], "--config-dir: needs a value"),
        (["--cfg", "job", "--info"], "--cfg --info: one of them at a time"),
        (["foo=1", "--cfg", "job"], "foo: unknown key"),
        (["+a=${nope}", "--cfg", "job", "--resolve"], "Interpolation key 'nope' not found"),
    ],
)
def test_hydras_own_errors_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"sppcls: error: {message}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label", np.array(3)),
        ("path", np.zeros(12)),
        ("path", np.zeros(12, dtype="i4,f4")),
    ],
)
def test_arrays_of_other_shapes_are_no_predictions(tmp_path: Path, name: str, value: np.ndarray) -> None:
    save_answers(tmp_path / "a.npz", misses(12, 1))
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "a.npz", **{**arrays, name: value})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a.npz: path, label and top_class"):
        read_answers(tmp_path / "a.npz")


def test_an_array_whose_header_is_cut_short_is_no_prediction(tmp_path: Path) -> None:
    array = io.BytesIO()
    np.save(array, np.arange(3))
    damaged = array.getvalue().replace(b"'shape': (3,), }", b"'shape': (3,),  ")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        for name in ("path", "label", "top_class"):
            file.writestr(f"{name}.npy", damaged)
    with pytest.raises(DataError, match="a.npz: cannot be read"):
        read_answers(tmp_path / "a.npz")


def test_half_characters_and_odd_digits_in_predictions(tmp_path: Path) -> None:
    save_answers(tmp_path / "a.npz", misses(2, 1), size="²")
    with np.load(tmp_path / "a.npz") as file:
        arrays = {**file, "path": np.array(["\ud800", "b"])}
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    answers = read_answers(tmp_path / "a.npz")
    assert len(answers.images) == 64
    assert answers.measure.side == 0


def test_brackets_in_brackets_without_end(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert read_json(tmp_path / "deep.json") is None
    run = write_run(tmp_path / "runs" / "a", error=20)
    write_run(tmp_path / "runs" / "b", error=20)
    (run / "config.yaml").write_text("- " * 20_000)
    assert any("config.yaml" in problem for problem in compare([tmp_path / "runs"]).problems)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1, 2]", b"", b"data: 1\ntrainer: 2\n"])
def test_a_damaged_config_is_of_another_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    assert not is_same_run(tmp_path, compose([]))


CARDS: list[tuple[str, Any]] = [
    ("architecture", 3), ("architecture", {}), ("classes", None), ("classes", ["a"]), ("mean", "abc"), ("std", [0, 1, 1]),
    ("train_sizes", []), ("val_sizes", [[96, "x"]]), ("config", []), ("config", {"ema": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CARDS)
def test_a_card_of_another_shape_is_one_line(tmp_path: Path, name: str, value: Any) -> None:
    path = save_net(tmp_path / "net.ckpt", levels=[1], hidden=())
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["sppcls"][name] = value
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"net\.ckpt: damaged: \w+ is not as sppcls writes it"):
        load_classifier(path)


def test_weights_that_are_no_tensors_and_a_network_too_large_are_one_line(tmp_path: Path) -> None:
    path = save_net(tmp_path / "net.ckpt", levels=[1], hidden=(4,))
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "state_dict": {"net.a": 1}}, path)
    with pytest.raises(CheckpointError, match="state_dict is not a mapping"):
        load_classifier(path)
    model_info = json.loads(json.dumps(checkpoint["sppcls"]))
    model_info["architecture"]["head"]["hidden"] = [10**14]
    torch.save({**checkpoint, "sppcls": model_info}, path)
    with pytest.raises(CheckpointError, match="its network cannot be built"):
        load_classifier(path)
