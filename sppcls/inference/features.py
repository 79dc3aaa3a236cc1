"""Outputs of a layer for the images of a folder (He et al. 2015, sec. 4.3 and 4.4: features for other data sets).

Hidden layers are taken after their ReLU and without dropout; see :mod:`sppcls.inference.layers` for the layers. The
features of an image do not depend on the images beside it, but for rounding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sppcls._util.files import check_new_file, replacing, writing
from sppcls.data.folder import image_files
from sppcls.data.names import class_name, in_order, role_of
from sppcls.errors import ConfigError, DataError
from sppcls.inference.feature_stream import RowFile, stream_features
from sppcls.inference.layers import check_layers, layer_lengths
from sppcls.inference.views import View, choose_view
from sppcls.nn import SPPClassifier


@dataclass(frozen=True)
class ImageList:
    """Image files below a folder.

    Attributes:
        root: the folder.
        names: paths below it, with ``/`` between folders.
        labels: int64 (N,): class numbers; -1 where there are no class folders.
        classes: names of the classes; empty without class folders.
    """

    root: Path
    names: list[str]
    labels: np.ndarray
    classes: list[str]


def list_images(folder: str | os.PathLike[str]) -> ImageList:
    """The images of a folder and below, labelled if it is ``<class>/...`` or ``<split>/<class>/...`` throughout,
    such as ``train/<class>/...`` and ``valid/<class>/...``.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    root = Path(folder)
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: a file; a folder of images is needed")
    names = [path.relative_to(root).as_posix() for path in image_files([root])]
    places = [name.split("/")[:-1] for name in names]
    if all(len(place) > 1 and role_of(place[0]) for place in places):
        places = [place[1:] for place in places]
    if not all(places):
        return ImageList(root, names, np.full(len(names), -1, np.int64), [])
    labels = [class_name(place[0]) for place in places]
    classes = in_order(set(labels))
    number = {name: index for index, name in enumerate(classes)}
    return ImageList(root, names, np.array([number[label] for label in labels], np.int64), classes)


@dataclass(frozen=True)
class Features:
    """Features of the images that could be read, in the order of their names.

    Attributes:
        features: float32 (N, D).
        paths: N paths below the folder.
        labels: int64 (N,): class numbers; -1 where the folder has no class folders.
        classes: names of the classes; empty without class folders.
        layer: that the features are outputs of.
        view: that they were taken of.
        bad: one line for each image that could not be read and is left out.
    """

    features: np.ndarray = field(repr=False)
    paths: list[str] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: list[str]
    layer: str
    view: View
    bad: list[str] = field(repr=False)


def extract_features(
    net: SPPClassifier,
    folder: str | os.PathLike[str],
    layer: str = "spp",
    *,
    view: str | None = None,
    shorter_side: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
) -> Features:
    """Outputs of one layer for every image of a folder, in memory.

    Args:
        net: from :func:`sppcls.load_classifier`; its device is used.
        folder: images at any depth. Class folders, alone or in ``train`` and ``val``, give labels.
        layer: one of :func:`~sppcls.inference.layers.layer_names`.
        view, shorter_side: what the network sees; see :func:`choose_view`.
        batch_size: images at once, where shapes agree.
        workers: processes that read images.

    Raises:
        ConfigError: a layer or view that the network cannot give; names what it can.
        DataError: no such folder, or no image in it that can be read.

    Examples:
        >>> f = sppcls.extract_features(net, "folder", layer="spp")
        >>> f.features.shape, f.paths[0], f.labels[0]
    """
    seen = choose_view(net, view, shorter_side)
    check_layers(net, [layer], seen.kind)
    images = list_images(folder)
    bad: list[str] = []
    rows = np.empty((len(images.names), layer_lengths(net, [layer], seen.example)[layer]), np.float32)
    kept: list[int] = []
    paths = [images.root / name for name in images.names]
    for indices, values in stream_features(
        net, paths, [layer], seen, batch_size=batch_size, workers=workers, bad=bad
    ):
        rows[len(kept) : len(kept) + len(indices)] = values[layer]
        kept += indices
    check_any(kept, folder, bad)
    names = [images.names[i] for i in kept]
    return Features(rows[: len(kept)], names, images.labels[kept], images.classes, layer, seen, bad)


@dataclass(frozen=True)
class Written:
    """What :func:`write_features` wrote: (images, length) features; ``bad`` as in :class:`Features`."""

    images: int
    length: int
    view: View
    bad: list[str]


def write_features(
    net: SPPClassifier,
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    layer: str = "spp",
    *,
    view: str | None = None,
    shorter_side: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
    checkpoint: str = "",
    overwrite: bool = False,
) -> Written:
    """:func:`extract_features` to an ``.npz`` file, in memory that does not grow with the number of images.

    Needs twice the size of the file on its disk while it is written. ``numpy.load(out)`` has ``features``, ``paths``,
    ``labels``, ``classes``, ``layer``, ``view``, ``shorter_side``, ``checkpoint`` and ``sppcls_version`` (that
    trained the network).

    Args:
        net, folder, layer, view, shorter_side, batch_size, workers: see :func:`extract_features`.
        out: the file.
        checkpoint: noted in the file.
        overwrite: replace an existing file.

    Raises:
        ConfigError, DataError: as :func:`extract_features`, or the file cannot be written. Nothing is written then.
    """
    out = check_out(out, overwrite)
    seen = choose_view(net, view, shorter_side)
    check_layers(net, [layer], seen.kind)
    images = list_images(folder)
    model_info = net.model_info
    bad: list[str] = []
    kept: list[int] = []
    paths = [images.root / name for name in images.names]
    with RowFile(out.with_name(f".{out.name}.{os.getpid()}.rows")) as rows:
        for indices, values in stream_features(
            net, paths, [layer], seen, batch_size=batch_size, workers=workers, bad=bad
        ):
            with writing(out, "--out"):
                rows.append(values[layer])
            kept += indices
        check_any(kept, folder, bad)
        features = rows.array()
        with replacing(out, "--out") as temporary:
            # A mapped array goes into the file piece by piece.
            np.savez(
                temporary,
                features=features,
                paths=np.array([images.names[i] for i in kept]),
                labels=images.labels[kept],
                classes=np.array(images.classes, dtype=np.str_),
                layer=np.array(layer),
                view=np.array(seen.kind),
                shorter_side=np.array(seen.shorter_side),
                checkpoint=np.array(checkpoint),
                sppcls_version=np.array(model_info["version"]),
            )
        return Written(len(features), features.shape[1], seen, bad)


def check_out(out: str | os.PathLike[str], overwrite: bool) -> Path:
    """An ``.npz`` file that may be written; raises ConfigError."""
    if Path(out).suffix != ".npz":
        raise ConfigError(f"--out {out}: the name must end in .npz")
    return check_new_file(out, overwrite)


def check_any(kept: Sequence[int], folder: str | os.PathLike[str], bad: Sequence[str]) -> None:
    """Raise DataError if no image is left."""
    if not kept:
        raise DataError(f"{folder}: no image in it can be read; the first: {bad[0]}")
