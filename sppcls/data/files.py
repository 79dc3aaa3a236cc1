"""Where images come from: each source is one split, a list of classes and a way to read image number i."""

from __future__ import annotations

import copy
import hashlib
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from sppcls.data.decode import MAX_PIXELS, check_header, odd_file, read_image
from sppcls.data.label_sets import LabelSets, as_label_sets, is_multi_label, kept_targets, some_targets
from sppcls.data.names import class_name
from sppcls.data.pixel_range import PixelRange
from sppcls.errors import ImageError


class Source(Protocol):
    """One split of a data set."""

    classes: list[str]

    @property
    def targets(self) -> Sequence[Any]:
        """Class number of each image; :class:`~sppcls.data.label_sets.LabelSets` where it may have several."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> torch.Tensor:
        """uint8 (3, H, W); raises ImageError, naming the image, if it cannot be read."""

    def name(self, index: int) -> str:
        """Name of an image, unique within the split."""


class Splits(NamedTuple):
    """The images of one run.

    Attributes:
        train: images to train on.
        val: images to validate on after every epoch; they choose the best one.
        test: images kept for one evaluation after training; None without such a split.
        found: what was recognised and what it is used as, in one line; empty where there was nothing to recognise.
        warnings: what may be a mistake, a line each.
        held_out: whether the validation images are held out of training ones, as there was no validation split.
    """

    train: Source
    val: Source
    test: Source | None = None
    found: str = ""
    warnings: tuple[str, ...] = ()
    held_out: bool = False


class FileSource:
    """Images in files.

    Args:
        root: folder that the names are relative to.
        names: paths of the images below ``root``, with ``/`` between folders.
        targets: class number of each, or :class:`~sppcls.data.label_sets.LabelSets`.
        classes: names of the classes.
        max_pixels: refuse larger images.
        ignored: number of files that were passed over because they are not images.
        pixel_range: how grey of more than 8 bits becomes 8 bits; see :func:`set_pixel_range`.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str] | PackedStrings,
        targets: Sequence[Any],
        classes: Sequence[str],
        max_pixels: int = MAX_PIXELS,
        ignored: int = 0,
        pixel_range: PixelRange = "full",
    ) -> None:
        self.root, self.classes, self.targets = Path(root), list(classes), kept_targets(targets)
        self.max_pixels, self.ignored, self.pixel_range = max_pixels, ignored, pixel_range
        self._names = names if isinstance(names, PackedStrings) else PackedStrings(names)

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        return self._names[index]

    def renumber(self, classes: Sequence[str], targets: Sequence[Any]) -> None:
        """Give the classes other numbers, and list the images in the order of these, where each has one."""
        if isinstance(targets, LabelSets):
            self.classes, self.targets = list(classes), targets
            return
        order = sorted(range(len(targets)), key=targets.__getitem__)
        self._names = PackedStrings([self._names[index] for index in order])
        self.classes, self.targets = list(classes), kept_targets([targets[index] for index in order])

    def part(self, mask: npt.NDArray[np.bool_]) -> FileSource:
        """Some of the images; other files beside them are not counted."""
        names, targets = self._names.part(mask), some_targets(self.targets, mask)
        return FileSource(
            self.root, names, targets, self.classes, self.max_pixels, pixel_range=self.pixel_range
        )

    def digest(self, name: str) -> str:
        """A hash of the bytes of an image; its name, which is like no hash, if the file cannot be read."""
        try:
            with open(self.root / name, "rb") as file:
                return hashlib.file_digest(file, "blake2b").hexdigest()
        except OSError:
            return name  # the look at its header names it

    def image(self, index: int) -> torch.Tensor:
        path = self.root / self._names[index]
        if reason := odd_file(path):
            raise ImageError(f"{path}: {reason}")
        return read_image(path, self.max_pixels, self.pixel_range)


class ArraySource:
    """Images in one uint8 array (N, H, W, 3)."""

    def __init__(
        self, images: np.ndarray, targets: Sequence[int], classes: Sequence[str], prefix: str
    ) -> None:
        self.classes, self.targets = list(classes), list(targets)
        self._images, self._prefix = images, prefix

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        return f"{self._prefix}/{index:05d}"

    def image(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self._images[index]).permute(2, 0, 1)


class PartSource:
    """Some of the images of several sources with the same classes.

    Args:
        sources: by the role that goes before the names of their images.
        members: role and number of each image, in order.
    """

    def __init__(self, sources: Mapping[str, Source], members: Sequence[tuple[str, int]]) -> None:
        self._sources, self._members = dict(sources), list(members)
        self.classes = next(iter(sources.values())).classes
        targets = [sources[role].targets[index] for role, index in members]
        self.targets: Any = LabelSets(targets) if any(map(is_multi_label, sources.values())) else targets

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        role, number = self._members[index]
        return f"{role}/{self._sources[role].name(number)}"

    def image(self, index: int) -> torch.Tensor:
        role, number = self._members[index]
        return self._sources[role].image(number)

    def fetch(self, indices: Sequence[int]) -> None:
        """Have the sources that are far away read the bytes of images together, which will be asked for next."""
        wanted: dict[str, list[int]] = defaultdict(list)
        for index in indices:
            role, number = self._members[index]
            wanted[role].append(number)
        for role, numbers in wanted.items():
            if (fetch := getattr(self._sources[role], "fetch", None)) is not None:
                fetch(numbers)


