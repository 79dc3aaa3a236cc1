from __future__ import annotations

import math
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from sppcls.nn import BACKBONES, PAPER_BACKBONES, TORCHVISION_TRUNKS, SPPClassifier, build_classifier
from sppcls.nn.weights import load_into

FC = {"name": "fc", "hidden": [4096, 4096], "dropout": 0.5}
LINEAR = {"name": "linear"}


def build(
    backbone: dict[str, Any], levels: Any, head: dict[str, Any] = LINEAR, num_classes: int = 5, **more: Any
) -> SPPClassifier:
    settings = {"input_size": (224, 224), **more}
    return build_classifier(
        backbone=backbone, pyramid={"levels": levels}, head=head, num_classes=num_classes, **settings
    )


def parameters(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


# Millions of parameters for 1000 classes: no pyramid, 30 bins, 50 bins.
@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [
        ("zf5", (62.36, 56.07, 77.04), 2),
        ("convnet_star5", (62.38, 56.09, 77.06), 2),
        ("overfeat5", (102.9, 90.3, 132.3), 1),
        ("overfeat7", (107.6, 95.0, 137.0), 1),
    ],
)
def test_parameter_counts_of_the_paper(name: str, millions: tuple[float, ...], digits: int) -> None:
    channels, fc6 = (256, 9216) if "overfeat" not in name else (512, 18_432)
    inputs = (fc6, 30 * channels, 50 * channels)
    for levels, count, length in zip((None, [4, 3, 2, 1], [6, 3, 2, 1]), millions, inputs, strict=True):
        with torch.device("meta"):
            net = build({"name": name}, levels, FC, 1000)
        assert round(parameters(net) / 1e6, digits) == count
        fc = (length + 1) * 4096 + 4097 * 4096 + 4097 * 1000
        assert parameters(net.head) == fc


def test_zf5_counted_by_hand() -> None:
    convs = [(96, 3, 7), (256, 96, 5), (384, 256, 3), (384, 384, 3), (256, 384, 3)]
    expected = sum(out * (in_ * k * k + 1) for out, in_, k in convs)
    with torch.device("meta"):
        net = build({"name": "zf5", "norm": "lrn_within", "width": 1.0, "weights": None, "model": None}, [1])
    assert parameters(net.backbone) == expected


# Without a pyramid once for each kind of last pooling.
@pytest.mark.parametrize(
    ("name", "levels"),
    [
        *[(name, [(2, 3), 1]) for name in BACKBONES],
        *[(name, None) for name in ("zf5", "vgg11", "resnet18", "timm")],
    ],
)
def test_every_backbone(name: str, levels: Any) -> None:
    backbone: dict[str, Any] = {"name": name}
    if name in PAPER_BACKBONES:
        backbone["width"] = 1 / 16
    elif name == "timm":
        pytest.importorskip("timm")
        backbone["model"] = "test_resnet"
    with torch.device("meta"):
        net = build(backbone, levels, input_size=(128, 96))
        assert net(torch.zeros(2, 3, 128, 96)).shape == (2, 5)


@pytest.mark.parametrize("name", ["zf5", "resnet18", "convnext_tiny"])
def test_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        net = build({"name": name}, [3, 1], init="paper" if name == "zf5" else "modern")
    assert all(parameter.is_meta for parameter in net.parameters())


def test_global_generator_decides_the_weights() -> None:
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(build({"name": "zf5", "width": 1 / 16}, [2, 1]))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


def test_weights_of_a_paper_network(tmp_path: Path) -> None:
    path = str(tmp_path / "zf5.pt")
    source = build({"name": "zf5", "width": 1 / 16}, [1])
    torch.save(source.backbone.state_dict(), path)
    net = build({"name": "zf5", "width": 1 / 16, "weights": path}, [4, 1])
    for key, tensor in source.backbone.state_dict().items():
        assert torch.equal(net.backbone.state_dict()[key], tensor)
    with pytest.raises(
        ValueError, match=r"^backbone\.weights=.* 5 of another shape|^backbone\.weights=.* of another"
    ):
        build({"name": "zf5", "width": 1 / 8, "weights": path}, [1])


