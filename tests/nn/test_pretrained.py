from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.ops import StochasticDepth

from sppcls.nn import TORCHVISION_TRUNKS, Backbone, timm_trunk, torchvision_trunk

OUTPUTS = {  # channels and stride, from the papers
    "alexnet": (256, 16),
    "vgg11": (512, 16),
    "vgg16": (512, 16),
    "resnet18": (512, 32),
    "resnet34": (512, 32),
    "resnet50": (2048, 32),
    "mobilenet_v3_small": (576, 32),
    "mobilenet_v3_large": (960, 32),
    "efficientnet_b0": (1280, 32),
    "convnext_tiny": (768, 32),
}


class _Reached(Exception):
    pass


def input_of_last_pool(name: str, model: nn.Module, images: Tensor) -> Tensor:
    """What torchvision's own forward gives to its last pooling that a pyramid replaces."""
    pool = model.features[-1] if name in ("alexnet", "vgg11") else model.avgpool  # type: ignore[index]
    seen: list[Tensor] = []

    def stop(_: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0])
        raise _Reached

    handle = pool.register_forward_pre_hook(stop)  # type: ignore[union-attr]
    with pytest.raises(_Reached):
        model(images)
    handle.remove()
    return seen[0]


def fill(layers: nn.Module) -> None:
    """Give values to layers of the meta device, such that every value of the output depends on the input."""
    layers.to_empty(device="cpu")
    for tensor in layers.state_dict().values():
        if tensor.dim() > 1:
            nn.init.kaiming_uniform_(tensor)
        elif tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
        else:
            tensor.zero_()


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in TORCHVISION_TRUNKS if name != "vgg16"])
def test_trunk_is_torchvisions_network_up_to_its_last_pooling(name: str) -> None:
    with torch.device("meta"):  # the classifiers are not needed, and take long to fill
        trunk, model = torchvision_trunk(name).eval(), models.get_model(name).eval()
    fill(trunk.layers)
    assert model.load_state_dict(trunk.layers.state_dict(), strict=False, assign=True).unexpected_keys == []
    images = torch.randn(1, 3, 96, 71)
    map_ = trunk(images)
    expected = input_of_last_pool(name, model, images)
    if name == "convnext_tiny":
        expected = model.classifier[0](expected)
    assert map_.isfinite().all()
    assert map_.std() > 0
    assert torch.equal(map_, expected)
    assert (trunk.out_channels, trunk.stride) == OUTPUTS[name] == (map_.shape[1], OUTPUTS[name][1])
    assert trunk.feature_size(96, 71) == map_.shape[2:]
    assert trunk.pooled_size(96, 71) == trunk.last_pool(map_).shape[2:]
    assert trunk.feature_size(4096, 4096) == (4096 // trunk.stride, 4096 // trunk.stride) or name == "alexnet"


def test_random_start_is_torchvisions() -> None:
    torch.manual_seed(0)
    trunk = torchvision_trunk("resnet18")
    torch.manual_seed(0)
    state = models.resnet18().state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in trunk.layers.state_dict().items())


def test_vgg16_is_cut_as_vgg11() -> None:
    with torch.device("meta"):  # its 500 MB of classifier take long to fill
        trunk, model = torchvision_trunk("vgg16"), models.vgg16()
    assert (trunk.out_channels, trunk.stride) == OUTPUTS["vgg16"]
    assert str(trunk.layers.features) == str(model.features[:-1])
    assert str(trunk.last_pool) == str(model.features[-1])
    assert trunk.feature_size(96, 71) == (6, 4)


def test_a_map_of_one_cell_while_training() -> None:
    assert torchvision_trunk("resnet18").train().feature_size(20, 32) == (1, 1)


def saved(state: dict[str, Tensor], path: Path) -> str:
    torch.save(state, path)
    return str(path)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "alexnet", "convnext_tiny", "mobilenet_v3_small"])
