"""Thin fc layers: the best of their rank, exact at full rank, and never saved as the network itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from region_nets import make_net

from sppcls.detection.compress import compress_fc
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.errors import ConfigError


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
