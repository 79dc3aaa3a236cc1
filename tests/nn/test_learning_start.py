"""Networks start at the loss of guessing, and learn at the default settings of SGD, whatever the pyramid."""

from __future__ import annotations

import math

import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from sppcls.config.compose import conf_dir
from sppcls.config.schema import default_values
from sppcls.nn import ConvHead, FCHead, SPPClassifier, build_classifier, spatial_pyramid_pool2d
from sppcls.nn.init import init_head

CLASSES = 4
SIDE = 64


def choices(group: str) -> dict[str, dict]:
    files = sorted((conf_dir() / group).glob("*.yaml"))
    return {file.stem: default_values()[group] | yaml.safe_load(file.read_text()) for file in files}


BACKBONES = {name: values for name, values in choices("backbone").items() if name != "timm"}
PYRAMIDS = choices("pyramid")
HEADS = choices("head")


def build(backbone: str, pyramid: str, head: str, init: str = "modern") -> SPPClassifier:
    torch.manual_seed(0)
    return build_classifier(
        backbone=BACKBONES[backbone],
        pyramid=PYRAMIDS[pyramid],
        head=HEADS[head],
        num_classes=CLASSES,
        input_size=(SIDE, SIDE),
        init=init,
    )


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_network_starts_at_the_loss_of_guessing(backbone: str) -> None:
    """The heads are made for one map, as to build each trunk ten times takes minutes."""
    net = build(backbone, "l1", "linear").train()
    images = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    feature_map = net.forward_features(images)
    pairs = [(pyramid, head) for pyramid in PYRAMIDS for head in ("linear", "fc_small")]
    for pyramid, name in [*pairs, ("l1", "fc"), ("none", "conv")]:
        levels, settings = PYRAMIDS[pyramid]["levels"], HEADS[name]
        x = feature_map if name == "conv" else net.backbone.last_pool(feature_map).flatten(1)
        if levels is not None:
            x = spatial_pyramid_pool2d(feature_map, levels)
        kind = ConvHead if name == "conv" else FCHead
        head = kind(x.shape[1], settings["hidden"], CLASSES, settings["dropout"])
        init_head(head, "modern", net.backbone.name)
        loss = F.cross_entropy(head(x), torch.arange(4)).item()
        assert abs(loss - math.log(CLASSES)) < 0.5, (pyramid, name)


def batch(generator: torch.Generator, count: int = 16) -> tuple[Tensor, Tensor]:
    """Blurred noise in the colour of its class: an easy task."""
    colours = torch.tensor([[1.0, -0.5, 0.0], [-0.5, 1.0, 0.0], [0.0, -0.5, 1.0], [0.7, 0.7, -1.0]])
    target = torch.randint(CLASSES, (count,), generator=generator)
    coarse = F.interpolate(torch.randn(count, 3, 8, 8, generator=generator), size=SIDE, mode="bilinear")
    fine = torch.randn(count, 3, SIDE, SIDE, generator=generator)
    return 0.7 * coarse + 0.4 * fine + 0.8 * colours[target][:, :, None, None], target


@pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")
@pytest.mark.parametrize(
    ("backbone", "pyramid", "head", "steps"),
    [
        ("resnet18", "l4321", "linear", 15),
        pytest.param("zf5", "l4321", "linear", 15, marks=pytest.mark.long),
        ("zf5_small", "l6321", "linear", 25),
        pytest.param("zf5_small", "l6321", "fc_small", 25, marks=pytest.mark.long),
        ("alexnet", "l4321", "linear", 20),
        ("mobilenet_v3_small", "l4321", "linear", 25),
        ("resnet18", "l6321", "fc_small", 25),
    ],
)
def test_networks_learn_an_easy_task_with_sgd(backbone: str, pyramid: str, head: str, steps: int) -> None:
    net = build(backbone, pyramid, head).train()
    settings = choices("optimizer")["sgd"]
    sgd = torch.optim.SGD(
        net.parameters(),
        lr=settings["lr"],
        momentum=settings["momentum"],
        weight_decay=settings["weight_decay"],
    )
    generator = torch.Generator().manual_seed(1)
    losses = []
    for step in range(steps):
        for group in sgd.param_groups:
            group["lr"] = settings["lr"] * min(1, (step + 1) / 10)
        images, target = batch(generator)
        loss = F.cross_entropy(net(images), target)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    guessing = math.log(CLASSES)
    assert max(losses) < 2 * guessing
    assert sum(losses[-3:]) / 3 < 0.8 * guessing