def nested(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("zf5", "classifier"),
        ("zf5", "distributed"),
        ("zf5", "distributed layers"),
        ("zf5", "checkpoint"),
        ("resnet18", "checkpoint"),
    ],
)
def test_weights_of_a_whole_network(name: str, saved: str, tmp_path: Path) -> None:
    settings = ZF5 if name == "zf5" else {"name": name}
    path = str(tmp_path / "w.pt")
    source = build(settings, [3, 1], FC | {"hidden": [8]})
    content: dict[str, Any] = dict(source.state_dict())
    if saved == "distributed":
        content = nested("module.", content)
    elif saved == "distributed layers":
        content = nested("module.", dict(source.backbone.layers.state_dict()))
    elif saved == "checkpoint":
        other = {"loss.weight": torch.zeros(3)}
        content = {"state_dict": nested("net.", content) | other, "sppcls": {"format": 1}, "epoch": 3}
    torch.save(content, path)
    net = build({**settings, "weights": path}, [1], num_classes=3)
    for key, tensor in source.backbone.state_dict().items():
        assert torch.equal(net.backbone.state_dict()[key], tensor)


@pytest.mark.parametrize("prefix", ["module.", "net.", "backbone.", "layers."])
def test_weights_of_which_some_carry_a_prefix(prefix: str, tmp_path: Path) -> None:
    path = str(tmp_path / "w.pt")
    state = dict(build(ZF5, [1]).backbone.layers.state_dict())
    first = next(iter(state))
    torch.save({prefix + first: state.pop(first)} | state, path)
    with pytest.raises(
        ValueError, match=rf"1 missing \(first: {first}\), 1 unknown \(first: {prefix}{first}\)"
    ):
        build({**ZF5, "weights": path}, [1])
    torch.save(nested(prefix, state) | {"conv0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="unknown"):
        build({**ZF5, "weights": path}, [1])


def test_weights_with_prefixes_of_two_kinds(tmp_path: Path) -> None:
    path = str(tmp_path / "w.pt")
    state = nested("layers.", dict(build(ZF5, [1]).backbone.layers.state_dict()))
    first = next(iter(state))
    torch.save({"module." + first: state.pop(first)} | state, path)
    with pytest.raises(ValueError, match=r"^backbone\.weights=.* does not fit this backbone"):
        build({**ZF5, "weights": path}, [1])


def test_a_prefix_may_be_a_name_of_the_layers() -> None:
    for name in ("module", "net", "backbone", "layers"):
        source, layers = (torch.nn.Sequential(OrderedDict({name: torch.nn.Linear(2, 2)})) for _ in range(2))
        state = source.state_dict()
        for saved in (state, nested("layers.", state), nested("module.backbone.layers.", state)):
            torch.nn.init.zeros_(layers[0].weight)
            load_into(layers, saved, "weights='a'")
            assert torch.equal(layers[0].weight, source[0].weight)


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"state_dict": {"a": torch.zeros(1)}}])
def test_checkpoints_without_a_network(content: dict[str, Any], tmp_path: Path) -> None:
    path = str(tmp_path / "w.ckpt")
    torch.save({**content, "sppcls": {}}, path)
    with pytest.raises(ValueError, match=r"^backbone\.weights=.* holds no state_dict"):
        build({**ZF5, "weights": path}, [1])


