"""From the ``data`` group of a config to the two splits."""

from __future__ import annotations

import os

from sppcls.data.decode import MAX_PIXELS
from sppcls.data.downloads import WITHOUT_VALIDATION, download_sources
from sppcls.data.files import Splits
from sppcls.data.folder import folder_sources, imagenet_sources
from sppcls.data.shapes import ShapesSource
from sppcls.errors import ConfigError
from sppcls.registry import SOURCES


def build_sources(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    download: bool = False,
    val_fraction: float = 0.2,
    labels: str | None = None,
    train_dir: str | None = None,
    val_dir: str | None = None,
    test_dir: str | None = None,
    multi_label: bool | str | None = None,
    max_pixels: int = MAX_PIXELS,
    num_train: int | None = None,
    num_val: int | None = None,
) -> Splits:
    """Find the images of a run.

    Args:
        name: one of ``SOURCES``: ``shapes`` (generated), ``folder`` (class folders, see
            :mod:`sppcls.data.folder`), ``imagenet`` (``root/train/<wnid>`` and ``root/val/<wnid>``), or a set
            that torchvision can download.
        root: folder of the data; not used by ``shapes``.
        seed: of ``shapes``. How files are split never depends on a seed.
        download: fetch a torchvision set that is not there.
        val_fraction: share of each class for validation where the data has no split of its own.
        labels: file of labels of ``folder``, below ``root`` or absolute.
        train_dir, val_dir, test_dir: folders of its splits, below ``root`` or absolute; None: recognised.
        multi_label: whether an image of ``folder`` may have several labels; see :func:`~sppcls.data.folder.folder_sources`.
        max_pixels: images larger than this are refused.
        num_train, num_val: images of ``shapes`` (2000 and 500).

    Raises:
        ConfigError: a key is impossible for this source.
        DataError: the data is missing, empty or inconsistent, or cannot be fetched.
    """
    if name not in SOURCES:
        raise ConfigError(f"data.name={name!r}: choose from {', '.join(SOURCES)}")
    dirs = {"train": train_dir, "val": val_dir, "test": test_dir}
    for key, path in {"labels": labels, **{f"{role}_dir": place for role, place in dirs.items()}}.items():
        if path is not None and name != "folder":
            raise ConfigError(f"data.{key}={path}: only for data=folder, not for {name}; choose null")
    if multi_label and name != "folder":
        raise ConfigError(
            f"data.multi_label={str(multi_label).lower()}: only for data=folder, not for {name}; choose null"
        )
    if name == "shapes":
        return Splits(
            ShapesSource("train", 2000 if num_train is None else num_train, seed),
            ShapesSource("val", 500 if num_val is None else num_val, seed),
        )
    if root is None:
        raise ConfigError(f"data.root is not set: data={name} needs the folder of its files, data.root=PATH")
    for key, value in (("num_train", num_train), ("num_val", num_val)):
        if value is not None:
            raise ConfigError(
                f"data.{key}={value}: only data=shapes can be given a number of images, not {name}"
            )
    if name == "folder":
        return folder_sources(
            root,
            labels=labels,
            dirs=dirs,
            multi_label=multi_label,
            val_fraction=val_fraction,
            max_pixels=max_pixels,
        )
    if name == "imagenet":
        return imagenet_sources(root, max_pixels=max_pixels)
    train, val = download_sources(
        name, root, download=download, val_fraction=val_fraction, max_pixels=max_pixels
    )
    return Splits(train, val, held_out=name in WITHOUT_VALIDATION)
