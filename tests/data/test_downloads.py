"""Torchvision's sets: tiny copies of their layouts on disk, and what is said when a set is not there."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from sppcls.data.sources import build_sources
from sppcls.errors import DataError
from sppcls.registry import DOWNLOADS


def put(path, colour="red", size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "JPEG")


def names(source):
    return [source.name(index) for index in range(len(source))]


def test_imagenette(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for wnid in ("n03028079", "n01440764"):
            for number in range(count):
                put(tmp_path / "imagenette2" / split / wnid / f"{wnid}_{number}.JPEG")
    train, val, *_ = build_sources("imagenette", tmp_path)
    assert train.classes == val.classes == ["tench", "church"]
    assert (train.targets, val.targets) == ([0, 0, 0, 1, 1, 1], [0, 0, 1, 1])
    assert train.image(0).shape == (3, 4, 6)


def test_food101(tmp_path):
    folder = tmp_path / "food-101"
    (folder / "meta").mkdir(parents=True)
    split = {
        "train": {"sushi": ["sushi/1", "sushi/2"], "apple_pie": ["apple_pie/7"]},
        "test": {"sushi": ["sushi/3"], "apple_pie": ["apple_pie/8"]},
    }
    for part, members in split.items():
        (folder / "meta" / f"{part}.json").write_text(json.dumps(members))
        for paths in members.values():
            for path in paths:
                put(folder / "images" / f"{path}.jpg")
    train, val, *_ = build_sources("food101", tmp_path)
    assert train.classes == val.classes == ["apple_pie", "sushi"]
    assert dict(zip(names(train), train.targets, strict=True)) == {
        "food-101/images/sushi/1.jpg": 1,
        "food-101/images/sushi/2.jpg": 1,
        "food-101/images/apple_pie/7.jpg": 0,
    }
    assert sorted(val.targets) == [0, 1]
    assert val.image(0).shape == (3, 4, 6)


def test_pets(tmp_path):
    folder = tmp_path / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\nbasset_hound_5 2 2 1\n")
    (folder / "annotations" / "test.txt").write_text("basset_hound_9 2 2 1\nAbyssinian_2 1 1 1\n")
    for name in ("Abyssinian_1", "basset_hound_5", "basset_hound_9", "Abyssinian_2"):
        put(folder / "images" / f"{name}.jpg")
    train, val, *_ = build_sources("pets", tmp_path)
    assert train.classes == ["Abyssinian", "Basset Hound"]
    assert (train.targets, val.targets) == ([0, 1], [1, 0])
    assert names(val)[0] == "oxford-iiit-pet/images/basset_hound_9.jpg"
    assert val.image(1).shape == (3, 4, 6)


def test_caltech101_is_split_and_has_no_background_class(tmp_path):
    for name in ("BACKGROUND_Google", "Faces", "airplanes"):
        for number in range(5):
            put(tmp_path / "caltech101" / "101_ObjectCategories" / name / f"image_{number:04d}.jpg")
    train, val, *_ = build_sources("caltech101", tmp_path, val_fraction=0.4)
    assert train.classes == val.classes == ["Faces", "airplanes"]
    assert (train.targets, val.targets) == ([0] * 3 + [1] * 3, [0] * 2 + [1] * 2)
    assert not set(names(train)) & set(names(val))
    again = build_sources("caltech101", tmp_path, val_fraction=0.4)
    assert names(again.val) == names(val)
    assert again.held_out


def test_cifar10(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8)
    batch = {"data": pixels.reshape(3, -1), "labels": [1, 0, 1]}
    # Real files of our own content: torchvision compares their checksums with its list.
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", write("data_batch_1", batch)]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", write("test_batch", batch)]])
    meta = {
        "filename": "batches.meta",
        "key": "label_names",
        "md5": write("batches.meta", {"label_names": ["plane", "car"]}),
    }
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    train, val, *_ = build_sources("cifar10", tmp_path)
    assert train.classes == ["plane", "car"]
    assert train.targets == val.targets == [1, 0, 1]
    np.testing.assert_array_equal(train.image(2).numpy(), pixels[2])
    assert (train.name(2), val.name(0)) == ("train/00002", "test/00000")


def flowers(tmp_path, monkeypatch):
    folder = tmp_path / "flowers-102"
    for number in range(1, 5):
        put(folder / "jpg" / f"image_{number:05d}.jpg")
    table = dict(datasets.Flowers102._file_dict)
    for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat")):
        if not (folder / name).exists():
            (folder / name).write_bytes(b"")
        table[key] = (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", table)


def test_flowers102(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    (tmp_path / "flowers-102").mkdir()
    scipy_io.savemat(tmp_path / "flowers-102" / "imagelabels.mat", {"labels": [[3, 1, 102, 1]]})
    scipy_io.savemat(
        tmp_path / "flowers-102" / "setid.mat", {"trnid": [[1, 3]], "valid": [[2, 4]], "tstid": [[4, 4]]}
    )
    flowers(tmp_path, monkeypatch)
    train, val, *_ = build_sources("flowers102", tmp_path)
    assert len(train.classes) == 102
    assert (train.targets, val.targets) == ([2, 101], [0, 0])
    assert names(val) == ["flowers-102/jpg/image_00002.jpg", "flowers-102/jpg/image_00004.jpg"]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    flowers(tmp_path, monkeypatch)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(DataError, match=r"^data=flowers102 needs the package scipy: pip install scipy$"):
        build_sources("flowers102", tmp_path)


@pytest.mark.parametrize("name", DOWNLOADS)
def test_not_there(name, tmp_path):
    with pytest.raises(DataError, match=rf"data\.root=.*{name} is not there .*data\.download=true") as caught:
        build_sources(name, tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_incomplete(tmp_path):
    (tmp_path / "food-101" / "images").mkdir(parents=True)
    (tmp_path / "food-101" / "meta").mkdir()
    (tmp_path / "food-101" / "meta" / "train.json").write_text("{")
    with pytest.raises(
        DataError, match=r"food-101: food101 is incomplete or damaged \(Expecting property name"
    ):
        build_sources("food101", tmp_path)


NOWHERE = "http://127.0.0.1:9/"  # the discard port: nobody listens


@pytest.mark.parametrize("name", DOWNLOADS)
def test_download_that_fails(name, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", {"full": (NOWHERE + "imagenette2.tgz", "0")})
    monkeypatch.setattr(datasets.Flowers102, "_download_url_prefix", NOWHERE)
    monkeypatch.setattr(datasets.Food101, "_URL", NOWHERE + "food-101.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "url", NOWHERE + "cifar.tar.gz")
    monkeypatch.setattr(datasets.OxfordIIITPet, "_RESOURCES", [(NOWHERE + "images.tar.gz", "0")])
    monkeypatch.setattr("sppcls.data.downloads._CALTECH101", (NOWHERE + "caltech-101.zip", "0"))
    with pytest.raises(
        DataError, match=rf"data\.download: {name} could not be fetched \(.*[Cc]onnection refused.*\)"
    ) as caught:
        build_sources(name, tmp_path, download=True)
    assert "\n" not in str(caught.value)
    assert "by hand" in str(caught.value)
