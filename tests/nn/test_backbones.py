from __future__ import annotations

import pytest
import torch
from torch import nn

from sppcls.nn import (
    NORMS,
    PAPER_BACKBONES,
    Backbone,
    LRNAcrossChannels,
    LRNWithinChannel,
    convnet_star5,
    overfeat5,
    overfeat7,
    paper_backbone,
    zf5,
)
from sppcls.nn.backbones import output_shape

# He et al. 2015, Table 1: (channels, kernel, stride) of each convolution.
TABLE_1 = {
    "zf5": [(96, 7, 2), (256, 5, 2), (384, 3, 1), (384, 3, 1), (256, 3, 1)],
    "convnet_star5": [(96, 11, 4), (256, 5, 1), (384, 3, 1), (384, 3, 1), (256, 3, 1)],
    "overfeat5": [(96, 7, 2), (256, 5, 1), (512, 3, 1), (512, 3, 1), (512, 3, 1)],
    "overfeat7": [(96, 7, 2), (256, 5, 1), *[(512, 3, 1)] * 5],
}
BUILDERS = {"zf5": zf5, "convnet_star5": convnet_star5, "overfeat5": overfeat5, "overfeat7": overfeat7}
names = pytest.mark.parametrize("name", PAPER_BACKBONES)


def convolutions(backbone: Backbone) -> list[nn.Conv2d]:
    return [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]


@names
def test_convolutions_of_table_1(name: str) -> None:
    with torch.device("meta"):
        backbone = BUILDERS[name]()
    convs = convolutions(backbone)
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs] == TABLE_1[name]
    assert backbone.out_channels == TABLE_1[name][-1][0]
    # A ReLU follows each.
    kinds = [type(module) for module in backbone.layers.children()]
    assert all(kinds[i + 1] is nn.ReLU for i, kind in enumerate(kinds) if kind is nn.Conv2d)


# Sizes after each layer that changes them, at 224: Table 1 prints 55, 27, 13; 55, 27, 13; 36, 18.
@pytest.mark.parametrize(
    ("name", "at_224", "at_180"),
    [
        ("zf5", [110, 55, 27, 13], [88, 44, 21, 10]),
        ("convnet_star5", [55, 27, 13], [44, 21, 10]),
        ("overfeat5", [109, 36, 18], [87, 29, 14]),
        ("overfeat7", [109, 36, 18], [87, 29, 14]),
    ],
)
def test_map_sizes_of_table_1(name: str, at_224: list[int], at_180: list[int]) -> None:
    backbone = paper_backbone(name, width=1 / 32)
    for side, expected in ((224, at_224), (180, at_180)):
        seen = []
        x = torch.zeros(1, 3, side, side)
        for layer in backbone.layers.children():
            x = layer(x)
            assert x.shape[2] == x.shape[3]
            if not seen or seen[-1] != x.shape[2]:
                seen.append(x.shape[2])
        assert seen == expected
        assert backbone.feature_size(side, side) == (expected[-1], expected[-1])


@pytest.mark.parametrize(
    ("name", "at_180"), [("zf5", 5), ("convnet_star5", 4), ("overfeat5", 4), ("overfeat7", 4)]
)
def test_last_pooling(name: str, at_180: int) -> None:
    backbone = paper_backbone(name, width=1 / 32)
    assert backbone.pooled_size(224, 224) == (6, 6)
    assert backbone.pooled_size(180, 180) == (at_180, at_180)
    x = torch.zeros(1, 3, 180, 224)
    assert backbone.last_pool(backbone(x)).shape[2:] == backbone.pooled_size(180, 224) == (at_180, 6)


@names
def test_feature_size_is_that_of_the_map(name: str) -> None:
    backbone = paper_backbone(name, width=1 / 32)
    assert (
        backbone.feature_size(0, 50)
        == backbone.feature_size(5, 300)
        == backbone.pooled_size(5, 300)
        == (0, 0)
    )
    smallest = next(side for side in range(1, 99) if backbone.feature_size(side, side) != (0, 0))
    with pytest.raises(RuntimeError):
        backbone(torch.zeros(1, 3, smallest - 1, smallest - 1))
    for height, width in [(smallest, smallest), (97, 131), (301, 64), (256, 255)]:
        assert backbone(torch.zeros(1, 3, height, width)).shape[2:] == backbone.feature_size(height, width)