ZF5 = {"name": "zf5", "width": 1 / 16}
BAD: list[tuple[str, dict[str, Any]]] = [
    ("backbone.name='zf6': choose from zf5, ", {"backbone": {"name": "zf6"}}),
    ("backbone.name=None: choose", {"backbone": {}}),
    ("backbone.depth: no such key", {"backbone": {**ZF5, "depth": 3}}),
    ("backbone.norm='foo': choose from lrn_within", {"backbone": {**ZF5, "norm": "foo"}}),
    ("backbone.width=0: must be greater than 0", {"backbone": {**ZF5, "width": 0}}),
    ("backbone.width='1': must be a number", {"backbone": {**ZF5, "width": "1"}}),
    ("backbone.width=True: must be a number", {"backbone": {**ZF5, "width": True}}),
    ("backbone.width=inf: must be greater than 0 and", {"backbone": {**ZF5, "width": math.inf}}),
    ("backbone='zf5': must be a mapping with keys of name, width", {"backbone": "zf5"}),
    ("pyramid=[6, 3]: must be a mapping with keys of levels", {"pyramid": [6, 3]}),
    ("pyramid=None: must be a mapping", {"pyramid": None}),
    ("head=5: must be a mapping with keys of name, hidden", {"head": 5}),
    ("backbone.weights='DEFAULT': zf5 has no", {"backbone": {**ZF5, "weights": "DEFAULT"}}),
    ("backbone.weights=3: must be null", {"backbone": {**ZF5, "weights": 3}}),
    ("backbone.weights='/no.pt': no such file", {"backbone": {**ZF5, "weights": "/no.pt"}}),
    ("backbone.weights='/no.pt': no such file", {"backbone": {"name": "resnet18", "weights": "/no.pt"}}),
    ("backbone.model='a': the name of a timm", {"backbone": {**ZF5, "model": "a"}}),
    ("backbone.width=0.5: resnet18 has its own", {"backbone": {"name": "resnet18", "width": 0.5}}),
    ("backbone.norm='batch': resnet18 has its", {"backbone": {"name": "resnet18", "norm": "batch"}}),
    ("backbone.model=null: backbone.name=timm needs", {"backbone": {"name": "timm"}}),
    ("backbone.model=5: the name of a timm", {"backbone": {"name": "timm", "model": 5}}),
    ("pyramid.levels: missing", {"pyramid": {}}),
    ("pyramid.levels=[]: ", {"pyramid": {"levels": []}}),
    ("pyramid.levels=[0]: 0 is not a level", {"pyramid": {"levels": [0]}}),
    ("pyramid.levels='6321': ", {"pyramid": {"levels": "6321"}}),
    ("pyramid.mode='min': choose from max, avg, sum", {"pyramid": {"levels": [1], "mode": "min"}}),
    ("pyramid.bin_rule='x': choose from adaptive", {"pyramid": {"levels": [1], "bin_rule": "x"}}),
    ("pyramid.bin_rule='x': choose from adaptive", {"pyramid": {"levels": None, "bin_rule": "x"}}),
    ("pyramid.mode='avg': applies to a pyramid only", {"pyramid": {"levels": None, "mode": "avg"}}),
    ("pyramid.bin_rule='sliding': applies to a", {"pyramid": {"levels": None, "bin_rule": "sliding"}}),
    ("pyramid.level: no such key", {"pyramid": {"level": [1]}}),
    ("head.name='mlp': choose from fc, linear, conv", {"head": {"name": "mlp"}}),
    ("head.hidden=[0]: must be", {"head": {"name": "fc", "hidden": [0]}}),
    ("head.hidden=4096: must be", {"head": {"name": "fc", "hidden": 4096}}),
    ("head.hidden=[4]: a linear head has no", {"head": {"name": "linear", "hidden": [4]}}),
    ("head.dropout=1: must be", {"head": {"name": "fc", "dropout": 1}}),
    ("head.dropout='a': must be", {"head": {"name": "fc", "dropout": "a"}}),
    ("head.width: no such key", {"head": {"name": "fc", "width": 1}}),
    ("head.name='conv': pools nothing", {"head": {"name": "conv"}}),
    ("num_classes=0: must be", {"num_classes": 0}),
    ("num_classes=True: must be", {"num_classes": True}),
    ("input_size=(0, 5): must be", {"input_size": (0, 5)}),
    ("input_size=224: must be", {"input_size": 224}),
    ("input_size=10x300: too small for zf5, its feature map", {"input_size": (10, 300)}),
    ("input_size=30x30: too small for zf5 and", {"input_size": (30, 30), "pyramid": {"levels": None}}),
    (
        "input_size=90x90: level 6x6",
        {"input_size": (90, 90), "pyramid": {"levels": [6], "bin_rule": "sliding"}},
    ),
    ("init='zeros': choose from paper, modern", {"init": "zeros"}),
]


