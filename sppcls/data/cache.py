"""The images of a split in one file, decoded and reduced once.

Every image is stored as uint8 (H, W, 3) rows, reduced to what the transform needs of it. The file is written beside
its place and moved there when it is whole.

After the images comes the index: for each image four little-endian int32, the stored height and width and those of the
image itself, zeros for one that is unreadable. The footer says where the index begins and what the images were, and
has a checksum of both and of the index.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import time
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision

from sppcls._util.files import one_at_a_time, replacing
from sppcls.data.decode import header_size
from sppcls.data.files import FileSource
from sppcls.data.sizes import Size
from sppcls.data.stream import load_each
from sppcls.data.transforms import EvalTransform, TrainTransform
from sppcls.errors import ConfigError, DataError

_FOOTER = struct.Struct("<8sQ16sI")  # mark, where the index begins, what the images were, CRC-32
_MARK = b"sppcls 2"
_ROW = np.dtype("<i4")
_KEY = "data.cache=disk:"
_SAMPLE = 100  # image headers that the size of a cache is estimated from
_SECONDS = 10  # between lines of progress


@dataclass(frozen=True)
class _Opened:
    """An open file, and its index."""

    file: int
    sizes: npt.NDArray[np.int32]
    begins: npt.NDArray[np.int64]


class ImageCache:
    """The reduced images of a split, from a file of :func:`open_cache`.

    Args:
        path: the file.
        source: the images.
        transform: what is to become of them.
        made_of: what the file must have been made of.

    Attributes:
        path: the file.
        bytes: its size.
        unreadable: number of images that are not in it.

    Raises:
        DataError: there is no such file, it is damaged, or it was made of other images.
    """

    def __init__(
        self, path: Path, source: FileSource, transform: TrainTransform | EvalTransform, made_of: bytes
    ) -> None:
        self.path, self._source, self._transform, self._made_of = path, source, transform, made_of
        self.bytes = os.fstat(self._opened.file).st_size
        self.unreadable = int((_lengths(self._opened.sizes) == 0).sum())

    def __getstate__(self) -> dict[str, Any]:
        # For loader processes that are not forked. They open the file when they first read from it: an error while
        # they start would end them without a word.
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    @cached_property
    def _opened(self) -> _Opened:
        try:
            file = os.open(self.path, os.O_RDONLY)  # a file that takes the place of this one is not read
            weakref.finalize(self, os.close, file)
            made_of, sizes = _read_index(file)
        except OSError as error:
            raise DataError(f"{_KEY} {self.path}: cannot be read ({error.strerror})") from None
        if sizes is None:
            raise DataError(f"{_KEY} {self.path}: damaged; remove it")
        if made_of != self._made_of or len(sizes) != len(self._source):
            raise DataError(
                f"{_KEY} {self.path}: made of other images than those of this run; start again, and it is built anew"
            )
        lengths = _lengths(sizes)
        return _Opened(file, sizes, np.cumsum(lengths) - lengths)

    def read(self, index: int) -> tuple[torch.Tensor, Size]:
        """uint8 (3, h, w), the reduced image, and the height and width of the image itself.

        Raises:
            ImageError: the image is unreadable.
            DataError: the file of the cache is, or is no longer what it was.
        """
        opened = self._opened
        h, w, height, width = map(int, opened.sizes[index])
        if not h:
            return _reduced(self._source, self._transform, index)  # says what is wrong with the image
        pixels = np.empty((h, w, 3), np.uint8)
        try:
            # Without a shared position, as loader processes share the open file.
            count = os.preadv(opened.file, [pixels.reshape(-1).data], int(opened.begins[index]))
        except OSError as error:
            raise DataError(f"{_KEY} {self.path}: cannot be read ({error.strerror})") from None
        if count < pixels.size:
            raise DataError(f"{_KEY} {self.path}: cut short since it was opened; remove it")
        return torch.from_numpy(pixels).permute(2, 0, 1), (height, width)


def open_cache(
    source: FileSource,
    transform: TrainTransform | EvalTransform,
    folders: list[Path],
    name: str,
    *,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> ImageCache:
    """The cache of a split; it is built if there is none, or if its images have changed since.

    Any number of processes may ask at once: one builds, the others wait for it.

    Args:
        source: images in files.
        transform: what is to become of them.
        folders: where a finished cache may lie; a new one is built in the last.
        name: what tells this split and its way of being held out from others in the folders.
        workers: processes that decode; 0: this one.
        say: takes a line of progress.

    Raises:
        ConfigError: it does not fit on the disk, or cannot be written.
        DataError: it cannot be read.
    """
    digest = hashlib.blake2b(
        f"{name}/{transform.reduction}".encode("utf-8", "surrogateescape"), digest_size=6
    )
    file = f"{name.rpartition('/')[2]}-{digest.hexdigest()}.images"
    made_of = _made_of(source)
    for folder in folders:
        if cache := _whole(folder / file, source, transform, made_of):
            return cache
    path = folders[-1] / file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{_KEY} {path.parent}: cannot be made ({error.strerror}); set data.cache_dir"
        ) from None
    with _lock(path, say):
        if cache := _whole(path, source, transform, made_of):
            return cache
        _check_space(source, transform, path)
        _build(source, transform, path, made_of, workers, say)
        return ImageCache(path, source, transform, made_of)


def cache_folders(cache_dir: str | os.PathLike[str] | None, root: str | os.PathLike[str]) -> list[Path]:
    """Where caches are looked for; the last may be written. By default beside the data, or in ~/.cache."""
    if cache_dir is not None:
        return [Path(cache_dir).expanduser()]
    beside = Path(root) / ".sppcls-cache"
    if os.access(beside if beside.is_dir() else root, os.W_OK):
        return [beside]
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return [beside, Path(home).expanduser() / "sppcls"]


def amount(count: float) -> str:
    """A number of bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _reduced(
    source: FileSource, transform: TrainTransform | EvalTransform, index: int
) -> tuple[torch.Tensor, Size]:
    image = source.image(index)
    return transform.reduced(image), (image.shape[-2], image.shape[-1])


