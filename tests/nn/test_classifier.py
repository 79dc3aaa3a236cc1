from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sppcls.nn import SpatialPyramidPooling2d, SPPClassifier, build_classifier, pool_windows

pytestmark = pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")


def small(
    levels: Any = (6, 3, 2, 1),
    head: str = "fc",
    name: str = "zf5",
    input_size: tuple[int, int] = (224, 224),
    **pyramid: Any,
) -> SPPClassifier:
    torch.manual_seed(0)
    backbone: dict[str, Any] = {"name": name}
    if name == "zf5":
        backbone["width"] = 1 / 16
    return build_classifier(
        backbone=backbone,
        pyramid={"levels": levels, **pyramid},
        head={"name": head, "hidden": [] if head == "linear" else [12, 9], "dropout": 0.5},
        num_classes=7,
        input_size=input_size,
    ).eval()


@pytest.mark.parametrize("size", [(224, 224), (180, 180), (97, 301), (64, 64)])
def test_one_network_takes_any_size(size: tuple[int, int]) -> None:
    net = small()
    images = torch.randn(2, 3, *size)
    logits = net(images)
    assert logits.shape == (2, 7)
    assert torch.equal(logits, net.forward_head(net.forward_pool(net.forward_features(images))))
    logits.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_features_by_layer() -> None:
    net = small()
    images = torch.randn(2, 3, 180, 224)
    features = net.features(images)
    assert {name: tuple(tensor.shape) for name, tensor in features.items()} == {
        "map": (2, 16, 10, 13),
        "spp": (2, 800),
        "fc6": (2, 12),
        "fc7": (2, 9),
        "logits": (2, 7),
    }
    assert torch.equal(features["logits"], net(images))
    assert all((features[name] >= 0).all() for name in ("map", "spp", "fc6", "fc7"))
    assert torch.equal(features["spp"], net.forward_pool(net.forward_features(images)))


def test_a_fully_convolutional_net_has_no_pooled_vector() -> None:
    features = small(levels=None, head="conv").features(torch.randn(2, 3, 180, 224))
    assert {name: tuple(tensor.shape) for name, tensor in features.items()} == {
        "map": (2, 16, 10, 13),
        "fc6": (2, 12, 10, 13),
        "fc7": (2, 9, 10, 13),
        "logits": (2, 7),
    }


def test_a_net_without_a_pyramid_still_has_a_pooled_vector() -> None:
    features = small(levels=None).features(torch.randn(2, 3, 224, 224))
    assert features["spp"].shape == (2, 16 * 6 * 6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_memory_format_does_not_matter(memory_format: torch.memory_format) -> None:
    net, images = small(), torch.randn(2, 3, 130, 97)
    expected = net(images)
    moved = net.to(memory_format=memory_format)(images.contiguous(memory_format=memory_format))  # type: ignore
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-5)


def test_autocast() -> None:
    net, images = small(), torch.randn(2, 3, 130, 97)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net(images)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), net(images), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_windows_are_classified_like_crops_of_the_map(mode: str) -> None:
    net = small(mode=mode)
    map_ = net.forward_features(torch.randn(2, 3, 200, 260))
    windows = torch.tensor([(0, 0, 0, 8, 9), (1, 2, 3, 11, 15), (0, 1, 1, 9, 10), (1, 0, 0, *map_.shape[2:])])
    expected = [
        net.forward_head(net.forward_pool(map_[i : i + 1, :, top:bottom, left:right]))
        for i, top, left, bottom, right in windows.tolist()
    ]
    torch.testing.assert_close(net.forward_windows(map_, windows), torch.cat(expected))


def test_windows_of_a_fully_convolutional_net() -> None:
    net = small(levels=None, head="conv")
    images = torch.randn(1, 3, 200, 260)
    map_ = net.forward_features(images)
    windows = torch.tensor([(0, 0, 0, 3, 5), (0, 0, 0, *map_.shape[2:])])
    expected = torch.cat([net.forward_head(map_[:, :, :3, :5]), net(images)])
    torch.testing.assert_close(net.forward_windows(map_, windows), expected)


def test_windows_need_a_pyramid() -> None:
    net = small(levels=None)
    with pytest.raises(ValueError, match="need a pyramid"):
        net.forward_windows(torch.zeros(1, 16, 13, 13), torch.tensor([(0, 0, 0, 5, 5)]))


def test_without_a_pyramid_the_size_is_fixed() -> None:
    net = small(levels=None)
    assert net(torch.zeros(1, 3, 224, 224)).shape == (1, 7)
    assert net.min_input_size == 224
    for height, width in [(180, 180), (224, 225), (448, 224)]:
        for refuse in (net.check_input_size, lambda *size: net(torch.zeros(1, 3, *size))):
            with pytest.raises(ValueError, match=f"input_size={height}x{width}: .* takes 224x224 only"):
                refuse(height, width)


