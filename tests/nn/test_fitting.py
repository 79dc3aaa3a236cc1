"""What is taken from a file of weights, tensor by tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from sppcls.nn import SPPClassifier, build_classifier
from sppcls.nn.fitting import load_fitting

NAMES = ["a", "b", "c"]


def network(
    classes: int = 3, seed: int = 0, levels: list[int] | None = None, **backbone: Any
) -> SPPClassifier:
    torch.manual_seed(seed)
    return build_classifier(
        backbone={"name": "zf5", "width": 0.0625, "norm": "batch", **backbone},
        pyramid={"levels": levels or [2, 1]},
        head={"name": "fc", "hidden": [6, 5]},
        num_classes=classes,
        input_size=(64, 64),
    )


def saved(net: SPPClassifier, path: Path, classes: list[str], **architecture: Any) -> Path:
    """The parts of a checkpoint of sppcls that matter here."""
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"sppcls": {"classes": classes, "architecture": architecture}, "state_dict": state}, path)
    return path


def same(one: SPPClassifier, other: SPPClassifier) -> dict[str, bool]:
    """Whether the weights of each part are the same."""
    found: dict[str, bool] = {}
    others = other.state_dict()
    for name, value in one.state_dict().items():
        part = "backbone" if name.startswith("backbone") else name
        equal = value.shape == others[name].shape and torch.equal(value, others[name])
        found[part] = found.get(part, True) and equal
    return found


def test_all_but_the_last_layer_come_from_a_network_of_other_classes(tmp_path: Path) -> None:
    old, net, start = network(4), network(3, 1), network(3, 1)
    with torch.no_grad():  # every bias is zero at its start
        for parameter in old.parameters():
            parameter.add_(0.5)
    old.head.input_scale.fill_(3.0)
    taken = load_fitting(net, saved(old, tmp_path / "x.ckpt", list("wxyz")), NAMES, "init_from=x")
    assert same(net, old) == {
        "backbone": True,
        "head.input_scale": True,
        "head.hidden.fc6.0.weight": True,
        "head.hidden.fc6.0.bias": True,
        "head.hidden.fc7.0.weight": True,
        "head.hidden.fc7.0.bias": True,
        "head.last.weight": False,
        "head.last.bias": False,
    }
    assert torch.equal(net.head.last.weight, start.head.last.weight)
    assert str(taken) == "backbone, head.fc6, head.fc7; new: head.last (4 x 5 there, 3 x 5 here)"


def test_the_last_layer_comes_along_only_with_the_same_classes(tmp_path: Path) -> None:
    old = network(3)
    same_classes = load_fitting(network(3, 1), saved(old, tmp_path / "a.ckpt", NAMES), NAMES, "x")
    assert same_classes.new == {}
    other = load_fitting(network(3, 1), saved(old, tmp_path / "b.ckpt", ["a", "c", "b"]), NAMES, "x")
    assert other.new == {"head.last": "other classes"}
    torch.save(old.state_dict(), tmp_path / "bare.pt")
    assert load_fitting(network(3, 1), tmp_path / "bare.pt", NAMES, "x").new == {
        "head.last": "its classes are not known"
    }


def test_above_a_layer_of_the_head_that_does_not_fit_nothing_is_taken(tmp_path: Path) -> None:
    old, net = network(3, levels=[3, 1]), network(3, 1)
    scale = net.head.input_scale.clone()
    old.head.input_scale.fill_(7.0)
    taken = load_fitting(net, saved(old, tmp_path / "x.ckpt", NAMES), NAMES, "x")
    assert same(net, old)["backbone"]
    assert not same(net, old)["head.hidden.fc7.0.weight"]
    assert torch.equal(net.head.input_scale, scale)
    assert list(taken.new) == ["head.fc6", "head.fc7", "head.last"]
    assert taken.new["head.fc7"] == "it was trained on another head.fc6"


def test_a_layer_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    old, net, start = network(3), network(3, 1), network(3, 1)
    state = {name: value + 1 for name, value in old.state_dict().items()}
    del state["backbone.layers.norm3.running_var"]
    torch.save(state, tmp_path / "x.pt")
    taken = load_fitting(net, tmp_path / "x.pt", NAMES, "x")
    assert taken.new["backbone.norm3"] == "not in the file"
    for name in ("weight", "bias", "running_mean"):
        key = f"backbone.layers.norm3.{name}"
        assert torch.equal(net.state_dict()[key], start.state_dict()[key])
    assert torch.equal(net.backbone.layers.conv3.weight, state["backbone.layers.conv3.weight"])


def test_above_another_last_layer_of_the_backbone_no_head_is_taken(tmp_path: Path) -> None:
    old, net, start = network(3), network(3, 1), network(3, 1)
    state = old.state_dict()
    last = [name for name in state if name.startswith("backbone")][-1].rpartition(".")[0]
    below = {name: value for name, value in state.items() if not name.startswith(f"{last}.")}
    path = saved(old, tmp_path / "x.ckpt", NAMES)
    kept = torch.load(path)
    torch.save({**kept, "state_dict": {f"net.{name}": value for name, value in below.items()}}, path)
    taken = load_fitting(net, path, NAMES, "x")
    layer = f"backbone.{last.rpartition('.')[2]}"
    assert taken.new == {
        layer: "not in the file",
        **dict.fromkeys(["head.fc6", "head.fc7", "head.last"], f"it was trained on another {layer}"),
    }
    for name, value in net.state_dict().items():
        if name.startswith("head."):
            assert torch.equal(value, start.state_dict()[name])


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_a_file_of_torchvisions_weights_fills_the_backbone(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    whole = models.resnet18(num_classes=7)
    torch.save(
        {"state_dict": {prefix + name: v for name, v in whole.state_dict().items()}}, tmp_path / "r.pth"
    )
    net = build_classifier(
        backbone={"name": "resnet18"},
        pyramid={"levels": [1]},
        head={"name": "linear"},
        num_classes=3,
        input_size=(64, 64),
    )
    taken = load_fitting(net, tmp_path / "r.pth", NAMES, "x")
    for name, value in net.backbone.layers.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name])
    assert taken.new == {"head.last": "not in the file"}
    assert str(taken) == "backbone; new: head.last (not in the file)"


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"width": 0.125}, "backbone.conv1: 8 x 3 x 7 x 7 there, 16 x 3 x 7 x 7 here"),
        ({"name": "alexnet", "width": None, "norm": None}, "not in the file"),
    ],
)
def test_weights_that_fit_nowhere_are_refused_and_change_nothing(
    backbone: dict[str, Any], message: str, tmp_path: Path
) -> None:
    described = {"name": "zf5", "width": 0.0625, "norm": "batch"}
    path = saved(network(3), tmp_path / "x.ckpt", NAMES, backbone=described)
    net, start = network(3, 1, **backbone), network(3, 1, **backbone)
    with pytest.raises(
        ValueError, match=f"^init_from=x: no layer of its backbone fits this network .*{message}"
    ) as e:
        load_fitting(net, path, NAMES, "init_from=x")
    assert str(e.value).endswith("was trained with: backbone=zf5 backbone.width=0.0625 backbone.norm=batch")
    assert all(same(net, start).values())


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (print, ("ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="^init_from=x: "):
        load_fitting(network(), tmp_path / "x.ckpt", NAMES, "init_from=x")
