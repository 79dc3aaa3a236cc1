"""ImageNet (ILSVRC 2012) in the tar files that it is handed out in, read where it lies."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sppcls.data.names import some
from sppcls.data.shards.index import Records, Shard
from sppcls.data.shards.scan import members, reading_tar
from sppcls.data.shards.source import ShardSource
from sppcls.data.shards.storage import Storage
from sppcls.errors import DataError

TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"

IMAGES = {"train": 1_281_167, "val": 50_000}
"""How many images there are in each split of ILSVRC 2012."""

_DEVKIT_FILE = 64 << 20  # most bytes of a file in it that is read


def is_imagenet(folder: Path) -> bool:
    """Whether a folder holds ImageNet's training images as they are handed out."""
    return (folder / TRAIN).is_file()


def imagenet_tars(folder: Path, *, say: Callable[[str], None] = print) -> dict[str, ShardSource]:
    """The training and validation images in a folder with ImageNet's three files, nothing of which is unpacked.

    The classes are the WordNet numbers, and the names are those of class folders: ``n01440764/n01440764_10026.JPEG``.

    Args:
        folder: with ``ILSVRC2012_img_train.tar``, ``ILSVRC2012_img_val.tar`` and ``ILSVRC2012_devkit_t12.tar.gz``.
        say: takes a line of progress.

    Raises:
        DataError: a file is missing, damaged or cut off, or they contradict each other.
    """
    for name in (TRAIN, VAL, DEVKIT):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder}: there is no {name} beside {TRAIN}; image-net.org has it, after a registration"
            )
    say(f"Looking through {folder / TRAIN} ...")
    train = _train(folder / TRAIN)
    classes = sorted({name.partition("/")[0] for name, _, _ in train})
    say(f"Looking through {folder / VAL} ...")
    val = _val(folder / VAL, folder / DEVKIT)
    if unknown := sorted({name.partition("/")[0] for name, _, _ in val} - set(classes)):
        raise DataError(f"{folder / DEVKIT}: class {some(unknown)} is not in {TRAIN}")
    number = {name: index for index, name in enumerate(classes)}
    sources = {}
    for role, file, rows in (("train", TRAIN, sorted(train)), ("val", VAL, sorted(val))):
        count = len(rows)
        shard = Shard(file, (folder / file).stat().st_size, count, "")
        records = Records.from_rows(
            [(0, offset, size, 0, name) for name, offset, size in rows],
            [number[name.partition("/")[0]] for name, _, _ in rows],
        )
        sources[role] = ShardSource(Storage(folder), [shard], records, classes, checked=False)
        if count != IMAGES[role]:
            say(f"note: {file} has {count:,} images; that of ILSVRC 2012 has {IMAGES[role]:,}")
    return sources


def _train(path: Path) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each image of the tar file of tar files, one for every class."""
    rows: list[tuple[str, int, int]] = []
    end = path.stat().st_size
    with reading_tar(path), open(path, "rb") as outer, open(path, "rb") as inner:
        for archive in members(path, outer, end):
            if not archive.name.endswith(".tar") or "/" in archive.name:
                raise DataError(f"{path}: {archive.name!r} is no tar file of a class, such as n01440764.tar")
            wnid = archive.name.removesuffix(".tar")
            before = len(rows)
            inner.seek(archive.offset)
            for image in members(path, inner, archive.offset + archive.size):
                rows.append((f"{wnid}/{image.name}", image.offset, image.size))
            if len(rows) == before:
                raise DataError(f"{path}: {archive.name!r} has no image")
    return rows


def _val(path: Path, devkit: Path) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each validation image, its class before its name."""
    with reading_tar(path), open(path, "rb") as file:
        images = sorted(members(path, file, path.stat().st_size))
    classes = _ground_truth(devkit)
    if len(classes) != len(images):
        raise DataError(
            f"{path}: has {len(images):,} images, and {devkit.name} the classes of {len(classes):,}"
        )
    named = zip(classes, images, strict=True)
    return [(f"{wnid}/{image.name}", image.offset, image.size) for wnid, image in named]


def _ground_truth(devkit: Path) -> list[str]:
    """The WordNet number of each validation image, in the order of their names."""
    from scipy.io import loadmat

    with reading_tar(devkit), tarfile.open(devkit) as tar:
        truth = _member(tar, devkit, "data/ILSVRC2012_validation_ground_truth.txt").decode("ascii")
        # Nested arrays of one element each, as MATLAB has them.
        synsets = loadmat(io.BytesIO(_member(tar, devkit, "data/meta.mat")), squeeze_me=True)["synsets"]
        wnid_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(synsets)}
        numbers = [int(line) for line in truth.split()]
    if unknown := [number for number in numbers if number not in wnid_of]:
        raise DataError(f"{devkit}: class number {unknown[0]} is not in its meta.mat")
    return [wnid_of[number] for number in numbers]


def _member(tar: tarfile.TarFile, devkit: Path, end: str) -> bytes:
    """The content of the member whose name ends so."""
    for info in tar:
        if info.name.endswith(end) and info.isreg() and info.size <= _DEVKIT_FILE:
            content = tar.extractfile(info)
            assert content is not None  # which is for what is no file
            return content.read()
    raise DataError(f"{devkit}: there is no {end} in it")
