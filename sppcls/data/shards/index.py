"""The index of a folder of shards: its classes, its tar files, and where in them each image lies.

One JSON file, ``index.json``. Classes, files, counts and checksums can be read in it; what there is of every image is
packed: little-endian numbers, compressed by zlib, in base64. A million images take about 25 MB and half a second. Where
images have several labels, ``label`` has those of all, one image after the other, and ``labels`` how many each has.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sppcls._util.files import write_json
from sppcls.data.files import PackedStrings
from sppcls.data.label_sets import LabelSets, some_targets
from sppcls.data.names import ROLES
from sppcls.errors import DataError

INDEX = "index.json"
MAX_IMAGE = 1 << 30
"""Most bytes of one image file; a header that says more would have this process run out of memory."""

_FORMAT = "sppcls shards"
_VERSION, _SEVERAL = 1, 2  # of an index of images with one label, and with several
_NAME = 4096  # most bytes of a name
_FEW = 10_000  # images that an index of any size may speak of
_LENGTHS = "labels"  # column of how many labels each image has
_LABELS = 10  # for each byte of an index at most: over fifty an image, whose checksum takes over five
_COLUMNS = {"shard": "<i4", "offset": "<i8", "size": "<i4", "crc32": "<u4", "label": "<i4"}


@dataclass(frozen=True)
class Shard:
    """One tar file.

    Attributes:
        file: its path below the folder of the index, with ``/``.
        bytes: its size.
        images: number of images in it.
        sha256: checksum of the file, in hexadecimal digits.
    """

    file: str
    bytes: int
    images: int
    sha256: str


@dataclass(frozen=True)
class Records:
    """The images of a split, a row each, in the order of their numbers.

    Attributes:
        shard: int32, number of the tar file.
        offset: int64, its first byte in the tar file.
        size: int32, its bytes.
        crc32: uint32, checksum of its bytes.
        label: int32, number of its class; or those of all its labels.
        names: its name.
    """

    shard: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    crc32: npt.NDArray[np.uint32]
    label: npt.NDArray[np.int32] | LabelSets
    names: PackedStrings

    def __len__(self) -> int:
        return len(self.shard)

    @classmethod
    def of(cls, columns: Mapping[str, Any], names: Sequence[str]) -> Records:
        """From lists or arrays by column; ``label`` may be :class:`~sppcls.data.label_sets.LabelSets`."""
        arrays: dict[str, Any] = {
            name: column if isinstance(column := columns[name], LabelSets) else np.asarray(column, kind)
            for name, kind in _COLUMNS.items()
        }
        return cls(**arrays, names=PackedStrings(names))

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, int, int, str]], targets: Any) -> Records:
        """From (shard, offset, size, crc32, name) of each image, and their targets; there is one at least."""
        *columns, names = zip(*rows, strict=True)
        return cls.of({**dict(zip(_COLUMNS, columns, strict=False)), "label": targets}, names)

    def part(self, mask: npt.NDArray[np.bool_]) -> Records:
        """Some of the images."""
        columns = {name: getattr(self, name)[mask] for name in _COLUMNS if name != "label"}
        return Records(**columns, label=some_targets(self.label, mask), names=self.names.part(mask))


@dataclass(frozen=True)
class Index:
    """What is in a folder of shards.

    Attributes:
        classes: their names.
        shards: the tar files.
        splits: ``train``, and perhaps ``val`` and ``test``.
        made_of: how the images were prepared, for whoever writes into the folder again.
        held_out: whether ``val`` was held out of the training images.
    """

    classes: list[str]
    shards: list[Shard]
    splits: dict[str, Records]
    made_of: dict[str, Any] = field(default_factory=dict)
    held_out: bool = False

    def write(self, folder: Path) -> Path:
        """Write ``index.json``, at once; returns its path."""
        content = {
            "format": _FORMAT,
            "version": _SEVERAL
            if isinstance(next(iter(self.splits.values())).label, LabelSets)
            else _VERSION,
            "made_of": self.made_of,
            "held_out": self.held_out,
            "classes": self.classes,
            "shards": [asdict(shard) for shard in self.shards],
            "splits": {role: _packed(records) for role, records in self.splits.items()},
        }
        write_json(folder / INDEX, content)
        return folder / INDEX


def read_index(data: bytes, place: str) -> Index:
    """The index in the bytes of an ``index.json``.

    Args:
        data: the file.
        place: what to call it in messages.

    Raises:
        DataError: it is damaged, of another kind or of a newer version, or contradicts itself.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise DataError(
            f"{place}: damaged: no JSON; `sppcls shards --index FOLDER --classes NAMES.txt` writes it anew"
        ) from None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise DataError(f"{place}: no index of shards; `sppcls shards --index FOLDER` writes one")
    if found.get("version") not in (_VERSION, _SEVERAL):
        raise DataError(
            f"{place}: version {found.get('version')!r}; this sppcls reads {_VERSION} and {_SEVERAL}"
        )
    try:
        index = Index(
            [str(name) for name in found["classes"]],
            [Shard(**shard) for shard in found["shards"]],
            {role: _unpacked(found["splits"][role], len(data)) for role in ROLES if role in found["splits"]},
            dict(found["made_of"]),
            bool(found["held_out"]),
        )
        _check(index)
    except KeyError as error:
        raise DataError(f"{place}: damaged (no {error}); write it anew") from None
    except (ValueError, TypeError, AttributeError, OverflowError, zlib.error, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"{place}: damaged ({reason}); write it anew") from None
    return index