def _made_of(source: FileSource) -> bytes:
    """A hash of all that decides the pixels: the files' names, sizes and times, and the decoders."""
    digest = hashlib.blake2b(digest_size=16)
    versions = (
        PIL.__version__,
        torchvision.__version__,
        torch.__version__,
        source.max_pixels,
        source.pixel_range,
    )
    digest.update(repr(versions).encode())
    for index in range(len(source)):
        name = source.name(index)
        try:
            status = os.stat(source.root / name)
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            facts = str(error.errno)
        digest.update(f"{name}\0{facts}\0".encode("utf-8", "surrogateescape"))
    return digest.digest()


def _whole(
    path: Path, source: FileSource, transform: TrainTransform | EvalTransform, made_of: bytes
) -> ImageCache | None:
    """The cache in a file; None if that is no whole cache of these very images."""
    try:
        return ImageCache(path, source, transform, made_of)
    except DataError:
        return None


def _read_index(file: int) -> tuple[bytes, npt.NDArray[np.int32] | None]:
    """What the images were, and (N, 4): the index; None if the file is no whole cache."""
    size = os.fstat(file).st_size
    footer = os.pread(file, _FOOTER.size, max(0, size - _FOOTER.size))
    if len(footer) < _FOOTER.size:
        return b"", None
    mark, start, made_of, checksum = _FOOTER.unpack(footer)
    length = size - _FOOTER.size - start
    if mark != _MARK or length < 0 or length % (4 * _ROW.itemsize):
        return b"", None
    rows = os.pread(file, length, start)
    if len(rows) < length or _checksum(rows, start, made_of) != checksum:
        return b"", None
    sizes = np.frombuffer(rows, _ROW).reshape(-1, 4).astype(np.int32)
    if (sizes < 0).any() or _lengths(sizes).sum() != start:
        return b"", None
    return made_of, sizes


def _checksum(rows: bytes, start: int, made_of: bytes) -> int:
    return zlib.crc32(_FOOTER.pack(_MARK, start, made_of, 0), zlib.crc32(rows))


def _lengths(sizes: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Bytes of each image."""
    return sizes[:, :2].astype(np.int64).prod(1) * 3


def _check_space(source: FileSource, transform: TrainTransform | EvalTransform, path: Path) -> None:
    """Compare an estimate from some image headers with the room on the disk."""
    step = max(1, len(source) // _SAMPLE)
    found = [header_size(source.root / source.name(index)) for index in range(0, len(source), step)]
    sizes = [transform.reduced_size(*size) for size in found if size is not None]
    if not sizes:
        return
    needed = 3 * sum(h * w for h, w in sizes) / len(sizes) * len(source)
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise ConfigError(
            f"{_KEY} {path.parent}: about {amount(needed)} are needed and {amount(free)} are free; "
            "set data.cache_dir to a folder on another disk, or data.cache=none"
        )


def _build(
    source: FileSource,
    transform: TrainTransform | EvalTransform,
    path: Path,
    made_of: bytes,
    workers: int,
    say: Callable[[str], None],
) -> None:
    count, started = len(source), time.monotonic()
    said = started
    sizes = np.zeros((count, 4), np.int32)
    say(f"Building the image cache {path} ({count:,} images) ...")
    with replacing(path, _KEY) as temporary, open(temporary, "wb") as file:
        for done, item in enumerate(load_each(lambda i: _reduced(source, transform, i), count, workers), 1):
            if item.value is not None:
                image, size = item.value
                sizes[item.index] = (*image.shape[-2:], *size)
                file.write(image.permute(1, 2, 0).contiguous().numpy().reshape(-1).data)
            if time.monotonic() - said > _SECONDS:
                said = time.monotonic()
                left = (said - started) * (count - done) / done
                say(f"Building the image cache: {done:,} of {count:,} images, about {left:.0f} s left")
        start = file.tell()
        rows = sizes.astype(_ROW).tobytes()
        file.write(rows + _FOOTER.pack(_MARK, start, made_of, _checksum(rows, start, made_of)))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _lock(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time build ``path``. Without locks each builds a file of its own, and the last one stays."""
    with ExitStack() as stack:
        waiting = partial(say, f"Waiting for another process that builds the image cache {path}")
        try:
            alone = stack.enter_context(one_at_a_time(path.with_name(f".{path.name}.lock"), waiting))
        except OSError as error:
            raise ConfigError(
                f"{_KEY} {path.parent}: cannot be written ({error.strerror}); set data.cache_dir"
            ) from None
        if alone:
            for leftover in path.parent.glob(
                f".{path.stem}.*.tmp{path.suffix}"
            ):  # of a build that was killed
                leftover.unlink(missing_ok=True)
        yield
