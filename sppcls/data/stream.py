"""Images of many shapes, one after the other: read ahead, in bounded memory, and batched where shapes agree."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from sppcls._util.allocator import give_back_freed_memory
from sppcls.data.geometry import resize
from sppcls.data.sizes import Size
from sppcls.errors import DataError, ImageError

T = TypeVar("T")

LOADER_DIED = "DataLoader worker (pid"
"""In torch's message of a loader process that has died; one on an error inside of it continues differently."""

# In torch's messages of a full /dev/shm: of a batch that finds no room, and of one that was promised it and had none.
_SHARED_MEMORY_FULL = ("unable to allocate shared memory", "unable to write to file </torch_", "Bus error")
_SHARED_MEMORY = Path("/dev/shm")
_LESS = "set data.workers=0 (--workers 0), or give a container more of it (docker run --shm-size=2g)"
_LOCK_BYTES = 1 << 16  # of the locks and queues of one process, each of which takes a page

# Of the descriptors that come with batches: in the main process, in a loader process, and where they are handed over.
_TOO_MANY_FILES = ("Too many open files", "received 0 items of ancdata")

MAX_RESIZED_PIXELS = 1 << 23
"""Most pixels of a whole image that goes through a network: 256 x 32,768, or about 2,900 x 2,900."""

LOADERS_BEGIN = "fork" if sys.platform == "linux" else None
"""How loader processes come to be; from Python 3.14 on, Linux' default loads torch anew in every one. None: the default."""

_LOOK_SECONDS = 1.0  # between looks at whether the main process is there
CHUNK_BYTES = 256 << 20
"""Of images that wait for others of their shape."""
CHUNK_ITEMS = 512
"""Most of them."""


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """What became of one image: ``value``, or the reason in ``error``."""

    index: int
    value: T | None
    error: str = ""


_TOGETHER = 8  # images that a loader process passes on at once


class _ReadingDataset(Dataset[Loaded[T]]):
    def __init__(self, read: Callable[[int], T], count: int) -> None:
        self.read, self.count = read, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Loaded[T]:
        try:
            return Loaded(index, self.read(index))
        except ImageError as error:
            # An exception in a worker would reach the user as a page of traceback.
            return Loaded(index, None, str(error))

    def __getitems__(self, indices: list[int]) -> list[Loaded[T]]:
        fetch = getattr(self.read, "fetch", None)
        if fetch is not None:
            fetch(indices)
        return [self[index] for index in indices]


