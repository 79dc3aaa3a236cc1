"""Files of weights as other programs write them: what is taken, what is left, what is refused."""

from __future__ import annotations

import argparse
import copy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from sppcls.nn import build_classifier
from sppcls.nn.classifier import SPPClassifier

State = dict[str, Tensor]


def build(weights: str, name: str = "resnet18") -> SPPClassifier:
    return build_classifier(
        backbone={"name": name, "weights": weights},
        pyramid={"levels": [1]},
        head={"name": "linear"},
        num_classes=3,
        input_size=(64, 64),
    )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(5)
    return models.resnet18()


def below(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def zeros(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


def same(net: SPPClassifier, model: nn.Module) -> bool:
    own, state = net.backbone.layers.state_dict(), model.state_dict()
    assert len(own) == len(state) - 2  # all but fc
    return all(torch.equal(value, state[name]) for name, value in own.items())


NESTS: dict[str, Callable[[State], dict[str, Any]]] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {
        "state_dict": s,
        "epoch": 3,
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    },
    "model": lambda s: {"model": s, "optimizer": {}, "epoch": 1},
    "model_state_dict": lambda s: {"epoch": 1, "model_state_dict": s, "loss": 0.5},
    "ema": lambda s: {"model": zeros(s), "ema": s},
    "state_dict_ema": lambda s: {"state_dict": zeros(s), "state_dict_ema": s},
    "an empty ema": lambda s: {"ema": {}, "model": s},
    "two deep": lambda s: {"model": {"state_dict": s}},
}
PREFIXES = [
    "",
    "model.",
    "net.",
    "module.",
    "_orig_mod.",
    "module.backbone.",
    "model._orig_mod.",
    "encoder.trunk.",
]


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_network_is_found_in_what_programs_write(
    nest: str, prefix: str, model: nn.Module, tmp_path: Path
) -> None:
    torch.save(NESTS[nest](below(prefix, model.state_dict())), tmp_path / "w.pt")
    net = build(str(tmp_path / "w.pt"))
    assert same(net, model)
    key = {"two deep": "state_dict", "an empty ema": "model", "bare": ""}.get(nest, nest)
    what = "120 tensors" + (f" of {key!r}" if key else "") + (f" below {prefix!r}" if prefix else "")
    assert net.backbone.weights == f"{what}; left: {prefix}fc.weight, {prefix}fc.bias"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_taken_off_and_what_has_none_is_left(
    prefix: str, model: nn.Module, tmp_path: Path
) -> None:
    state = below(prefix, model.state_dict())
    shown = prefix.replace("_orig_mod.", "")
    beside = {"criterion.weight": torch.zeros(3), "n_averaged": torch.tensor(2)} if shown else {}
    torch.save({"state_dict": {**beside, **state}, "hyper_parameters": {"lr": 0.1}}, tmp_path / "w.ckpt")
    net = build(str(tmp_path / "w.ckpt"))
    assert same(net, model)
    assert (
        f"left: {'criterion.weight, n_averaged, ' if shown else ''}{shown}fc.weight" in net.backbone.weights
    )
    assert ("and 1 more" in net.backbone.weights) == bool(shown)


@pytest.mark.parametrize("wrapper", ["DataParallel", "AveragedModel", "compile"])
def test_what_torch_itself_wraps(wrapper: str, model: nn.Module, tmp_path: Path) -> None:
    wrapped = {
        "DataParallel": lambda: nn.DataParallel(model),
        "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(model),
        "compile": lambda: torch.compile(model),
    }[wrapper]()
    torch.save(wrapped.state_dict(), tmp_path / "w.pt")
    assert same(build(str(tmp_path / "w.pt")), model)


def test_a_head_of_ones_own_is_left(model: nn.Module, tmp_path: Path) -> None:
    tuned = copy.deepcopy(model)
    tuned.fc = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 5))
    torch.save(tuned.state_dict(), tmp_path / "w.pt")
    net = build(str(tmp_path / "w.pt"))
    assert same(net, model)
    assert net.backbone.weights == "120 tensors; left: fc.0.weight, fc.0.bias, fc.2.weight and 1 more"


def test_a_deeper_network_is_still_refused(tmp_path: Path) -> None:
    torch.save({"model": below("module.", models.resnet34().state_dict())}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"does not fit this backbone; .*unknown \(first: layer1\.2\."):
        build(str(tmp_path / "w.pt"))


def test_two_networks_that_fit_are_not_chosen_between(model: nn.Module, tmp_path: Path) -> None:
    state = model.state_dict()
    torch.save(below("student.", state) | below("teacher.", zeros(state)), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"more than one network that fits: student\., teacher\.; save one"):
        build(str(tmp_path / "w.pt"))


def test_objects_of_other_packages_beside_the_network_are_passed_over(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("somebodys_package")
    exec("class Options(dict):\n    def __init__(self): self.lr = 1\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "somebodys_package", module)
    module.Options.__module__ = "somebodys_package"
    content = {
        "args": argparse.Namespace(lr=0.1, names=["a"]),
        "best": np.float64(3.5),
        "figures": np.zeros(3),
        "folder": Path("runs"),
        "options": module.Options(),
        "model": model.state_dict(),
    }
    torch.save(content, tmp_path / "w.pt")
    monkeypatch.delitem(sys.modules, "somebodys_package")  # as on any other machine
    assert same(build(str(tmp_path / "w.pt")), model)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.marker), "w")


def test_nothing_in_a_file_is_called(model: nn.Module, tmp_path: Path) -> None:
    torch.save({"args": Evil(tmp_path / "it-ran"), "model": model.state_dict()}, tmp_path / "w.pt")
    assert same(build(str(tmp_path / "w.pt")), model)
    assert not (tmp_path / "it-ran").exists()
    torch.save({"model": {"conv1.weight": Evil(tmp_path / "it-ran")}}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="holds no state_dict"):
        build(str(tmp_path / "w.pt"))
    assert not (tmp_path / "it-ran").exists()


def test_safetensors(model: nn.Module, tmp_path: Path) -> None:
    torch_format = pytest.importorskip("safetensors.torch")
    for name in ("w.safetensors", "w.bin"):  # by what is in it, not by its name
        torch_format.save_file(below("model.", model.state_dict()), tmp_path / name)
        net = build(str(tmp_path / name))
        assert same(net, model)
        assert net.backbone.weights.startswith("120 tensors below 'model.'; left: model.fc.")
    whole = (tmp_path / "w.bin").read_bytes()
    (tmp_path / "w.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"w\.bin': cannot be read as a state_dict file"):
        build(str(tmp_path / "w.bin"))


def test_safetensors_that_is_not_installed_is_named(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_format = pytest.importorskip("safetensors.torch")
    torch_format.save_file(model.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ValueError, match=r"needs safetensors; pip install 'sppcls\[safetensors\]'"):
        build(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, {"model": {"epoch": 3}}, [torch.zeros(1)], {"model": {}}, torch.zeros(2)]
)
def test_a_file_without_a_network_says_where_it_was_looked_for(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"w\.pt': holds no state_dict .*, neither bare nor as state_dict, model_state"
    ):
        build(str(tmp_path / "w.pt"))