def _check(index: Index) -> None:
    """Raise ValueError where an index says what cannot be."""
    for shard in index.shards:
        if not isinstance(shard.file, str) or not isinstance(shard.bytes, int) or shard.bytes < 0:
            raise ValueError(f"shard {shard.file!r}")
        # A path that leads elsewhere would have any file of this machine read.
        if shard.file.startswith("/") or ".." in shard.file.split("/") or {":", "\\"} & {*shard.file}:
            raise ValueError(f"shard {shard.file!r} is not below its folder")
    if "train" not in index.splits:
        raise ValueError("no training images")
    if len({isinstance(rows.label, LabelSets) for rows in index.splits.values()}) > 1:
        raise ValueError("images of one split have several labels, of another one")
    sizes = np.array([shard.bytes for shard in index.shards], np.int64)
    for role, rows in index.splits.items():
        if not len(rows):
            raise ValueError(f"no image in {role}")
        labels = rows.label.numbers if isinstance(rows.label, LabelSets) else rows.label
        if ((labels < 0) | (labels >= len(index.classes))).any():
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(f"{role} has label {wrong}, for {len(index.classes)} classes")
        if rows.shard.min() < 0 or rows.shard.max() >= len(sizes):
            raise ValueError(f"{role} has images in shard {rows.shard.max()} of {len(sizes)}")
        if rows.size.min() <= 0 or rows.size.max() > MAX_IMAGE or rows.offset.min() < 0:
            raise ValueError(f"{role} has an image of impossible size")
        if (rows.offset > sizes[rows.shard] - rows.size).any():  # their sum could be too large a number
            raise ValueError(f"{role} has an image that ends behind its shard")


def _packed(records: Records) -> dict[str, Any]:
    arrays = {name: getattr(records, name) for name in _COLUMNS}
    if isinstance(records.label, LabelSets):
        arrays |= {"label": records.label.numbers, _LENGTHS: records.label.lengths}
    columns = {
        name: _text(array.astype(_COLUMNS.get(name, "<i4")).tobytes()) for name, array in arrays.items()
    }
    names = "".join(f"{records.names[index]}\0" for index in range(len(records)))
    return {"images": len(records), **columns, "name": _text(names.encode("utf-8", "surrogateescape"))}


def _unpacked(split: Mapping[str, Any], file_bytes: int) -> Records:
    """The rows of a split. What they may take is bounded by the size of the file, whatever it says of itself."""
    count = split["images"]
    # A checksum cannot be packed: each takes over five characters.
    if not isinstance(count, int) or not 0 <= count <= max(_FEW, file_bytes):
        raise ValueError(f"images: {count!r}")
    lengths = _column(split, _LENGTHS, count, "<i4") if _LENGTHS in split else None
    counts = dict.fromkeys(_COLUMNS, count)
    if lengths is not None:
        counts["label"] = int(lengths.sum(dtype=np.int64))
        if (lengths < 0).any() or counts["label"] > _LABELS * max(_FEW, file_bytes):
            raise ValueError(f"{_LENGTHS}: {counts['label']:,} labels")
    arrays: dict[str, Any] = {
        name: _column(split, name, counts[name], kind) for name, kind in _COLUMNS.items()
    }
    if lengths is not None:
        arrays["label"] = LabelSets.packed(arrays["label"], lengths)
    names = _bytes(split["name"], min(count * _NAME, _NAME * max(_FEW, file_bytes // 40)))
    return Records(**arrays, names=PackedStrings.split(names, b"\0", count))


def _column(split: Mapping[str, Any], name: str, count: int, kind: str) -> npt.NDArray[Any]:
    """A packed column of so many numbers."""
    data = _bytes(split[name], count * np.dtype(kind).itemsize)
    if len(data) != count * np.dtype(kind).itemsize:
        raise ValueError(f"column {name} is not that of {count} images")
    return np.frombuffer(data, kind).astype(np.dtype(kind).newbyteorder("="), copy=False)


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 6)).decode("ascii")


def _bytes(text: str, most: int) -> bytes:
    """Unpack a column of at most so many bytes: a small file could else fill all memory."""
    return zlib.decompressobj().decompress(base64.b64decode(text, validate=True), max(1, most))
