"""Maps on disk: made once, whole after a kill, mended where damaged, told apart by weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from region_nets import make_net

from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.detection.scenes import scenes
from sppcls.errors import ConfigError


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted((folder / "maps").rglob("*.npz"))
    }


def test_maps_are_made_once_and_mended(tmp_path: Path) -> None:
    regions = Regions(make_net(tmp_path), RegionRules((120, 160)))
    images = scenes("train", 3)
    said: list[str] = []
    kept = KeptMaps(regions, images, tmp_path)
    kept.make(said.append)
    first = files(tmp_path)
    assert len(first) == 6
    # Its size is told before: the arrays, without the headers of the files.
    assert sum(len(data) for data, _ in first.values()) == pytest.approx(kept.bytes(), rel=0.2)
    assert "maps of 3 images at 120, 160" in said[0]
    for scale, one in zip((120, 160), kept[1], strict=True):
        assert torch.equal(one, regions.map_at(images.image(1), scale))
        assert one.dtype == torch.float16
    # One lost, one cut short, one with a changed byte: as a kill and a bad disk leave them.
    names = list(first)
    folder = tmp_path
    (folder / names[0]).unlink()
    (folder / names[1]).write_bytes(first[names[1]][0][:100])
    changed = bytearray(first[names[2]][0])
    changed[len(changed) // 2] ^= 1
    (folder / names[2]).write_bytes(changed)
    again = KeptMaps(regions, images, tmp_path)
    again.make(said.append)
    assert all(torch.equal(a, b) for i in range(3) for a, b in zip(kept[i], again[i], strict=True))
    mended = files(tmp_path)
    assert {name: data for name, (data, _) in mended.items()} == {
        name: data for name, (data, _) in first.items()
    }
    assert [mended[name][1] for name in names[3:]] == [first[name][1] for name in names[3:]]


def test_other_weights_and_scales_have_maps_of_their_own(tmp_path: Path) -> None:
    net, images = make_net(tmp_path), scenes("train", 1)
    KeptMaps(Regions(net, RegionRules((120,))), images, tmp_path).make(lambda line: None)
    KeptMaps(Regions(net, RegionRules((120, 160))), images, tmp_path).make(lambda line: None)
    assert len(files(tmp_path)) == 2
    with torch.no_grad():
        next(net.backbone.parameters()).mul_(1.5)
    KeptMaps(Regions(net, RegionRules((120,))), images, tmp_path).make(lambda line: None)
    assert len(files(tmp_path)) == 3


def test_values_beyond_float16_are_kept_as_they_are(tmp_path: Path) -> None:
    net = make_net(tmp_path)
    with torch.no_grad():
        last = [module for module in net.backbone.modules() if isinstance(module, torch.nn.Conv2d)][-1]
        last.weight.mul_(1e8)
    one = Regions(net, RegionRules((120,))).map_at(scenes("train", 1).image(0), 120)
    assert one.dtype == torch.float32
    assert one.isfinite().all()


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptMaps(Regions(make_net(tmp_path), RegionRules((120,))), scenes("train", 2), tmp_path / "new")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ConfigError, match=r"maps need about .* and 0\.0 MB are free"):
        kept.make(lambda line: None)
    assert not (tmp_path / "new").exists()