def begin_worker(worker: int) -> None:
    """What every loader process does first."""
    give_back_freed_memory()  # images differ in size: what a large one took is not for the next
    # Ctrl-C and a scheduler's warnings reach every process; the main one ends these, by SIGTERM if need be.
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    sys.excepthook = _unless_unheard
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the main one is gone, however it ended.

    One that was killed leaves behind a loader whose pipe is full, which would wait for ever, and hold the locks that it
    has from the main process.
    """
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _unless_unheard(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error, unless it is that the main process, which stops, does not fetch its batches any more."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def loader_problem(error: BaseException) -> str | None:
    """What has befallen the loader processes, and what to do about it, in one line; None of any other error."""
    text = str(error)
    if isinstance(error, RuntimeError) and any(sign in text for sign in _SHARED_MEMORY_FULL):
        return f"the shared memory ({_SHARED_MEMORY}), through which loader processes pass their batches, is full: {_LESS}"
    files = isinstance(error, RuntimeError) and any(sign in text for sign in _TOO_MANY_FILES)
    if files or (isinstance(error, OSError) and error.errno == errno.EMFILE):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return (
            f"too many open files for the loader processes (a process may open {limit}): raise the limit "
            "(ulimit -n 4096), or take fewer data.workers (--workers)"
        )
    if isinstance(error, RuntimeError) and LOADER_DIED in text:
        return "a loader process died, or was killed for lack of memory: fewer data.workers (--workers) need less of it"
    return None


def check_shared_memory(needed: int) -> None:
    """Look whether loader processes can pass anything to this one, before they are started.

    Args:
        needed: bytes without which they certainly cannot.

    Raises:
        DataError: the shared memory has less, or cannot be used.
    """
    try:
        multiprocessing.get_context(LOADERS_BEGIN).Lock()
        free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else needed
    except OSError as error:
        raise DataError(
            f"loader processes need shared memory, and {_SHARED_MEMORY} cannot be used ({error.strerror}): {_LESS}"
        ) from None
    if free < needed:
        raise DataError(
            f"loader processes need {needed / 2**20:.1f} MiB of shared memory at least, and {_SHARED_MEMORY} has "
            f"{free / 2**20:.1f} MiB free: {_LESS}"
        )


def load_each(
    read: Callable[[int], T], count: int, workers: int = 0, indices: Sequence[int] | None = None
) -> Iterator[Loaded[T]]:
    """``read(i)`` for every ``i`` below ``count`` (or in ``indices``), in order, in ``workers`` processes.

    Where ``read`` has a ``fetch``, it is told before of the next few numbers, whose bytes it may ask for together.

    An :class:`~sppcls.errors.ImageError` becomes a :class:`Loaded` without a value; other exceptions are raised.
    """
    with warnings.catch_warnings():
        # Two readers are no burden for a machine with one core.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader = DataLoader(
            _ReadingDataset(read, count),
            batch_size=_TOGETHER if workers or getattr(read, "fetch", None) is not None else 1,
            sampler=range(count) if indices is None else indices,
            num_workers=workers,
            # Tensors from a worker would each hold a file descriptor for as long as they wait for their like.
            collate_fn=_packed if workers else list,
            worker_init_fn=begin_worker,
            multiprocessing_context=LOADERS_BEGIN if workers else None,
            generator=torch.Generator().manual_seed(0),
        )
        if workers:
            check_shared_memory(workers * _LOCK_BYTES)
        groups = iter(loader)
    try:
        for group in groups:
            yield from pickle.loads(group) if workers else group
    except (RuntimeError, OSError) as error:
        if problem := loader_problem(error):
            raise DataError(problem) from None
        raise


def readable(loaded: Iterable[Loaded[T]], bad: list[str]) -> Iterator[tuple[int, T]]:
    """Number and value of each image that could be read; ``bad`` takes a line for each of the others."""
    for one in loaded:
        if one.value is None:
            bad.append(one.error)
        else:
            yield one.index, one.value


def _packed(group: list[Loaded[T]]) -> bytes:
    return pickle.dumps(group, pickle.HIGHEST_PROTOCOL)


def in_chunks(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Items in lists that are long enough to find equal shapes in, and bounded in number and bytes."""
    chunk: list[T] = []
    held = 0
    for item in items:
        chunk.append(item)
        held += size_of(item)
        if len(chunk) >= CHUNK_ITEMS or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def same_shape_batches(
    items: Sequence[T], shape_of: Callable[[T], Size], batch_size: int
) -> Iterator[list[T]]:
    """Batches of items of one shape (height, width); every item once.

    ``batch_size`` is for images of about 256 x 384 pixels: batches of larger ones hold fewer, down to one.
    """
    groups: dict[Size, list[T]] = {}
    for item in items:
        groups.setdefault(shape_of(item), []).append(item)
    for (height, width), group in groups.items():
        most = max(1, min(batch_size, batch_size * 256 * 384 // (height * width)))
        for start in range(0, len(group), most):
            yield group[start : start + most]


def resize_whole(image: torch.Tensor, shorter_side: int | None) -> torch.Tensor:
    """Resize a whole image, its aspect kept, so that its shorter side is ``shorter_side``.

    Args:
        image: uint8 (3, H, W).
        shorter_side: in pixels; None keeps the image's own size. Either way at most ``MAX_RESIZED_PIXELS`` come out:
            what would be larger is made as large as that.

    Returns:
        uint8 (3, h, w).
    """
    return resize(image, whole_size((image.shape[-2], image.shape[-1]), shorter_side))


def whole_size(size: Size, shorter_side: int | None) -> Size:
    """(height, width) that :func:`resize_whole` gives an image of (height, width)."""
    height, width = size
    scale = 1.0 if shorter_side is None else shorter_side / min(size)
    if height * width * scale * scale > MAX_RESIZED_PIXELS:
        scale = (MAX_RESIZED_PIXELS / (height * width)) ** 0.5
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_to_be_seen(image: torch.Tensor, shorter_side: int, smallest: int) -> torch.Tensor:
    """:func:`resize_whole` for a network that takes images of ``smallest`` pixels and more on each side.

    Raises:
        ImageError: the image is so elongated that less is left of its shorter side.
    """
    whole = resize_whole(image, shorter_side)
    if min(whole.shape[-2:]) < smallest:
        (height, width), (h, w) = image.shape[-2:], whole.shape[-2:]
        raise ImageError(
            f"{height}x{width} is too elongated: resized to {h}x{w} it is too long to be seen whole, "
            f"as this network needs {smallest} pixels"
        )
    return whole
