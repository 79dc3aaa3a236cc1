"""Torchvision's downloadable classification sets, read through sppcls's own decoder."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from torchvision import datasets
from torchvision.datasets.utils import download_url

from sppcls._util.console import say
from sppcls._util.files import one_at_a_time
from sppcls._util.reason import reason_of
from sppcls.data.archives import UNPACKING, unpack
from sppcls.data.decode import MAX_PIXELS
from sppcls.data.files import ArraySource, FileSource, Source
from sppcls.data.folder import single_folder_sources, split_sources
from sppcls.errors import DataError

# Folder below data.root that each set's files belong in.
_FOLDERS = {
    "imagenette": "imagenette2",
    "flowers102": "flowers-102",
    "caltech101": "caltech101/101_ObjectCategories",
    "food101": "food-101",
    "cifar10": "cifar-10-batches-py",
    "pets": "oxford-iiit-pet",
}


WITHOUT_VALIDATION = ("caltech101",)
"""Sets without an official split to validate on."""

# (address, MD5) of the one set whose address torchvision has in the middle of a function.
_CALTECH101 = (
    "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
    "3138e1922a9193bfa496528edbbc45d0",
)


def download_sources(
    name: str,
    root: str | os.PathLike[str],
    *,
    download: bool,
    val_fraction: float,
    max_pixels: int = MAX_PIXELS,
) -> tuple[Source, Source]:
    """(train, val) of a torchvision set below ``root``, fetched first if ``download`` and it is not there.

    An archive that is there already and has the right checksum is unpacked and not fetched again. Unpacking is
    ours (:func:`~sppcls.data.archives.unpack`), as torchvision's lets an archive write anywhere. Of several processes,
    as torchrun starts them, one fetches and the others wait for it.

    The official splits: train/val (imagenette, flowers102), train/test (food101, cifar10), trainval/test
    (pets). Caltech-101 has none: it is split like a single folder, and its background class is left out.

    Raises:
        DataError: the set is not there, or cannot be fetched.
    """
    root = Path(root)
    maker = {
        "imagenette": _imagenette,
        "flowers102": _flowers102,
        "caltech101": _caltech101,
        "food101": _food101,
        "cifar10": _cifar10,
        "pets": _pets,
    }[name]
    place, build = root / _FOLDERS[name], partial(maker, root, val_fraction, max_pixels)
    try:
        return build()
    except DataError:
        raise
    except ImportError as error:
        package = (error.name or str(error)).split(".")[0]
        raise DataError(f"data={name} needs the package {package}: pip install {package}") from error
    except Exception as error:  # torchvision, pickles and tables raise many types
        if not download:
            if place.exists():
                raise DataError(f"{place}: {name} is incomplete or damaged ({reason_of(error)})") from error
            raise DataError(
                f"data.root={root}: {name} is not there (looked for {place}); "
                f"set data.download=true to fetch it, or put its files there"
            ) from error
    waiting = f"Waiting for another process that fetches {name} to {root}"
    try:
        with one_at_a_time(_made(root) / ".download.lock", partial(say, waiting)) as alone:
            if alone:
                _remove_leftovers(root)
                with suppress(Exception):  # another process may have fetched it by now
                    return build()
            _fetch(name, root)
        return build()
    except Exception as error:  # as above, and urllib and archives
        raise DataError(
            f"data.download: {name} could not be fetched ({reason_of(error)}); "
            f"fetch it by hand, unpack it to {place} and set data.download=false"
        ) from error


def _remove_leftovers(root: Path) -> None:
    """Remove what an unpacking left behind that was killed; nobody else may be at work."""
    for pattern in (f"{UNPACKING}*", f"*/{UNPACKING}*"):
        for leftover in root.glob(pattern):
            shutil.rmtree(leftover, ignore_errors=True)


def _fetch(name: str, root: Path) -> None:
    """Fetch and unpack what torchvision would, checked against its list of checksums."""
    folder = root / _FOLDERS[name]
    if name == "flowers102":
        prefix, files = datasets.Flowers102._download_url_prefix, datasets.Flowers102._file_dict
        _fetch_archive((prefix + files["image"][0], files["image"][1]), folder)
        for part in ("label", "setid"):
            download_url(prefix + files[part][0], folder, md5=files[part][1])
    elif name == "caltech101":
        folder = folder.parent
        with tempfile.TemporaryDirectory(prefix=UNPACKING, dir=_made(folder)) as outer:
            _fetch_archive(_CALTECH101, folder, Path(outer))
            unpack(Path(outer, "caltech-101", "101_ObjectCategories.tar.gz"), folder)
    elif name == "pets":
        for listed in datasets.OxfordIIITPet._RESOURCES:
            _fetch_archive(listed, folder)
    else:
        archives = {
            "imagenette": datasets.Imagenette._ARCHIVES["full"],
            "food101": (datasets.Food101._URL, datasets.Food101._MD5),
            "cifar10": (datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5),
        }
        _fetch_archive(archives[name], root)


def _fetch_archive(listed: tuple[str, str], folder: Path, target: Path | None = None) -> None:
    """Fetch an archive (address, MD5) to ``folder``, unless it is there, and unpack it to ``target``, or else there."""
    url, md5 = listed
    download_url(url, _made(folder), md5=md5)
    unpack(folder / url.rpartition("/")[2], target or folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _path(path: str | Path) -> str:
    """A loader for torchvision's data sets that leaves the reading to us."""
    return str(path)


