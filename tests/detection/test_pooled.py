"""Windows on maps: the scale of each, its cells and its vector, against hand counts, crops and torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from region_nets import make_net

from sppcls.data.stream import resize_whole, whole_size
from sppcls.data.transforms import prepare_batch
from sppcls.detection.pooled import RegionRules, Regions, unique_cells
from sppcls.detection.range_max import pool_max
from sppcls.detection.scales import SCALES, choose_scale, parse_scales
from sppcls.errors import ConfigError
from sppcls.evaluation.mapping import WINDOW_RULES, first_center, window_cells
from sppcls.nn import Pyramid, spatial_pyramid_pool2d


def some_boxes(size: tuple[int, int], count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sides = rng.uniform(3, [size[1], size[0]], (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * ([size[1], size[0]] - sides)
    return np.hstack([corners, corners + sides])


def test_the_scale_of_a_window_by_hand() -> None:
    # A 500 x 375 photo; at 688 everything is 1.835 times as large.
    boxes = np.array([[0, 0, 175, 175], [0, 0, 122, 122], [0, 0, 70, 70], [0, 0, 300, 300]])
    assert choose_scale(boxes, (375, 500), SCALES["five"]).tolist() == [0, 2, 4, 0]
    # 100 and 4,900 square pixels are as far from 2,500: the smaller scale.
    ten = np.array([[0, 0, 10, 10]])
    assert choose_scale(ten, (480, 480), (480, 3360), region=50).tolist() == [0]
    assert choose_scale(ten, (480, 480), (480, 3350), region=50).tolist() == [1]


def test_both_rules_are_their_definitions() -> None:
    sides = np.arange(30, 334)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], 1)
    scales = SCALES["five"]
    ours = {rule: choose_scale(boxes, (333, 500), scales, rule) for rule in ("area", "released")}
    # By the definitions, one window at a time.
    for side, area, released in zip(sides, ours["area"], ours["released"], strict=True):
        distances = [abs((side * s / 333) ** 2 - 224**2) for s in scales]
        assert area == distances.index(min(distances))
        wanted = np.round(208 * 333 / side)
        distances = [abs(wanted - s) for s in scales]
        assert released == distances.index(min(distances))


def test_sizes_of_panoramas_are_those_that_are_made() -> None:
    for size in ((375, 500), (60, 600), (500, 40), (33, 1000)):
        for scale in SCALES["five"]:
            image = torch.zeros(3, *size, dtype=torch.uint8)
            assert whole_size(size, scale) == tuple(resize_whole(image, scale).shape[1:])
    assert whole_size((60, 600), 1200) == (916, 9159)  # 1,200 x 12,000 would be too much


def test_scales_by_name_and_number() -> None:
    assert parse_scales("five") == (480, 576, 688, 864, 1200)
    assert parse_scales("688, 480") == (480, 688)
    for text in ("six", "480,0", "-1", ""):
        with pytest.raises(ConfigError, match="choose from one, five, five_released"):
            parse_scales(text)


@pytest.mark.parametrize("rule", WINDOW_RULES)
def test_cells_are_those_of_the_rule_for_one_window(rule: str, tmp_path: Path) -> None:
    net = make_net(tmp_path)
    # An image of the scale itself, so that windows of whole pixels stay so.
    regions = Regions(net, RegionRules((240,), window_rule=rule))
    boxes = np.round(some_boxes((240, 330), 300))
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    center, stride = first_center(net.backbone), net.backbone.stride
    h, w = net.backbone.feature_size(240, 330)
    for (left, top, right, bottom), found in zip(
        boxes.astype(int), regions.cells(boxes, (240, 330)), strict=True
    ):
        y = window_cells(top, bottom - top, h, stride, center, rule)
        x = window_cells(left, right - left, w, stride, center, rule)
        assert found.tolist() == [0, y[0], x[0], y[1], x[1]]


def test_the_released_rule_is_the_authors_formula(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    regions = Regions(net, RegionRules((480,), window_rule="released"))
    size = (375, 500)
    boxes = np.round(some_boxes(size, 200))
    resized = whole_size(size, 480)
    h, w = net.backbone.feature_size(*resized)
    o0, o, stride = first_center(net.backbone) + 1, 6.5, 16

    def cells(first: float, last: float, side: int, to: int, length: int) -> list[int]:
        first, last = ((edge - 1) * (to - 1) / (side - 1) + 1 for edge in (first, last))
        begin = np.floor((first - o0 + o) / stride + 0.5) + 1
        end = np.ceil((last - o0 - o) / stride - 0.5) + 1
        if begin > end:
            begin = end = np.floor((begin + end) / 2)
        return [int(min(max(begin, 1), length)) - 1, int(min(max(end, 1), length))]

    for (left, top, right, bottom), found in zip(boxes, regions.cells(boxes, size), strict=True):
        rows = cells(top + 1, bottom, size[0], resized[0], h)
        columns = cells(left + 1, right, size[1], resized[1], w)
        assert found.tolist() == [0, rows[0], columns[0], rows[1], columns[1]]


@pytest.mark.parametrize("levels", [[6, 3, 2, 1], [(1, 2), 4], [5]])
def test_range_maxima_are_those_of_torchvisions_roi_pool(levels: list[Any]) -> None:
    x = torch.randn(8, 21, 34)
    rng = np.random.default_rng(0)
    sides = np.stack([rng.integers(1, 22, 400), rng.integers(1, 35, 400)], 1)
    corners = rng.integers(0, [22, 35] - sides)
    cells = np.hstack([corners, corners + sides])
    rois = np.stack([0 * sides[:, 0], cells[:, 1], cells[:, 0], cells[:, 3] - 1, cells[:, 2] - 1], 1)
    expected = [
        torchvision.ops.roi_pool(x[None], torch.from_numpy(rois).float(), level, 1.0).flatten(1)
        for level in Pyramid(levels).levels
    ]
    assert torch.equal(pool_max(x, cells, Pyramid(levels)), torch.cat(expected, 1))


@pytest.mark.parametrize(("backbone", "mode", "bin_rule"),
                         [("zf5", "max", "adaptive"), ("zf5", "avg", "adaptive"), ("zf5", "max", "padded"),
                          ("resnet18", "max", "adaptive")])  # fmt: skip
@pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")
def test_a_window_is_pooled_as_the_crop_of_its_map(
    backbone: str, mode: str, bin_rule: str, tmp_path: Path
) -> None:
    net = make_net(tmp_path, backbone=backbone, mode=mode, bin_rule=bin_rule)
    regions = Regions(net, RegionRules((120, 200), region=60))
    image = torch.randint(0, 256, (3, 90, 140), dtype=torch.uint8)
    boxes = some_boxes((90, 140), 60)
    maps, cells = regions.maps(image), regions.cells(boxes, (90, 140))
    assert set(cells[:, 0]) == {0, 1}
    pooled = regions.pool(maps, cells)
    for row, (scale, top, left, bottom, right) in zip(pooled, cells, strict=True):
        crop = maps[scale][None, :, top:bottom, left:right].float()
        expected = spatial_pyramid_pool2d(crop, [3, 2, 1], mode, bin_rule)
        torch.testing.assert_close(row, expected[0], rtol=1e-5, atol=1e-6)


def test_the_whole_image_as_a_window_is_what_the_network_sees(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    regions = Regions(net, RegionRules((120,)))
    image = torch.randint(0, 256, (3, 90, 140), dtype=torch.uint8)
    maps = regions.maps(image)
    whole = np.array([[0, 0, 0, *maps[0].shape[1:]]])
    pooled = regions.pool(maps, whole)
    small = resize_whole(image, 120)[None]
    x = prepare_batch(small, tuple(small.shape[2:]), net.model_info["mean"], net.model_info["std"])
    with torch.no_grad():
        expected = net.features(x)
        logits = net(x)
    for layer in ("spp", "fc6", "fc7"):
        # Maps are kept with 11 bits.
        torch.testing.assert_close(regions.layer(pooled, layer), expected[layer], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(regions.probabilities(pooled), logits.softmax(1), rtol=2e-3, atol=2e-3)


def test_windows_of_equal_cells_are_one() -> None:
    cells = np.array([[0, 1, 1, 5, 5], [1, 1, 1, 5, 5], [0, 1, 1, 5, 5], [0, 0, 1, 5, 5], [1, 1, 1, 5, 5]])
    unique, inverse = unique_cells(cells)
    assert unique.tolist() == cells[[0, 1, 3]].tolist()
    assert (unique[inverse] == cells).all()


def test_networks_and_settings_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no pyramid"):
        Regions(make_net(tmp_path, levels=None), RegionRules())
    net = make_net(tmp_path)
    with pytest.raises(ConfigError, match="scale 5: this network needs"):
        Regions(net, RegionRules((5,)))
    with pytest.raises(ConfigError, match="choose from appendix, report, released"):
        RegionRules(window_rule="none")
    with pytest.raises(ConfigError, match="layer 'fc8': this network has spp, fc6, fc7"):
        Regions(net, RegionRules((96,))).check_layer("fc8")
