"""Thin fc layers: the best of their rank, exact at full rank, and never saved as the network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from region_nets import make_net

from sppcls.detection.compress import compress_fc, outputs_of
from sppcls.detection.detector import load_detector
from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.detection.proposals import Proposer, propose
from sppcls.detection.scenes import scenes
from sppcls.detection.settings import Settings
from sppcls.detection.train import train_detector
from sppcls.detection.window_set import WindowSet
from sppcls.errors import CheckpointError, ConfigError


def test_a_layer_becomes_the_nearest_one_of_its_rank(tmp_path: Path) -> None:
    net = make_net(tmp_path, hidden=(64, 48))
    before = [net.head.hidden[i][0].weight.detach().numpy().copy() for i in range(2)]
    assert [(layer.name, layer.rank) for layer in compress_fc(net, 10)] == [("fc6", 10), ("fc7", 10)]
    for block, whole in zip(net.head.hidden, before, strict=True):
        first, second = block[0]
        product = (second.weight @ first.weight).detach().numpy()
        assert np.linalg.matrix_rank(product, tol=1e-4) <= 10
        # Eckart-Young: no matrix of the rank is nearer than the singular values that are left out.
        left_out = np.linalg.svd(whole, compute_uv=False)[10:]
        assert np.linalg.norm(product - whole) == pytest.approx(np.linalg.norm(left_out), rel=1e-4)


def test_the_rank_is_the_smallest_that_keeps_the_energy(tmp_path: Path) -> None:
    net = make_net(tmp_path, hidden=(64, 48))
    weights = [net.head.hidden[i][0].weight.detach().double().numpy().copy() for i in range(2)]
    for layer, weight in zip(compress_fc(net, 0.6), weights, strict=True):
        energy = np.linalg.svd(weight, compute_uv=False) ** 2
        kept = energy[: layer.rank].sum() / energy.sum()
        assert layer.energy == pytest.approx(kept, rel=1e-6)
        assert kept >= 0.6 > energy[: layer.rank - 1].sum() / energy.sum()
        rows, columns = weight.shape
        assert layer.faster == pytest.approx(rows * columns / (layer.rank * (rows + columns)))
        assert layer.faster > 1


def test_layers_that_would_not_become_quicker_stay(tmp_path: Path) -> None:
    net = make_net(tmp_path, hidden=(64, 8))
    assert [layer.name for layer in compress_fc(net, 20)] == ["fc6"]
    net = make_net(tmp_path, hidden=(64, 8))
    with pytest.raises(
        ConfigError, match=r"svd 60: makes no layer of this network quicker; choose a rank below 4\d"
    ):
        compress_fc(net, 60)
    for wrong in (0, -1, 2.5, float("nan")):
        with pytest.raises(ConfigError, match=f"svd {wrong:g}: must be a rank of at least 1"):
            compress_fc(net, wrong)


def test_outputs_stay_where_the_rank_suffices(tmp_path: Path) -> None:
    net = make_net(tmp_path, hidden=(64, 48))
    with torch.no_grad():
        for block in net.head.hidden:
            weight = block[0].weight
            weight.copy_(torch.randn(len(weight), 5) @ torch.randn(5, weight.shape[1]) / weight.shape[1])
    regions = Regions(net, RegionRules((120,)))
    pooled = torch.rand(7, regions.pooled_length)
    expected = regions.layer(pooled, "fc7")
    compress_fc(net, 5)
    torch.testing.assert_close(regions.layer(pooled, "fc7"), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def windows(tmp_path: Path) -> WindowSet:
    """A few windows with a layer each of 64 and 48 outputs; fewer than are drawn, so that all count."""
    images = scenes("train", 4)
    regions = Regions(make_net(tmp_path, hidden=(64, 48)), RegionRules((120,), region=96))
    proposed = propose(images, Proposer("grid", 100), tmp_path)
    return WindowSet(images, proposed, regions, KeptMaps(regions, images, tmp_path))


def test_outputs_are_those_of_the_windows(windows: WindowSet) -> None:
    found = outputs_of(windows, "fc7")
    head = windows.regions.net.head
    x = torch.cat([windows.pooled(index) for index in range(4)]) * head.input_scale
    for name, (linear, *_) in zip(("fc6", "fc7"), head.hidden, strict=True):
        with torch.no_grad():
            y = linear(x)
        np.testing.assert_allclose(found[name].mean, y.numpy().mean(0), rtol=1e-4, atol=1e-5)
        expected = np.cov(y.numpy(), rowvar=False, bias=True)
        np.testing.assert_allclose(found[name].covariance, expected, atol=1e-4 * np.abs(expected).max())
        x = y.relu()
    assert list(outputs_of(windows, "fc6")) == ["fc6"]
    assert outputs_of(windows, "spp") == {}


def test_with_outputs_no_layer_of_the_rank_is_nearer(windows: WindowSet) -> None:
    net, rank = windows.regions.net, 6
    x = torch.cat([windows.pooled(index) for index in range(4)]) * net.head.input_scale
    with torch.no_grad():
        y = net.head.hidden[0][0](x).double().numpy()
    (fc6, *_) = compress_fc(net, rank, outputs_of(windows, "fc7"))
    centred = y - y.mean(0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    best = y.mean(0) + left[:, :rank] * values[:rank] @ right[:rank]
    with torch.no_grad():
        found = net.head.hidden[0][0](x).double().numpy()
    np.testing.assert_allclose(found, best, atol=1e-3 * np.abs(centred).max())
    assert fc6.energy == pytest.approx((values[:rank] ** 2).sum() / (values**2).sum(), rel=1e-3)


def test_the_detector_keeps_its_outputs_and_older_files_do_without(
    windows: WindowSet, tmp_path: Path
) -> None:
    settings = Settings(scales="120", proposals="grid", limit=100, layer="fc7")
    trained = train_detector(windows.regions.net, windows.images, tmp_path / "det", settings, cache=tmp_path)
    file = tmp_path / "det/detector.ckpt"
    expected = outputs_of(windows, "fc7", settings.seed)
    loaded = load_detector(file)
    for name, one in expected.items():
        for kept in (trained.outputs[name], loaded.outputs[name]):
            assert torch.equal(kept.mean, one.mean)
            assert torch.equal(kept.covariance, one.covariance)
    by_outputs = load_detector(file, svd=6).about["svd"]
    parts = torch.load(file, weights_only=True)
    outputs = parts["detector"].pop("outputs")
    torch.save(parts, tmp_path / "old.ckpt")
    assert load_detector(tmp_path / "old.ckpt", svd=6).about["svd"] != by_outputs
    outputs["fc6"]["covariance"] = torch.zeros(3, 3)
    torch.save({**parts, "detector": {**parts["detector"], "outputs": outputs}}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="damaged"):
        load_detector(tmp_path / "bad.ckpt")