def _files(data: object, root: Path, classes: list[str], max_pixels: int) -> FileSource:
    """A source of the (path, target) pairs that a torchvision set with ``loader=_path`` yields."""
    pairs = [data[index] for index in range(len(data))]  # type: ignore[arg-type,index]
    names = [Path(path).relative_to(root).as_posix() for path, _ in pairs]
    return FileSource(root, names, [target for _, target in pairs], classes, max_pixels)


def _imagenette(root: Path, _: float, max_pixels: int) -> tuple[Source, Source]:
    data = datasets.Imagenette(root, "train", loader=_path)
    train, val = split_sources(root / "imagenette2", max_pixels=max_pixels)
    for source in (train, val):
        source.classes = [names[0] for names in data.classes]
    return train, val


def _flowers102(root: Path, _: float, max_pixels: int) -> tuple[Source, Source]:
    train = datasets.Flowers102(root, "train", loader=_path)
    val = datasets.Flowers102(root, "val", loader=_path)
    classes = list(datasets.Flowers102.classes)
    return _files(train, root, classes, max_pixels), _files(val, root, classes, max_pixels)


def _caltech101(root: Path, val_fraction: float, max_pixels: int) -> tuple[Source, Source]:
    folder = root / _FOLDERS["caltech101"]
    if not folder.exists():
        raise FileNotFoundError(folder)
    background = frozenset({"BACKGROUND_Google"})
    return single_folder_sources(
        folder, val_fraction=val_fraction, max_pixels=max_pixels, leave_out=background
    )


def _food101(root: Path, _: float, max_pixels: int) -> tuple[Source, Source]:
    train = datasets.Food101(root, "train", loader=_path)
    val = datasets.Food101(root, "test", loader=_path)
    return _files(train, root, train.classes, max_pixels), _files(val, root, train.classes, max_pixels)


def _cifar10(root: Path, _: float, __: int) -> tuple[Source, Source]:
    train = datasets.CIFAR10(root, train=True)
    val = datasets.CIFAR10(root, train=False)
    return (
        ArraySource(train.data, train.targets, train.classes, "train"),
        ArraySource(val.data, val.targets, train.classes, "test"),
    )


def _pets(root: Path, _: float, max_pixels: int) -> tuple[Source, Source]:
    train = datasets.OxfordIIITPet(root, "trainval")
    val = datasets.OxfordIIITPet(root, "test")

    def files(data: datasets.OxfordIIITPet) -> FileSource:
        # The one file-based set here without a ``loader`` argument.
        return _files(list(zip(data._images, data._labels, strict=True)), root, train.classes, max_pixels)

    return files(train), files(val)