def test_weights_from_a_file(name: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        model = models.get_model(name).eval()
    fill(model.features if name == "alexnet" else model)
    images = torch.randn(1, 3, 64, 64)
    expected = input_of_last_pool(name, model, images)
    if name == "convnext_tiny":
        expected = model.classifier[0](expected)
    # Of AlexNet's classifier, which is 220 MB, only the names are looked at.
    state = {key: torch.zeros(1) if tensor.is_meta else tensor for key, tensor in model.state_dict().items()}
    whole = torchvision_trunk(name, saved(state, tmp_path / "whole.pt")).eval()
    assert torch.equal(whole(images), expected)
    if name == "convnext_tiny":  # large, and as the others
        return
    own = torchvision_trunk(name, saved(whole.state_dict(), tmp_path / "own.pt")).eval()
    assert torch.equal(own(images), expected)


def test_weights_without_batch_counters(tmp_path: Path) -> None:
    state = models.resnet18().state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    trunk = torchvision_trunk("resnet18", saved(old, tmp_path / "old.pt"))
    assert torch.equal(trunk.state_dict()["layers.conv1.weight"], state["conv1.weight"])


class _NotTensors:
    pass


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"", "cannot be read as a state_dict file"),
        (b"not a checkpoint", "cannot be read as a state_dict file"),
        # What is left of a file that was cut or overwritten; torch raises something else for each.
        (b"\x86", "cannot be read as a state_dict file"),
        (b"j", "cannot be read as a state_dict file"),
        (b"h\x8a", "cannot be read as a state_dict file"),
        (b"\x80\x02}}JX\x01cRs", "cannot be read as a state_dict file"),
        (_NotTensors(), "cannot be read as a state_dict file"),
        ([torch.zeros(1)], "holds no state_dict"),
        ({"state_dict": {"a": torch.zeros(1)}}, "missing (first: conv1.weight), 1 unknown (first: a)"),
        ({}, "holds no state_dict"),
        ({1: torch.zeros(1)}, "holds no state_dict"),
        (
            {"conv1.weight": torch.zeros(1)},
            "missing (first: bn1.weight), 1 of another shape (first: conv1.weight",
        ),
        ({"head.bias": torch.zeros(1)}, "1 unknown (first: head.bias)"),
    ],
    ids=[
        *("missing", "empty", "text", "index", "struct", "key", "type", "code"),
        *("list", "nested", "nothing", "numbers", "shape", "unknown"),
    ],
)
def test_files_that_do_not_fit(content: object, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with torch.device("meta"), pytest.raises(ValueError, match=r"weights=.*w\.pt") as caught:
        torchvision_trunk("resnet18", str(path))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network(tmp_path: Path) -> None:
    with torch.device("meta"):
        state = {name: torch.zeros(1, device="cpu") for name in models.resnet34().state_dict()}
    path = saved(state, tmp_path / "r34.pt")
    with pytest.raises(
        ValueError, match=r"does not fit this backbone.* unknown \(first: layer1\.2\.conv1\.weight"
    ):
        torchvision_trunk("resnet18", path)


def test_default_weights_are_torchvisions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "mobilenet_v3_small"
    file = models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    model = models.get_model(name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(model.state_dict(), tmp_path / "hub" / "checkpoints" / file)
    trunk = torchvision_trunk(name, "DEFAULT")
    state = model.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in trunk.layers.state_dict().items())


def test_default_weights_that_arrive_damaged_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = "mobilenet_v3_small"
    weights = models.get_model_weights(name).DEFAULT
    # The name has the beginning of the right checksum.
    arrives = tmp_path / weights.url.rpartition("/")[2]
    torch.save(models.get_model(name).state_dict(), arrives)
    monkeypatch.setattr(weights, "_value_", dataclasses.replace(weights.value, url=arrives.as_uri()))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with pytest.raises(ValueError, match=rf"the download for {name} failed \(invalid hash value"):
        torchvision_trunk(name, "DEFAULT")
    assert "%" not in "".join(capfd.readouterr())  # no bar


def test_vgg_is_filled_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build, seen = models.get_model, []

    def noting(name: str, **settings: object) -> nn.Module:
        seen.append(settings.get("init_weights", True))
        with torch.device("meta"):
            model: nn.Module = build(name, **settings)
            return model

    monkeypatch.setattr(models, "get_model", noting)
    torchvision_trunk("vgg11")
    with pytest.raises(ValueError, match="does not fit this backbone"):
        torchvision_trunk("vgg11", saved({"a": torch.zeros(1)}, tmp_path / "a.pt"))
    assert seen == [True, False]


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(
        ValueError, match=r"^weights='DEFAULT': the download for resnet18 failed \("
    ) as caught:
        torchvision_trunk("resnet18", "DEFAULT")
    assert "give the path of a state_dict file" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="name='resnet19': choose from alexnet, "):
        torchvision_trunk("resnet19")


def test_timm_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"^name='timm': .* pip install 'sppcls\[timm\]'$"):
        timm_trunk("resnet18")


