"""ImageNet's tar files as they are handed out: a tar file of tar files, validation images, and their classes in MATLAB's."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from sppcls.cli.main import main
from sppcls.data.shards import shards
from sppcls.data.shards.imagenet import DEVKIT, TRAIN, VAL, imagenet_tars
from sppcls.errors import DataError

WNIDS = ["n02119789", "n01440764", "n07720875"]  # of the numbers 1, 2, 3, and not in the order of their names


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def packed(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def meta(wnids: list[str]) -> bytes:
    """``meta.mat`` with the fields that the original has, and a synset above the classes."""
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, f"words of {wnid}", 0) for number, wnid in enumerate(wnids, 1)]
    synsets = np.array([*rows, (len(wnids) + 1, "n00001740", "entity", 2)], kinds).reshape(-1, 1)
    file = io.BytesIO()
    savemat(file, {"synsets": synsets})
    return file.getvalue()


TRUTH = [3, 1, 2, 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tars"
    root.mkdir()
    archives = {
        f"{wnid}.tar": packed({f"{wnid}_{i}.JPEG": jpeg(100 * number + i) for i in (10, 2, 7)})
        for number, wnid in enumerate(WNIDS, 1)
    }
    (root / TRAIN).write_bytes(packed(archives))
    (root / VAL).write_bytes(
        packed({f"ILSVRC2012_val_{i:08d}.JPEG": jpeg(i) for i in (2, 1, 4, 3)})  # in any order
    )
    devkit = {
        "ILSVRC2012_devkit_t12/readme.txt": b"",
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(
            f"{number}\n" for number in TRUTH
        ).encode(),
        "ILSVRC2012_devkit_t12/data/meta.mat": meta(WNIDS),
    }
    (root / DEVKIT).write_bytes(packed(devkit, "w:gz"))
    return root


def test_images_and_classes_are_those_of_the_tar_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["shards", str(folder), str(out), "--workers", "0"]) == 0
    train, val, *_ = shards(str(out))
    assert train.classes == sorted(WNIDS)
    found = {train.name(i): (train.classes[train.targets[i]], train.data(i)) for i in range(len(train))}
    assert found == {
        f"{wnid}/{wnid}_{i}.JPEG": (wnid, jpeg(100 * number + i))
        for number, wnid in enumerate(WNIDS, 1)
        for i in (10, 2, 7)
    }
    found = {val.name(i): (val.classes[val.targets[i]], val.data(i)) for i in range(len(val))}
    assert found == {
        f"{WNIDS[number - 1]}/ILSVRC2012_val_{i:08d}.JPEG": (WNIDS[number - 1], jpeg(i))
        for i, number in enumerate(TRUTH, 1)
    }
    # As class folders would be listed, so that the order of a training is theirs.
    assert [train.name(i) for i in range(9)] == sorted(train.name(i) for i in range(9))


def test_reduced_images_are_smaller(folder: Path, tmp_path: Path) -> None:
    words = ["shards", str(folder), str(tmp_path / "out"), "--resize-shorter-side", "15", "--quality", "80"]
    assert main([*words, "--workers", "1"]) == 0
    train = shards(str(tmp_path / "out")).train
    assert {tuple(train.image(i).shape) for i in range(9)} == {(3, 15, 20)}


def cut(folder: Path) -> None:
    data = (folder / TRAIN).read_bytes()
    (folder / TRAIN).write_bytes(data[: len(data) * 2 // 3])


def other_devkit(folder: Path) -> None:
    (folder / DEVKIT).write_bytes((folder / VAL).read_bytes())


def one_less(folder: Path) -> None:
    (folder / VAL).write_bytes(packed({"ILSVRC2012_val_00000001.JPEG": jpeg(1)}))


def unpacked(folder: Path) -> None:
    (folder / TRAIN).write_bytes(packed({"n01440764/n01440764_1.JPEG": jpeg(1)}))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (cut, f"{TRAIN}: cut off within 'n07720875"),
        (other_devkit, "there is no data/ILSVRC2012_validation_ground_truth.txt in it"),
        (one_less, "has 1 images, and ILSVRC2012_devkit_t12.tar.gz the classes of 4"),
        (unpacked, "'n01440764/n01440764_1.JPEG' is no tar file of a class"),
        (lambda folder: (folder / VAL).unlink(), f"there is no {VAL} beside {TRAIN}"),
    ],
)
def test_what_is_missing_or_damaged_is_one_line(folder: Path, change, line: str) -> None:
    change(folder)
    with pytest.raises(DataError) as caught:
        imagenet_tars(folder)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
