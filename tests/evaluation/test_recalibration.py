"""Which images recalibrating uses, and what it leaves behind; the statistics themselves: test_evaluate.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sppcls.data import EvalTransform, FileSource
from sppcls.errors import ConfigError, DataError
from sppcls.evaluation.recalibration import batch_norms, recalibrate
from sppcls.nn import SpatialPyramidPooling2d, SPPClassifier, build_classifier

CARD = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "classes": ["a", "b"]}


def small_net(**norm: bool) -> SPPClassifier:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4, momentum=0.3, **norm), nn.ReLU())
    return SPPClassifier(trunk, SpatialPyramidPooling2d([2, 1]), nn.Linear(20, 2)).eval()


@pytest.fixture
def photos(tmp_path: Path) -> FileSource:
    """Seven images of noise, each brighter than the one before."""
    rng = np.random.default_rng(0)
    for number in range(7):
        pixels = rng.integers(0, 60, (50, 60, 3), dtype=np.uint8) + 30 * number
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
    return FileSource(tmp_path, [f"{number}.png" for number in range(7)], [0] * 7, ["a", "b"])


def mean_of(net: SPPClassifier, photos: FileSource, numbers: list[int]) -> np.ndarray:
    """Means of the first layer's outputs, over all pixels of these images."""
    mean, std = (torch.tensor(CARD[key]).view(3, 1, 1) for key in ("mean", "std"))
    views = torch.stack([EvalTransform((40, 40))(photos.image(i)) for i in numbers])
    with torch.no_grad():
        return net.backbone.layers[0]((views / 255 - mean) / std).mean((0, 2, 3)).numpy()


def recalibrated(net: SPPClassifier, photos: FileSource, **options: int) -> int:
    return recalibrate(net, photos, (40, 40), model_info=CARD, **options)


def assert_as_before(net: SPPClassifier) -> None:
    assert not any(module.training for module in net.modules())
    assert net.backbone.layers[1].momentum == 0.3


def test_no_more_images_than_there_are_and_each_once(photos: FileSource) -> None:
    net = small_net()
    assert recalibrated(net, photos, images=500, batch_size=7) == 7
    np.testing.assert_allclose(
        net.backbone.layers[1].running_mean, mean_of(net, photos, [*range(7)]), rtol=1e-4
    )
    # Three of them are spread over all.
    assert recalibrated(net, photos, images=3, batch_size=7) == 3
    np.testing.assert_allclose(
        net.backbone.layers[1].running_mean, mean_of(net, photos, [0, 2, 4]), rtol=1e-4
    )
    assert_as_before(net)


def test_two_full_batches_are_two_and_the_rest_joins_the_last(photos: FileSource) -> None:
    net = small_net()
    for batch, parts in (
        (3, [[0, 1, 2], [3, 4, 5, 6]]),
        (2, [[0, 1], [2, 3], [4, 5, 6]]),
        (4, [[*range(7)]]),
    ):
        assert recalibrated(net, photos, batch_size=batch) == 7
        expected = np.mean([mean_of(net, photos, part) for part in parts], axis=0)
        np.testing.assert_allclose(net.backbone.layers[1].running_mean, expected, rtol=1e-4)
    assert len(photos) == 7


def test_unreadable_images_are_left_out(photos: FileSource, tmp_path: Path) -> None:
    net = small_net()
    for number in (1, 4):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    assert recalibrated(net, photos) == 5
    np.testing.assert_allclose(
        net.backbone.layers[1].running_mean, mean_of(net, photos, [0, 2, 3, 5, 6]), rtol=1e-4
    )
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="^recalibrating: no training image could be read$"):
        recalibrated(net, photos)
    assert_as_before(net)


def test_layers_without_running_statistics_do_not_count(photos: FileSource) -> None:
    assert batch_norms(net := small_net()) == [net.backbone.layers[1]]
    with pytest.raises(ConfigError, match="^recalibrating: this network has no batch norm$"):
        recalibrated(small_net(track_running_stats=False), photos)


def test_a_size_that_the_network_cannot_take_is_one_line(photos: FileSource) -> None:
    net = build_classifier(
        backbone={"name": "zf5", "width": 0.1, "norm": "batch"},
        pyramid={"levels": None},
        head={"name": "linear"},
        num_classes=2,
        input_size=(96, 96),
    ).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ConfigError, match="96x96"):
        recalibrated(net, photos)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