@pytest.mark.parametrize(
    ("backbone", "pyramid", "head", "inputs"),
    [
        ("zf5_small", "l6321", "linear", 50 * 64),
        ("zf5_small", "l6321", "fc_small", 256),  # of fc8; those of fc6 count 3200 x 256 x 0.01^2 = 82
        ("resnet18", "l6321", "fc_small", 50 * 512 * 256 / 100**2),
        ("zf5_small", "none", "conv", 512),
    ],
)
def test_the_scale_by_hand(backbone: str, pyramid: str, head: str, inputs: float) -> None:
    scale = build(backbone, pyramid, head).head.input_scale
    assert scale.item() == pytest.approx(math.sqrt(50 * CLASSES / inputs))


def test_a_short_vector_is_not_scaled_up() -> None:
    assert build("zf5_small", "l1", "linear").head.input_scale == 1  # 64 values


@pytest.mark.parametrize("head", HEADS)
def test_the_scale_multiplies_what_the_head_takes(head: str) -> None:
    net = build("zf5_small", "none" if head == "conv" else "l321", head).eval()
    pooled = net.forward_pool(net.forward_features(torch.randn(2, 3, SIDE, SIDE)))
    scale = float(net.head.input_scale)
    activations = net.head.activations(pooled)
    net.head.input_scale.fill_(1.0)
    torch.testing.assert_close(activations["logits"], net.forward_head(pooled * scale))
    for name, expected in net.head.activations(pooled * scale).items():
        torch.testing.assert_close(activations[name], expected)


def test_the_papers_start_has_no_scale() -> None:
    assert build("zf5", "l321", "fc_small", init="paper").head.input_scale == 1


def test_weights_saved_before_there_was_a_scale_keep_their_outputs() -> None:
    net = build("zf5_small", "l321", "linear").eval()
    images = torch.randn(2, 3, SIDE, SIDE)
    old = {name: value for name, value in net.state_dict().items() if name != "head.input_scale"}
    pooled = net.forward_pool(net.forward_features(images))
    expected = F.linear(pooled, old["head.last.weight"], old["head.last.bias"])
    restored = build("zf5_small", "l321", "linear").eval()
    restored.load_state_dict(old)
    torch.testing.assert_close(restored(images), expected)
    assert "head.input_scale" not in old
    # And what is saved now keeps its scale.
    again = build("zf5_small", "l321", "linear", init="paper").eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(images), net(images))


@pytest.mark.parametrize("init", ["modern", "paper"])
def test_alexnet_starts_like_the_papers_networks(init: str) -> None:
    net = build("alexnet", "l1", "linear", init)
    convolutions = [m for m in net.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 5
    for conv in convolutions[1:]:
        gain = math.sqrt(2) if init == "modern" else math.sqrt(1 / 3)  # He et al. 2015; torchvision's own
        assert conv.weight.std().item() == pytest.approx(gain / math.sqrt(conv.weight[0].numel()), rel=0.05)


def test_a_backbone_that_is_loaded_alone_leaves_the_scale_of_a_new_head() -> None:
    net = build("zf5_small", "l6321", "linear")
    before = net.head.input_scale.item()
    assert before < 1
    trunk = {name: value for name, value in net.state_dict().items() if name.startswith("backbone.")}
    missing, _ = net.load_state_dict(trunk, strict=False)
    assert set(missing) == {"head.last.weight", "head.last.bias", "head.input_scale"}
    assert net.head.input_scale.item() == before
