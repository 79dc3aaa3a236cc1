"""Windows to cells: the published formulas, and receptive fields measured by gradients."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from sppcls.evaluation.mapping import first_center, window_cells
from sppcls.nn import paper_backbone, torchvision_trunk


def measured_center(backbone) -> float:
    """Middle of what a cell can see, less its strides: by the gradient of a copy with one channel, linear, positive."""
    layers = copy.deepcopy(backbone.layers).double()
    for parent in list(layers.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MaxPool2d):
                pads = {"ceil_mode": child.ceil_mode, "padding": child.padding}
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, **pads))
            elif isinstance(child, nn.Conv2d):
                conv = nn.Conv2d(1, 1, child.kernel_size, child.stride, child.padding, bias=False)
                nn.init.constant_(conv.weight, 1 / conv.weight.numel())
                setattr(parent, name, conv.double())
            elif not list(child.children()) and not isinstance(child, nn.AvgPool2d):
                setattr(parent, name, nn.Identity())
    side = 40 * backbone.stride
    x = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    feature_map = layers(x)
    cell = feature_map.shape[3] // 2  # far from the borders, which would cut the field
    feature_map[0, 0, cell, cell].backward()
    seen = x.grad[0, 0].sum(0).nonzero().flatten()
    return (int(seen[0]) + int(seen[-1])) / 2 - cell * backbone.stride


@pytest.mark.parametrize(
    ("name", "expected"),
    # paper.md of the field: first centres with the paddings that reach the maps of Table 1.
    [("zf5", 16), ("convnet_star5", 15), ("overfeat5", 8), ("overfeat7", 8)],
)
def test_first_center_of_the_papers_networks(name, expected):
    backbone = paper_backbone(name, width=0.1, norm="none")
    assert first_center(backbone) == expected
    assert measured_center(backbone) == expected


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18"])
def test_first_center_of_other_backbones(name):
    backbone = torchvision_trunk(name)
    assert first_center(backbone) == measured_center(backbone)


def published_report(x1, x2):
    """v2 of the paper, appendix A.1: ZF-5 with the released paddings; everything counts from 1."""
    return math.floor((x1 - 139 / 2 + 63) / 16) + 1, math.ceil((x2 + 139 / 2 - 75) / 16) - 1


def published_code(x1, x2, offset0=21, offset=6.5, stride=16):
    """The released code; everything counts from 1."""
    left = math.floor((x1 - offset0 + offset) / stride + 0.5) + 1
    return left, math.ceil((x2 - offset0 - offset) / stride - 0.5) + 1


@pytest.mark.parametrize(("rule", "formula"), [("report", published_report), ("released", published_code)])
def test_the_two_formulas_with_numbers(rule, formula):
    cells = 200
    differing = 0
    for x1 in range(1, 2001):
        for length in (224, 300):
            left, right = formula(x1, x1 + length - 1)
            expected = (min(max(left, 1), cells) - 1, min(max(right, 1), cells))
            # The released model's first cell is centred on pixel 21, counted from 1.
            assert window_cells(x1 - 1, length, cells, 16, 20.0, rule) == expected
        differing += published_report(1, x1)[1] != published_code(1, x1)[1]
    assert differing == 250


@pytest.mark.parametrize(("stride", "spans"), [(16, {13, 14}), (12, {18, 19})])
def test_appendix_windows_of_224_span_the_training_map(stride, spans):
    found = set()
    for start in range(1000):
        first, stop = window_cells(start, 224, 10_000, stride, 0.0, "appendix")
        inside = [i for i in range(200) if start < stride * i < start + 223]
        assert (first, stop) == (inside[0], inside[-1] + 1)
        found.add(stop - first)
    assert found == spans


@pytest.mark.parametrize("rule", ["appendix", "report", "released"])
def test_small_windows_and_borders_give_a_cell_of_the_map(rule):
    for cells in (1, 2, 13):
        for start in range(220):
            for length in (1, 5, 16, 31):
                first, stop = window_cells(start, length, cells, 16, 16.0, rule)
                assert 0 <= first < stop <= cells
    # A window of one pixel on the centre of a cell is that cell, and so is its neighbourhood.
    assert window_cells(16 + 16 * 5, 1, 13, 16, 16.0, rule) in [(5, 6), (4, 5)]