@pytest.mark.parametrize(("start", "change"), BAD, ids=[start for start, _ in BAD])
def test_every_error_starts_with_its_key(start: str, change: dict[str, Any]) -> None:
    settings: dict[str, Any] = {
        "backbone": ZF5,
        "pyramid": {"levels": [2, 1]},
        "head": {"name": "linear"},
        "num_classes": 5,
        "input_size": (224, 224),
    }
    build_classifier(**settings)
    with pytest.raises(ValueError, match="^" + re.escape(start)) as caught:
        build_classifier(**{**settings, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [None, [2, 1]])
def test_pooling_settings_may_be_left_out_or_null(levels: Any) -> None:
    nets = [
        build_classifier(
            backbone=ZF5,
            pyramid={"levels": levels, **pyramid},
            head=LINEAR,
            num_classes=5,
            input_size=(224, 224),
        )
        for pyramid in ({}, {"mode": None, "bin_rule": None}, {"mode": "max", "bin_rule": "adaptive"})
    ]
    assert len({repr(net.pool) for net in nets}) == 1
    assert levels is None or (nets[1].pool.mode, nets[1].pool.bin_rule) == ("max", "adaptive")


@pytest.mark.parametrize("name", ["fc", "conv"])
def test_dropout_of_the_head(name: str) -> None:
    for dropout in (None, 0.0, 0.35):
        net = build(ZF5, None, {"name": name, "hidden": [8, 8], "dropout": dropout})
        assert [m.p for m in net.modules() if isinstance(m, torch.nn.Dropout)] == [dropout or 0.0] * 2


def test_weights_start_as_in_the_papers() -> None:
    # ZF-5 as the authors released it; the other networks as AlexNet.
    for name, last_bias in (("zf5", 1.0), ("convnet_star5", 0.0), ("overfeat7", 0.0)):
        net = build({"name": name, "width": 0.25}, [2, 1], {**FC, "hidden": [64, 64]}, init="paper")
        convs = [module for module in net.backbone.modules() if isinstance(module, torch.nn.Conv2d)]
        linears = [module for module in net.head.modules() if isinstance(module, torch.nn.Linear)]
        ones = [set(layer.bias.tolist()) for layer in (*convs, *linears)]  # type: ignore[union-attr]
        assert ones == [
            {0.0},
            {1.0},
            {0.0},
            {1.0},
            {1.0},
            *[{0.0}] * (len(convs) - 5),
            {1.0},
            {1.0},
            {last_bias},
        ]
        weights = torch.cat([layer.weight.flatten() for layer in (*convs, *linears)])
        assert abs(weights.std().item() - 0.01) < 1e-4
        assert abs(weights.mean().item()) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "lrn_within", "batch"])
def test_modern_weights_keep_activations_in_range(norm: str) -> None:
    torch.manual_seed(0)
    net = build(
        {"name": "zf5", "width": 0.5, "norm": norm}, [3, 1], {**FC, "hidden": [256]}, 100, init="modern"
    )
    features = net.features(torch.randn(8, 3, 100, 100))
    assert all(0.1 < features[name].pow(2).mean().sqrt() < 30 for name in ("map", "fc6"))
    # Nearly equal probabilities: the loss of a fresh network is that of guessing.
    loss = torch.nn.functional.cross_entropy(features["logits"], torch.arange(8))
    assert abs(loss.item() - math.log(100)) < 0.3
    biases = [p for name, p in net.named_parameters() if name.endswith("bias") and "norm" not in name]
    assert all((bias == 0).all() for bias in biases)


@pytest.mark.parametrize("head", ["fc", "conv"])
def test_modern_weights_are_he_initialised(head: str) -> None:
    torch.manual_seed(0)
    levels = [3, 1] if head == "fc" else None
    net = build(
        {"name": "zf5", "width": 0.5}, levels, {"name": head, "hidden": [256, 128]}, 100, init="modern"
    )
    layers = [m for m in net.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    large = [layer for layer in layers if layer is not net.head.last and layer.weight.numel() > 1e4]
    assert len(large) == 6  # all but the first convolution, which has 7,056 weights
    for layer in large:
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
        assert abs(layer.weight.mean().item()) < 0.05 * math.sqrt(2 / fan_in)
    last = net.head.last.weight
    assert isinstance(last, torch.Tensor)
    assert last.std().item() == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize("init", ["paper", "modern"])
def test_trunks_keep_their_own_weights(init: str) -> None:
    torch.manual_seed(0)
    net = build({"name": "resnet18"}, [1], init=init)
    torch.manual_seed(0)
    from sppcls.nn import torchvision_trunk

    for ours, theirs in zip(
        net.backbone.parameters(), torchvision_trunk("resnet18").parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert abs(net.head.last.weight.std().item() - 0.01) < 2e-3  # type: ignore[union-attr, operator]


def test_names_for_configs() -> None:
    assert set(BACKBONES) == {*PAPER_BACKBONES, *TORCHVISION_TRUNKS, "timm"}
    assert len(set(BACKBONES)) == len(BACKBONES)
