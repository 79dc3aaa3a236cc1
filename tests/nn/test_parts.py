"""Parts and layers of a network, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sppcls.nn import FCHead, SpatialPyramidPooling2d, SPPClassifier, timm_trunk, torchvision_trunk, zf5
from sppcls.nn.parts import Frozen, check_parts, layer_names, parameter_groups


@pytest.fixture
def net() -> SPPClassifier:
    trunk, pool = zf5(0.0625, "batch"), SpatialPyramidPooling2d([2, 1])
    return SPPClassifier(trunk, pool, FCHead(pool.output_length(trunk.out_channels), [6, 5], 4, dropout=0.5))


def names_of(net: nn.Module, parameters: list[nn.Parameter]) -> list[str]:
    by_id = {id(parameter): name for name, parameter in net.named_parameters()}
    return [by_id[id(parameter)] for parameter in parameters]


def test_a_part_is_every_parameter_below_its_name(net: SPPClassifier) -> None:
    assert names_of(net, Frozen(net, ["head.fc6"]).parameters) == [
        "head.hidden.fc6.0.weight",
        "head.hidden.fc6.0.bias",
    ]
    assert names_of(net, Frozen(net, ["backbone.conv1"]).parameters) == ["backbone.layers.conv1.weight"]
    full = Frozen(net, ["head.hidden.fc6", "backbone.layers.norm1"])
    assert names_of(net, full.parameters) == [
        "backbone.layers.norm1.weight",
        "backbone.layers.norm1.bias",
        "head.hidden.fc6.0.weight",
        "head.hidden.fc6.0.bias",
    ]
    everything = sum(p.numel() for p in net.parameters())
    head = sum(p.numel() for p in net.head.parameters())
    assert len(Frozen(net, ["backbone"])) == everything - head


def test_frozen_normalisation_keeps_its_statistics_and_dropout_goes_on(net: SPPClassifier) -> None:
    frozen = Frozen(net, ["backbone", "head.fc6"])
    net.train()
    frozen.train(False)
    kept = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    net(torch.randn(4, 3, 64, 64))
    assert all(torch.equal(value, kept[name]) for name, value in net.backbone.state_dict().items())
    assert net.head.hidden.fc6[2].training  # dropout
    frozen.train(True)
    assert all(module.training for module in net.modules())
    net(torch.randn(4, 3, 64, 64))
    assert not torch.equal(net.backbone.layers.norm1.running_mean, kept["layers.norm1.running_mean"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["bakbone"], "freeze=bakbone: no such part with weights in this network .did you mean 'backbone'"),
        (["head.fc"], "freeze=head.fc: .*did you mean 'head.fc[67]'"),
        (["pool"], "freeze=pool: .* choose from backbone, backbone.conv1"),
        (["backbone", "head"], "nothing is left to train"),
    ],
)
def test_what_cannot_be_frozen(net: SPPClassifier, parts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frozen(net, parts)


def test_a_part_is_no_mere_beginning_of_a_name(net: SPPClassifier) -> None:
    check_parts(net, ["backbone.conv1"], "x")
    with pytest.raises(ValueError, match=r"x=backbone\.conv: no such part"):
        check_parts(net, ["backbone.conv"], "x")


def test_one_rate_for_all_is_weights_and_then_vectors(net: SPPClassifier) -> None:
    groups = parameter_groups(net)
    assert [(group.name, group.scale, group.vectors) for group in groups] == [
        ("", 1.0, False),
        ("", 1.0, True),
    ]
    assert groups[0].parameters == [p for p in net.parameters() if p.ndim > 1]
    assert groups[1].parameters == [p for p in net.parameters() if p.ndim == 1]


def test_the_longest_name_decides_the_rate(net: SPPClassifier) -> None:
    groups = parameter_groups(net, {"backbone": 0.1, "backbone.conv5": 0.5, "head.last": 2.0})
    found = {
        name: group.scale for group in groups for name in names_of(net, group.parameters) if not group.vectors
    }
    assert found == {
        **{f"backbone.layers.conv{number}.weight": 0.1 for number in (1, 2, 3, 4)},
        "backbone.layers.conv5.weight": 0.5,
        "head.hidden.fc6.0.weight": 1.0,
        "head.hidden.fc7.0.weight": 1.0,
        "head.last.weight": 2.0,
    }
    assert sum(len(group.parameters) for group in groups) == len(list(net.parameters()))


def test_layer_decay_goes_down_from_the_head_layer_by_layer(net: SPPClassifier) -> None:
    groups = parameter_groups(net, {"backbone.conv3": 10.0}, layer_decay=0.5)
    found = {
        name: group.scale
        for group in groups
        for name in names_of(net, group.parameters)
        if "backbone" in name
    }
    for number in range(1, 6):
        for name in (f"conv{number}.weight", f"norm{number}.weight", f"norm{number}.bias"):
            factor = 10.0 if name == "conv3.weight" else 1.0
            assert found[f"backbone.layers.{name}"] == factor * 0.5 ** (6 - number)
    head = [group for group in groups if group.name == "head"]
    assert [group.scale for group in head] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "layers"),
    # By hand: the stem and the blocks; the plain networks' convolutions; the last 1 x 1 convolution of the mobile ones.
    [("resnet18", 1 + 8), ("vgg11", 8), ("convnext_tiny", 1 + 18 + 3), ("mobilenet_v3_small", 1 + 11 + 1)],
)
def test_layers_of_torchvisions_networks(name: str, layers: int) -> None:
    trunk = torchvision_trunk(name)
    net = nn.ModuleDict({"backbone": trunk})
    found = layer_names(net)
    assert list(found) == [name for name, _ in net.named_parameters()]
    assert len(set(found.values())) == layers


def test_layers_of_timms_networks_are_timms() -> None:
    pytest.importorskip("timm")
    net = nn.ModuleDict({"backbone": timm_trunk("convnext_atto")})
    found = layer_names(net)
    assert list(found) == [name for name, _ in net.named_parameters()]
    assert len(set(found.values())) == 1 + (2 + 2 + 6 + 2)  # stem and blocks


def test_a_part_that_spans_timms_layers_keeps_their_decay() -> None:
    pytest.importorskip("timm")
    net = nn.ModuleDict({"backbone": timm_trunk("convnext_atto")})
    groups = parameter_groups(net, {"backbone.stages": 0.5}, layer_decay=0.75)
    scales = {id(parameter): group.scale for group in groups for parameter in group.parameters}
    layers = layer_names(net)
    order = list(dict.fromkeys(layers.values()))
    for name, parameter in net.named_parameters():
        factor = 0.5 if name.startswith("backbone.layers.stages.") else 1.0
        assert scales[id(parameter)] == factor * 0.75 ** (len(order) - order.index(layers[name])), name
