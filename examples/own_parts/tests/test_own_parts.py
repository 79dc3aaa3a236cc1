"""The parts of this package train, stop, resume, load, predict, sweep, compare and export."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import sppcls
from sppcls.cli.main import main

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf"


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PACKAGE)
    monkeypatch.setenv("SPPCLS_PLUGINS", "")


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty plain photos of two kinds, in a CSV file."""
    folder = tmp_path_factory.mktemp("photos")
    colours = {"red": (200, 40, 40), "blue": (40, 40, 200)}
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "kind"])
        for number in range(40):
            kind = ("red", "blue")[number // 2 % 2]
            shade = tuple(min(255, value + number) for value in colours[kind])
            Image.new("RGB", (100 + number, 110), shade).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", kind])
    return folder / "table.csv"


def words(table: Path, runs: Path, *more: str) -> list[str]:
    return ["plugins=[own_parts]", "experiment=own", f"data.table={table}", f"runs_dir={runs}", "data.workers=0",
            "optimizer.lr=0.02", "log.images=false", "log.progress=lines", "trainer.max_epochs=3", *more]  # fmt: skip


def train(table: Path, runs: Path, *more: str) -> dict[str, Any]:
    return sppcls.train(sppcls.compose(words(table, runs, *more), CONF))


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        patch.setenv("SPPCLS_PLUGINS", "")
        yield train(table, tmp_path_factory.mktemp("runs"), "callbacks.good_enough.error=-1")


def test_it_trains_at_its_sizes_and_logs_to_its_logger(run: dict[str, Any]) -> None:
    assert run["epochs"] == 3
    assert {name.partition("/")[0] for name in run["last"]} == {"val_96", "val_64", "val_80"}
    folder = Path(run["folder"])
    rows = list(csv.DictReader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["size"] for row in rows] == ["64", "80", "96"]
    lines = [*map(json.loads, (folder / "figures.jsonl").read_text(encoding="utf-8").splitlines())]
    assert lines[0]["hyperparameters"]["backbone"] == "small_convnext"
    logged = [line["val_96/top1_error"] for line in lines if "val_96/top1_error" in line]
    assert logged == pytest.approx([float(row["val_96/top1_error"]) for row in rows])
    # Two steps an epoch, restarts every two epochs: the last step of each epoch is step 1, 3 and 5 of periods of 4.
    rates = [0.01 * (1 + math.cos(math.pi * done / 4)) for done in (1, 3, 1)]
    assert [float(row["lr"]) for row in rows] == pytest.approx(rates, rel=1e-5)


def test_the_power_is_learned_and_comes_back(run: dict[str, Any]) -> None:
    net = sppcls.load_classifier(run["last_checkpoint"], plugins=["own_parts"])
    assert net.pool.p.item() != 3.0
    map_ = net.forward_features(torch.rand(1, 3, 70, 130))
    p = net.pool.p.item()
    whole = map_.clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p)
    torch.testing.assert_close(net.forward_pool(map_)[:, -map_.shape[1] :], whole)


def test_stopped_and_resumed_it_ends_with_the_same_weights(
    run: dict[str, Any], table: Path, tmp_path: Path
) -> None:
    kept = ["callbacks.good_enough.error=-1"]
    first = train(table, tmp_path, *kept, "trainer.max_epochs=1")
    resumed = [*words(table, tmp_path, *kept), f"ckpt_path={first['last_checkpoint']}"]
    second = sppcls.train(sppcls.compose(resumed, CONF))
    whole, parts = (
        torch.load(outcome["last_checkpoint"], weights_only=True)["state_dict"] for outcome in (run, second)
    )
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_its_callback_ends_the_training_and_the_run_is_finished(table: Path, tmp_path: Path) -> None:
    outcome = train(table, tmp_path, "callbacks.good_enough.error=100")
    assert outcome["epochs"] == 1
    result = json.loads((Path(outcome["folder"]) / "result.json").read_text(encoding="utf-8"))
    assert result["stopped"] is True
    again = sppcls.train(
        sppcls.compose([*words(table, tmp_path, "callbacks.good_enough.error=100"), "ckpt_path=auto"], CONF)
    )
    assert (again["epochs"], again["folder"]) == (1, str(Path(outcome["folder"]).resolve()))


def test_the_loss_is_the_focal_loss() -> None:
    from own_parts.losses import focal

    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(
        focal(logits, target, gamma=0), F.cross_entropy(logits, target, reduction="none")
    )
    p = logits.softmax(1)[range(8), target]
    torch.testing.assert_close(focal(logits, target), -((1 - p) ** 2) * p.log())


def test_commands_take_it(
    run: dict[str, Any], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, photo = run["last_checkpoint"], str(table.parent / "0.png")
    assert main(["predict", checkpoint, photo, "--plugins", "own_parts"]) == 0
    assert "red" in capsys.readouterr().out
    assert (
        main(
            [
                "export",
                checkpoint,
                "--plugins",
                "own_parts",
                "--out",
                str(tmp_path / "net.pt2"),
                "--format",
                "torch",
            ]
        )
        == 0
    )


def test_it_is_swept_and_compared(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")]))
    sweep = [w for w in words(table, tmp_path, "trainer.max_epochs=1") if w != "plugins=[own_parts]"]
    argv = [
        "train",
        "-m",
        "--config-dir",
        str(CONF),
        "plugins=[own_parts]",
        *sweep,
        "backbone.activation=relu,gelu",
        "name=both",
    ]
    assert main(argv) == 0
    printed = capfd.readouterr().out
    assert "activation_relu" in printed
    (answer,) = [line for line in printed.splitlines() if line.startswith("backbone, val_96/top1_error:")]
    assert "activation=gelu" in answer
    assert "activation=relu" in answer


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("backbone.activation=tanh", "backbone.activation=tanh: choose from gelu, relu"),
        ("backbone.width=wide", "backbone.width=wide: must be a whole number"),
        (
            "backbone.wdth=3",
            "backbone.wdth: unknown key (did you mean 'width'?); known: name, _target_, weights, width, depth, activation",
        ),
        ("pyramid.p=x", "pyramid.p=x: must be a number"),
        (
            "callbacks.good_enough.eror=3",
            "callbacks.good_enough.eror: unknown key (did you mean 'error'?); known: _target_, error",
        ),
    ],
)
def test_a_wrong_parameter_is_one_line(word: str, line: str, table: Path, tmp_path: Path) -> None:
    with pytest.raises(sppcls.errors.ConfigError) as caught:
        sppcls.compose(words(table, tmp_path, word), CONF)
    assert str(caught.value) == line