class JoinedSource(PartSource):
    """The images of several sources with the same classes, one after the other.

    Args:
        parts: sources by the folder that goes before the names of their images.
    """

    def __init__(self, parts: Mapping[str, Source]) -> None:
        super().__init__(parts, [(role, i) for role, part in parts.items() for i in range(len(part))])


def set_pixel_range(pixel_range: PixelRange, *sources: Source | None) -> None:
    """Have the files of ``sources`` read with a pixel range; sources that are not files have 8 bits anyway."""
    for source in sources:
        if source is not None and hasattr(source, "pixel_range"):
            source.pixel_range = pixel_range


def with_classes(source: Source, classes: Sequence[str]) -> Source:
    """The same images, their class numbers those of ``classes``, which has all of the source's by name."""
    if source.classes == list(classes):
        return source
    renumbered: Any = copy.copy(source)
    renumbered.targets = _renumbered(source, classes)
    renumbered.classes = list(classes)
    return cast(Source, renumbered)


def with_label_sets(source: Source) -> Source:
    """The same images with several labels each, of which a source with one label each has one."""
    changed: Any = copy.copy(source)
    changed.targets = as_label_sets(source)
    return cast(Source, changed)


def _renumbered(source: Source, classes: Sequence[str]) -> Any:
    """The targets of a source by the numbers that its classes have in ``classes``."""
    number = {class_name(name): index for index, name in enumerate(classes)}
    numbers = [number[class_name(name)] for name in source.classes]
    if isinstance(source.targets, LabelSets):
        return source.targets.renumbered(numbers)
    return [numbers[target] for target in source.targets]


class PackedStrings:
    """Strings in one buffer.

    A list of a million strings would be copied, page by page, into every forked worker, because reading a
    string changes its reference count.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [string.encode("utf-8", "surrogateescape") for string in strings]
        self._set(b"".join(encoded), np.fromiter(map(len, encoded), np.int64, len(encoded)))

    @classmethod
    def split(cls, joined: bytes, separator: bytes, count: int) -> PackedStrings:
        """The ``count`` strings in bytes with a separator, of one byte, after each.

        Raises:
            ValueError: there are more or fewer.
        """
        stops = np.flatnonzero(np.frombuffer(joined, np.uint8) == separator[0])
        if len(stops) != count or (count and stops[-1] != len(joined) - 1):
            raise ValueError(f"{len(stops)} names for {count} images")
        return cls._of(joined.replace(separator, b""), np.diff(stops, prepend=-1) - 1)

    @classmethod
    def joined(cls, several: Sequence[PackedStrings]) -> PackedStrings:
        """The strings of several, one after the other."""
        lengths = [one._lengths() for one in several]
        return cls._of(b"".join(one._buffer for one in several), np.concatenate(lengths))

    def part(self, mask: npt.NDArray[np.bool_]) -> PackedStrings:
        """Some of the strings."""
        lengths = self._lengths()
        letters = np.frombuffer(self._buffer, np.uint8)[np.repeat(mask, lengths)]
        return self._of(letters.tobytes(), lengths[mask])

    @classmethod
    def _of(cls, buffer: bytes, lengths: npt.NDArray[np.int64]) -> PackedStrings:
        packed = cls.__new__(cls)
        packed._set(buffer, lengths)
        return packed

    def _lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self._ends).astype(np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _set(self, buffer: bytes, lengths: npt.NDArray[np.int64]) -> None:
        ends = np.concatenate([[0], np.cumsum(lengths)])
        self._ends = ends.astype(np.uint32) if len(buffer) < 1 << 32 else ends
        self._buffer = buffer

    def __getitem__(self, index: int) -> str:
        return self._buffer[self._ends[index] : self._ends[index + 1]].decode("utf-8", "surrogateescape")


def keep_class_order(source: Source, classes: Sequence[str]) -> None:
    """Number the classes of image files as a checkpoint does, which may stem from another version.

    Nothing happens to other classes than ``classes``, in any order and in composed or decomposed letters. Images are
    listed class by class then, as they were when the checkpoint was written.
    """
    if not isinstance(source, FileSource) or list(classes) == source.classes:
        return
    wanted, own = (sorted(map(class_name, names)) for names in (classes, source.classes))
    if wanted == own and len(set(own)) == len(own):
        source.renumber(classes, _renumbered(source, classes))


def check_headers(source: Source, threads: int = 16) -> list[tuple[str, str]]:
    """(name, reason) of each image file whose header tells that it cannot be decoded: empty, no image, too large, of
    pixels that have no 8-bit form.

    Takes about 0.3 ms per file; sources that are not files give an empty list.
    """
    if not isinstance(source, FileSource):
        return []
    paths = (source.root / source.name(index) for index in range(len(source)))
    # Pillow's warnings are silenced here, not in each thread: the list of filters is the whole process's.
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
        warnings.simplefilter("ignore")
        reasons = list(
            pool.map(lambda path: check_header(path, source.max_pixels, source.pixel_range), paths)
        )
    return [(source.name(index), reason) for index, reason in enumerate(reasons) if reason]
