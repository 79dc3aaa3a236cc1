from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

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


def input_of_last_pool(name: str, model: nn.Module, images: Tensor) -> Tensor:
    """What torchvision's own forward gives to its last pooling that a pyramid replaces."""
    pool = model.features[-1] if name in ("alexnet", "vgg11", "vgg16") else model.avgpool  # type: ignore
    seen: list[Tensor] = []
    handle = pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images)
    handle.remove()
    return seen[0]


@torch.no_grad()
@pytest.mark.parametrize("name", TORCHVISION_TRUNKS)
def test_trunk_is_torchvisions_network_up_to_its_last_pooling(name: str) -> None:
    torch.manual_seed(0)
    trunk = torchvision_trunk(name).eval()
    torch.manual_seed(0)
    model = models.get_model(name).eval()
    images = torch.randn(1, 3, 96, 71)
    map_ = trunk(images)
    expected = input_of_last_pool(name, model, images)
    if name == "convnext_tiny":
        expected = model.classifier[0](expected)
    assert torch.equal(map_, expected)
    assert (trunk.out_channels, trunk.stride) == OUTPUTS[name] == (map_.shape[1], OUTPUTS[name][1])
    assert trunk.feature_size(96, 71) == map_.shape[2:]
    assert trunk.pooled_size(96, 71) == trunk.last_pool(map_).shape[2:]
    assert trunk.feature_size(4096, 4096) == (4096 // trunk.stride, 4096 // trunk.stride) or name == "alexnet"


def test_a_map_of_one_cell_while_training() -> None:
    assert torchvision_trunk("resnet18").train().feature_size(20, 32) == (1, 1)


def saved(state: dict[str, Tensor], path: Path) -> str:
    torch.save(state, path)
    return str(path)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "alexnet", "convnext_tiny", "mobilenet_v3_small"])
def test_weights_from_a_file(name: str, tmp_path: Path) -> None:
    model = models.get_model(name).eval()
    images = torch.randn(1, 3, 64, 64)
    expected = input_of_last_pool(name, model, images)
    if name == "convnext_tiny":
        expected = model.classifier[0](expected)
    state = model.state_dict()
    if name == "alexnet":  # no need to write 220 MB of a classifier that is not read
        state = {
            key: tensor if key.startswith("features.") else tensor[:1].clone()
            for key, tensor in state.items()
        }
    whole = torchvision_trunk(name, saved(state, tmp_path / "whole.pt")).eval()
    assert torch.equal(whole(images), expected)
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
        (_NotTensors(), "cannot be read as a state_dict file"),
        ([torch.zeros(1)], "holds no state_dict"),
        ({"state_dict": {"a": torch.zeros(1)}}, "holds no state_dict"),
        ({}, "holds no state_dict"),
        (
            {"conv1.weight": torch.zeros(1)},
            "missing (first: bn1.weight), 1 of another shape (first: conv1.weight",
        ),
        ({"head.bias": torch.zeros(1)}, "1 unknown (first: head.bias)"),
    ],
    ids=["missing", "empty", "text", "code", "list", "nested", "nothing", "shape", "unknown"],
)
def test_files_that_do_not_fit(content: object, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"weights=.*w\.pt") as caught:
        torchvision_trunk("resnet18", str(path))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = saved(models.resnet34().state_dict(), tmp_path / "r34.pt")
    with pytest.raises(
        ValueError, match=r"does not fit this backbone.* unknown \(first: layer1\.2\.conv1\.weight"
    ):
        torchvision_trunk("resnet18", path)


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


@torch.no_grad()
@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_timm_trunk(model: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    whole = timm.create_model(model).eval()
    trunk = timm_trunk(model, saved(whole.state_dict(), tmp_path / "whole.pt")).eval()
    assert isinstance(trunk, Backbone)
    images = torch.randn(2, 3, 130, 97)
    map_ = trunk(images)
    assert map_.shape[1] == trunk.out_channels
    assert trunk.feature_size(130, 97) == map_.shape[2:]
    assert trunk.pooled_size(130, 97) == (1, 1)
    assert trunk.feature_size(960, 480) == (960 // trunk.stride, 480 // trunk.stride)
    if model == "test_resnet":
        # Averaged over the map it is timm's own pooled vector.
        expected = whole.forward_head(whole.forward_features(images), pre_logits=True)
        torch.testing.assert_close(trunk.last_pool(map_).flatten(1), expected)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("resnet_18", "timm has no such model"),
        ("resnt18", "timm has no such model; near: .*resnet18"),
        ("efficientvit_b0", "cannot be cut before its pooling"),
        ("efficientvim_m1", "a list instead of one tensor"),
        ("test_mambaout", "not a map"),  # gives (N, h, w, C)
        ("test_vit", "gives no map for images of any size|not a map"),
        ("swin_tiny_patch4_window7_224", "gives no map for images of any size|not a map"),
    ],
)
def test_timm_models_that_are_no_trunks(model: str, problem: str) -> None:
    pytest.importorskip("timm")
    with torch.device("meta"), pytest.raises(ValueError, match=rf"^model='{model}': .*({problem})"):
        timm_trunk(model)


def test_timm_weights_that_do_not_fit(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"weights=.* does not fit this backbone"):
        timm_trunk("test_resnet", saved({"a": torch.zeros(1)}, tmp_path / "a.pt"))
