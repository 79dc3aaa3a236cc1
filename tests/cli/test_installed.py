"""The wheel, unpacked into a folder of its own: nothing of the checkout is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from sppcls import load_classifier
from sppcls.config.compose import conf_dir
from sppcls.inference.predict import predict
from sppcls.nn import build_classifier
from sppcls.runs.checkpoint import make_model_info

pytest.importorskip("hatchling")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheels, installed = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(installed)
    return installed


def run_program(code: str, *words: object, path: Path, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=cwd, env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_holds_the_configs_and_the_mark_of_types(installed: Path) -> None:
    assert (installed / "sppcls" / "py.typed").is_file()
    shipped = {p.relative_to(conf_dir()) for p in conf_dir().rglob("*.yaml")}
    found = installed / "sppcls/conf"
    assert {p.relative_to(found) for p in found.rglob("*.yaml")} == shipped


def test_it_works_from_an_empty_folder_with_a_checkpoint_only(installed: Path, tmp_path: Path) -> None:
    photos, empty = tmp_path / "photos", tmp_path / "empty"
    for folder in (photos, empty):
        folder.mkdir()
    for at, colour in enumerate(("red", "lime", "black", "white")):
        Image.new("RGB", (70, 50 + 10 * at), colour).save(photos / f"{at}.png")
    architecture = {
        "backbone": {"name": "zf5", "width": 0.0625, "norm": "batch"},
        "pyramid": {"levels": [2, 1]},
        "head": {"name": "linear"},
        "num_classes": 3,
        "input_size": (56, 56),
        "init": "modern",
    }
    torch.manual_seed(1)
    net = build_classifier(**architecture)
    model_info = make_model_info(
        architecture={**architecture, "input_size": [56, 56]}, classes=["a", "b", "c"], mean=[0.5] * 3, std=[0.2] * 3,
        train_sizes=[(56, 56)], val_sizes=[(56, 56)], config={},
    )  # fmt: skip
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"sppcls": model_info, "state_dict": state}, empty / "my.ckpt")
    # Two commands in one process, as loading torch takes longer than both.
    code = """if True:
        import sys, sppcls.cli.main as program
        print(program.__file__)
        assert program.main(["sizes", "experiment=paper/zf5_single_30bins", "data=shapes"]) == 0
        print("=====")
        sys.exit(program.main(["predict", "my.ckpt", sys.argv[1], "--format", "json", "--top", "1"]))
    """
    said = run_program(code, photos, path=installed, cwd=empty)
    assert said.startswith(f"{installed}/sppcls/cli/main.py\n")
    plan, _, answers = said.partition("=====\n")
    assert "4 x 4" in plan
    expected = [p.classes[0] for p in predict(load_classifier(empty / "my.ckpt"), photos)]
    assert [row["predictions"][0]["class"] for row in json.loads(answers)] == expected
    assert [file.name for file in empty.iterdir()] == ["my.ckpt"]


def test_it_asks_for_what_pyproject_does(installed: Path, tmp_path: Path) -> None:
    """Without a checkout the requirements come from the package's metadata, which the wheel's build writes."""
    program = (
        "import json\nfrom packaging.requirements import Requirement as R\nfrom sppcls.cli.doctor import packages\n"
        "def names(lines): return sorted(R(line).name + str(R(line).specifier) for line in lines)\n"
        "p = packages._project()\n"
        "print(json.dumps([packages.__file__, names(p['dependencies']), {k: names(p['extras'][k]) for k in packages._EXTRAS}]))"
    )
    answers = [json.loads(run_program(program, path=path, cwd=tmp_path)) for path in (ROOT, installed)]
    assert answers[0][0] != answers[1][0]
    assert answers[0][1:] == answers[1][1:]
    assert len(answers[0][1]) == 12