@pytest.mark.parametrize(("name", "head"), [("resnet18", "linear"), ("zf5", "conv")])
def test_without_a_pyramid_some_nets_take_any_size(name: str, head: str) -> None:
    net = small(levels=None, head=head, name=name)
    for size in [(224, 224), (64, 97)]:
        net.check_input_size(*size)
        assert net(torch.zeros(1, 3, *size)).shape == (1, 7)


def test_images_that_are_too_small() -> None:
    net = small()
    side = net.min_input_size
    assert net(torch.zeros(1, 3, side, side)).shape == (1, 7)
    for refuse in (net.check_input_size, lambda *size: net(torch.zeros(1, 3, *size))):
        with pytest.raises(
            ValueError, match=rf"{side - 1}x300: too small for zf5.* square is {side}x{side}$"
        ):
            refuse(side - 1, 300)


@pytest.mark.parametrize("shape", [(3, 224, 224), (224, 224), (1, 1, 3, 224, 224)])
@pytest.mark.parametrize("levels", [None, (3, 1)])
def test_images_come_in_batches(levels: Any, shape: tuple[int, ...]) -> None:
    net = small(levels)
    for call in (net, net.features):
        with pytest.raises(ValueError, match=r"batch of images \(N, 3, H, W\), got \(") as caught:
            call(torch.zeros(shape))
        assert str(shape) in str(caught.value)


def test_the_smallest_image_of_large_levels() -> None:
    net = small(levels=(80,), head="linear", input_size=(1400, 1400), bin_rule="sliding")
    side = net.min_input_size
    assert side > 1024
    assert net.backbone.feature_size(side, side) == (80, 80)
    net.check_input_size(side, side)
    with pytest.raises(ValueError, match=f"the smallest square is {side}x{side}$"):
        net.check_input_size(side - 1, side - 1)


def test_the_smallest_image_may_be_one_pixel() -> None:
    net = small([1], name="resnet18")
    assert net.min_input_size == 1
    net.check_input_size(1, 1)
    assert net(torch.zeros(1, 3, 1, 1)).shape == (1, 7)


def test_levels_that_no_image_has_enough_cells_for() -> None:
    pool = SpatialPyramidPooling2d([1 << 18], bin_rule="sliding")
    net = SPPClassifier(small().backbone, pool, nn.Identity())
    with pytest.raises(ValueError, match=r"^no square image can be classified; no square will do$"):
        _ = net.min_input_size
    with pytest.raises(ValueError, match=r"^input_size=500x500: level .*; no square will do$"):
        net.check_input_size(500, 500)


def test_a_fixed_size_that_is_not_square_has_no_smallest_square() -> None:
    net = small(levels=None, input_size=(224, 320))
    net.check_input_size(224, 320)
    with pytest.raises(ValueError, match="no square image .* takes 224x320 only"):
        _ = net.min_input_size
    with pytest.raises(ValueError, match="input_size=224x224: .* takes 224x320 only"):
        net.check_input_size(224, 224)


def test_sliding_bins_need_a_map_as_large_as_the_level() -> None:
    net = small(bin_rule="sliding")
    side = net.min_input_size
    assert net.backbone.feature_size(side, side) == (6, 6)
    assert net(torch.zeros(1, 3, side, side)).shape == (1, 7)
    with pytest.raises(
        ValueError, match=rf"input_size={side - 1}x{side - 1}: level 6x6 .* got 5x5; the smallest"
    ):
        net.check_input_size(side - 1, side - 1)
    with pytest.raises(ValueError, match="level 6x6 with bin_rule='sliding'"):
        net(torch.zeros(1, 3, side - 1, side - 1))


def test_other_errors_of_torch_pass_through() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        small()(torch.zeros(1, 1, 224, 224))


def test_inner_hooks_see_real_images_only() -> None:
    net = small()
    seen = []
    conv = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    conv.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].device.type))
    for side in (224, 180, 100):
        net(torch.zeros(1, 3, side, side))
    assert seen == ["cpu"] * 3


def test_windows_of_the_whole_map_equal_the_image() -> None:
    net, images = small(), torch.randn(1, 3, 224, 180)
    map_ = net.forward_features(images)
    whole = torch.tensor([(0, 0, 0, 13, 10)])
    assert torch.equal(pool_windows(map_, whole, net.pool.levels), net.forward_pool(map_))  # type: ignore
    torch.testing.assert_close(net.forward_windows(map_, whole), net(images))