@pytest.mark.parametrize(
    ("name", "receptive_field", "stride"),
    [("zf5", 139, 16), ("convnet_star5", 131, 16), ("overfeat5", 113, 12), ("overfeat7", 161, 12)],
)
def test_stride_and_receptive_field(name: str, receptive_field: int, stride: int) -> None:
    backbone = paper_backbone(name, width=1 / 32, norm="none").double()
    for conv in convolutions(backbone):
        nn.init.constant_(conv.weight, 1 / conv.weight[0].numel())
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    for module in backbone.modules():
        if isinstance(module, nn.MaxPool2d):
            # An average has the windows of a maximum, and lets every pixel through.
            module.forward = lambda x, m=module: nn.functional.avg_pool2d(  # type: ignore[method-assign]
                x, m.kernel_size, m.stride, ceil_mode=m.ceil_mode
            )
    x = torch.ones(1, 3, 400, 400, dtype=torch.float64, requires_grad=True)
    map_ = backbone(x)
    middle = map_.shape[2] // 2
    touched = []
    for cell in (middle, middle + 1):
        (gradient,) = torch.autograd.grad(map_[0, 0, cell, cell], x, retain_graph=True)
        touched.append(gradient[0, 0].sum(0).nonzero().flatten())
    assert [int(pixels[-1] - pixels[0]) + 1 for pixels in touched] == [receptive_field] * 2
    assert int(touched[1][0] - touched[0][0]) == backbone.stride == stride


@names
@pytest.mark.parametrize("norm", NORMS)
def test_norms(name: str, norm: str) -> None:
    backbone = paper_backbone(name, width=1 / 16, norm=norm)
    kinds = [type(module) for module in backbone.layers.children()]
    convs = convolutions(backbone)
    if norm == "batch":
        assert kinds.count(nn.BatchNorm2d) == len(convs)
        assert all(conv.bias is None for conv in convs)
        i = kinds.index(nn.BatchNorm2d)
        assert kinds[i - 1 : i + 2] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    else:
        assert nn.BatchNorm2d not in kinds
        assert all(conv.bias is not None for conv in convs)
    lrn = {"lrn_within": LRNWithinChannel, "lrn_across": LRNAcrossChannels}.get(norm)
    lrns = [i for i, kind in enumerate(kinds) if kind in (LRNWithinChannel, LRNAcrossChannels)]
    if lrn is None:
        assert lrns == []
    elif name.startswith("overfeat"):  # Table 1: after the first pooling only
        assert [kinds[i - 1 : i + 1] for i in lrns] == [[nn.MaxPool2d, lrn]]
    else:  # after the first two ReLUs, before any pooling
        assert [kinds[i - 1 : i + 1] for i in lrns] == [[nn.ReLU, lrn]] * 2
    x = torch.randn(2, 3, 120, 100).contiguous(memory_format=torch.channels_last)
    map_ = backbone.to(memory_format=torch.channels_last)(x)
    assert map_.is_contiguous(memory_format=torch.channels_last)
    map_.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_default_norm_is_the_one_of_the_original() -> None:
    assert any(isinstance(module, LRNWithinChannel) for module in zf5(1 / 32).modules())
    for build in (convnet_star5, overfeat5, overfeat7):
        assert any(isinstance(module, LRNAcrossChannels) for module in build(1 / 32).modules())


@pytest.mark.parametrize(
    ("width", "channels"), [(0.25, [24, 64, 96, 96, 64]), (0.5, [48, 128, 192, 192, 128]), (1e-3, [8] * 5)]
)
def test_width(width: float, channels: list[int]) -> None:
    backbone = zf5(width)
    assert [conv.out_channels for conv in convolutions(backbone)] == channels
    assert backbone.out_channels == channels[-1]


def test_asking_for_sizes_changes_nothing() -> None:
    backbone = zf5(1 / 16, norm="batch")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    random_state = torch.get_rng_state()
    backbone.feature_size(224, 224)
    backbone.pooled_size(224, 224)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_refuses_bad_arguments() -> None:
    with pytest.raises(
        ValueError, match="name='vgg99': choose from zf5, convnet_star5, overfeat5, overfeat7"
    ):
        paper_backbone("vgg99")
    with pytest.raises(ValueError, match="norm='layer': choose from lrn_within, lrn_across, batch, none"):
        zf5(norm="layer")
    for width in (0, -1.0, float("nan"), float("inf"), "1", None, True):
        with pytest.raises(ValueError, match=f"width={width!r}: must be "):
            zf5(width)  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_of_other_channels_is_noticed_from_the_sizes(training: bool) -> None:
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8))
    assert output_shape(layers.train(training), (31, 17)) == (2, 8, 15, 8)
    assert layers[1].num_batches_tracked == 0
    layers[1] = nn.BatchNorm2d(4)
    with pytest.raises(RuntimeError):
        output_shape(layers.train(training), (31, 17))