# What timm puts after its pooling: nothing; a normalisation; convolutions, of the vector or of 7 x 7 cells.
@torch.no_grad()
@pytest.mark.parametrize(
    ("model", "channels", "stride", "left_out"),
    [
        ("test_resnet", 96, 32, {"fc"}),
        ("test_efficientnet", 256, 32, {"classifier"}),
        ("test_convnext", 64, 32, {"norm_pre", "head"}),
        ("mobilenetv3_small_050", 288, 32, {"conv_head", "norm_head", "classifier"}),
    ],
)
def test_timm_trunk(model: str, channels: int, stride: int, left_out: set[str], tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    whole = timm.create_model(model).eval()
    trunk = timm_trunk(model, saved(whole.state_dict(), tmp_path / "whole.pt")).eval()
    assert isinstance(trunk, Backbone)
    images = torch.randn(2, 3, 130, 97)
    map_ = trunk(images)
    assert torch.equal(map_, whole.forward_features(images))
    assert (trunk.out_channels, trunk.stride) == (channels, stride) == (map_.shape[1], stride)
    assert trunk.feature_size(130, 97) == map_.shape[2:]
    assert trunk.pooled_size(130, 97) == (1, 1)
    assert trunk.feature_size(960, 480) == (960 // stride, 480 // stride)
    children = dict(trunk.layers.named_children())
    assert {name for name, child in children.items() if isinstance(child, nn.Identity)} == left_out
    # Names are timm's, and nothing is kept that training could not reach.
    state = whole.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in trunk.layers.state_dict().items())
    with torch.enable_grad():
        trunk(images).sum().backward()
    assert all(parameter.grad is not None for parameter in trunk.parameters())
    if model == "test_resnet":
        own = timm_trunk(model, saved(trunk.state_dict(), tmp_path / "own.pt")).eval()
        assert torch.equal(own(images), map_)


def test_timm_map_ends_before_the_convolutions_of_the_classifier() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        trunk = timm_trunk("vgg11")
        assert trunk(torch.empty(1, 3, 224, 224)).shape == (1, 512, 7, 7)
    assert (trunk.out_channels, *trunk.feature_size(224, 224)) == (512, 7, 7)
    assert all(name.startswith("layers.features.") for name in trunk.state_dict())


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("", "timm has no such model"),
        ("resnet_18", "timm has no such model"),
        ("resnt18", "timm has no such model; near: .*resnet18"),
        ("resnet18.nonexistent_tag", "timm has no tag 'nonexistent_tag' of resnet18; choose from a1_in1k, "),
        ("crossvit_tiny_240", "a list instead of one tensor"),
        ("test_mambaout", "not a map"),  # gives (N, h, w, C)
        ("test_vit", "not a map"),
        ("swin_tiny_patch4_window7_224", "takes only some sizes of images, not 256x256"),
        ("dla34", "takes only some sizes of images, not 225x301"),
        ("halonet26t", "takes only some sizes of images, not 225x301"),
    ],
)
def test_timm_models_that_are_no_trunks(model: str, problem: str) -> None:
    pytest.importorskip("timm")
    with torch.device("meta"), pytest.raises(ValueError, match=rf"^model='{model}': .*({problem})") as caught:
        timm_trunk(model)
    assert "\n" not in str(caught.value)


def test_timm_map_grows_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    class Fixed(nn.Conv2d):  # as mobilenetv5_300m
        def forward_features(self, x: Tensor) -> Tensor:
            return nn.functional.adaptive_avg_pool2d(self(x), 16)

    monkeypatch.setattr(timm, "create_model", lambda *_, **__: Fixed(3, 8, 1))
    with pytest.raises(ValueError, match=r"^model='mobilenetv5_300m': gives a map of 16x16 for every image"):
        timm_trunk("mobilenetv5_300m")


@pytest.mark.parametrize("error", [RuntimeError("bad\ntrace"), AssertionError(), KeyError("x")])
def test_timm_models_that_cannot_be_built(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def fails(*args: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(timm, "create_model", fails)
    with pytest.raises(ValueError, match=r"^model='resnet18': timm cannot build it \(.+\)$"):
        timm_trunk("resnet18")


def test_default_weights_are_timms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        ValueError, match=r"^weights='DEFAULT': the download for test_resnet failed \("
    ) as caught:
        timm_trunk("test_resnet", "DEFAULT")
    assert "give the path of a state_dict file" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(
        ValueError, match="^weights='DEFAULT': timm has no weights of botnet50ts_256; use null or"
    ):
        timm_trunk("botnet50ts_256", "DEFAULT")


def test_timm_weights_that_do_not_fit(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"weights=.* does not fit this backbone"):
        timm_trunk("test_resnet", saved({"a": torch.zeros(1)}, tmp_path / "a.pt"))


@pytest.mark.parametrize("name", ["convnext_tiny", "efficientnet_b0"])
def test_drop_path_rises_to_the_rate_block_by_block(name: str) -> None:
    trunk = torchvision_trunk(name, drop_path_rate=0.3)
    rates = [module.p for module in trunk.modules() if isinstance(module, StochasticDepth)]
    assert rates[0] == 0
    assert rates == sorted(rates)
    steps = len(rates) - (name == "convnext_tiny")  # EfficientNet's last block stays one step below
    assert rates == pytest.approx([0.3 * i / steps for i in range(len(rates))])
    x = torch.randn(8, 3, 64, 64)
    torch.manual_seed(0)
    first = trunk.train()(x)
    torch.manual_seed(1)
    assert not torch.equal(first, trunk(x))
    assert not any(
        m.p for m in torchvision_trunk(name, drop_path_rate=0.0).modules() if isinstance(m, StochasticDepth)
    )


def test_drop_path_of_timms_networks_and_none_where_there_is_none() -> None:
    pytest.importorskip("timm")
    rates = [
        m.drop_prob
        for m in timm_trunk("convnext_atto", drop_path_rate=0.2).modules()
        if hasattr(m, "drop_prob")
    ]
    assert max(rates) == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"^drop_path_rate=0\.2: vgg11 has no paths to drop"):
        timm_trunk("vgg11", drop_path_rate=0.2)
    with pytest.raises(
        ValueError, match=r"^drop_path_rate=0\.2: resnet18 has no paths to drop; use null, or convnext"
    ):
        torchvision_trunk("resnet18", drop_path_rate=0.2)
