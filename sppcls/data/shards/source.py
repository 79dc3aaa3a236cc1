"""Shards as the images of a run."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from sppcls.data.decode import MAX_PIXELS, decode
from sppcls.data.files import Splits
from sppcls.data.hold_out import hold_out
from sppcls.data.label_sets import LabelSets, is_multi_label
from sppcls.data.names import ROLES
from sppcls.data.pixel_range import PixelRange, as_pixel_range
from sppcls.data.shards.index import INDEX, Index, Records, Shard, read_index
from sppcls.data.shards.storage import Missing, Storage
from sppcls.errors import ConfigError, DataError, ImageError
from sppcls.registry import instead, register


class ShardSource:
    """Images in tar files, at the places that an index tells.

    Any image can be read by itself, so the order in which they are read is free, as with files. From an address, the
    images of a batch are asked for together (:meth:`fetch`).

    Args:
        storage: where the tar files are.
        shards: the tar files.
        records: where each image lies.
        classes: names of the classes.
        max_pixels: refuse larger images.
        checked: whether the checksums of images are known, and looked at.
        pixel_range: how grey of more than 8 bits becomes 8 bits.
    """

    def __init__(
        self,
        storage: Storage,
        shards: Sequence[Shard],
        records: Records,
        classes: Sequence[str],
        max_pixels: int = MAX_PIXELS,
        checked: bool = True,
        pixel_range: PixelRange = "full",
    ) -> None:
        self.storage, self.shards, self.pixel_range = storage, list(shards), pixel_range
        self.classes, self.max_pixels, self.checked = list(classes), max_pixels, checked
        self.records, self.targets = records, cast(Any, records.label)
        if not isinstance(records.label, LabelSets):
            # Python's numbers when it is asked, and four bytes each until then; the records share them.
            self.targets = array("i", np.asarray(records.label, np.intc).tobytes())
            self.records = replace(records, label=np.frombuffer(self.targets, np.intc))
        self._fetched: dict[int, bytes | Missing] = {}

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        return self.records.names[index]

    def part(self, mask: npt.NDArray[np.bool_]) -> ShardSource:
        """Some of the images."""
        return self.with_records(self.records.part(mask))

    def with_records(self, records: Records) -> ShardSource:
        """Other images in the same shards."""
        kept = self.classes, self.max_pixels, self.checked, self.pixel_range
        return ShardSource(self.storage, self.shards, records, *kept)

    def fetch(self, indices: Sequence[int]) -> None:
        """Read the bytes of images that will be asked for next, together if they are far away.

        Raises:
            DataError: the address cannot be reached.
        """
        if not self.storage.remote:
            return
        wanted = list(dict.fromkeys(indices))
        self._fetched = dict(zip(wanted, self.storage.pieces([self._piece(i) for i in wanted]), strict=True))

    def data(self, index: int) -> bytes:
        """The file of an image.

        Raises:
            ImageError: its shard is missing, cut off or damaged.
            DataError: the address cannot be reached.
        """
        index = range(len(self))[index]
        found = self._fetched.pop(index, None)
        if found is None:
            (found,) = self.storage.pieces([self._piece(index)])
        size = int(self.records.size[index])
        if isinstance(found, Missing):
            raise ImageError(f"{self._where(index)}: {found}")
        if len(found) < size:
            raise ImageError(f"{self._where(index)}: the shard is cut off")
        if len(found) > size:
            raise DataError(
                f"{self.storage}: gives {len(found)} bytes for {size}; the server must know ranges"
            )
        if self.checked and zlib.crc32(found) != int(self.records.crc32[index]):
            raise ImageError(f"{self._where(index)}: damaged: other bytes than were written (CRC-32)")
        return found

    def image(self, index: int) -> torch.Tensor:
        """uint8 (3, H, W); raises as :meth:`data`, and ImageError of what is no image."""
        data = self.data(index)
        try:
            return decode(data, self.max_pixels, self.pixel_range)
        except ImageError as error:
            raise ImageError(f"{self._where(index)}: {error}") from error

    def _piece(self, index: int) -> tuple[str, int, int]:
        rows = self.records
        return self.shards[rows.shard[index]].file, int(rows.offset[index]), int(rows.size[index])

    def _where(self, index: int) -> str:
        return f"{self.storage}/{self.shards[self.records.shard[index]].file}: {self.name(index)}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fetched": {}}


_WRITTEN = "`sppcls shards FOLDER OUT {}` reads it when shards are written: leave it out"
_REDUCED = "shards are read as they are; `sppcls shards FOLDER OUT --resize-shorter-side 256` writes smaller images: leave it out"


@register("data", "shards")
@instead(
    {
        **dict.fromkeys(("cache", "cache_dir", "cache_shorter_side"), _REDUCED),
        "labels": _WRITTEN.format("--labels FILE"),
        "multi_label": _WRITTEN.format("--multi-label true"),
        **dict.fromkeys(("train_dir", "val_dir", "test_dir"), "their index says the splits: leave it out"),
        "download": "data.root may be an address, which is read from: leave it out",
    }
)
def shards(
    root: str | None = None,
    val_fraction: float | None = None,
    max_pixels: int = MAX_PIXELS,
    pixel_range: Any = "full",
    check: bool = True,
) -> Splits:
    """The splits of a folder of shards that has an index.

    Args:
        root: folder of the shards, or its address: s3://..., https://...
        val_fraction: share of each class held out where there is no validation split; null: as `sppcls shards` held it out.
        max_pixels: largest image accepted, in pixels.
        pixel_range: grey of more than 8 bits: full (white is the depth's largest value), image (each its own), [black,white].
        check: look at the size of every shard before training.

    Raises:
        ConfigError: no folder is named, or ``val_fraction`` with a validation split.
        DataError: there is no index, or it is damaged; the address cannot be reached; with ``check``, a shard is missing
            or has another size.
    """
    if not root:
        raise ConfigError("data.root: missing; data=shards needs the folder of the shards, or its address")
    storage = Storage(root)
    index = load_index(storage)
    if check:
        check_sizes(storage, index)
    read = index.classes, max_pixels, True, as_pixel_range(pixel_range)
    sources = {
        role: ShardSource(storage, index.shards, records, *read) for role, records in index.splits.items()
    }
    if storage.remote:
        _try_one(sources["train"])
    if "val" not in sources and val_fraction is None:
        raise DataError(
            f"data.root={root}: no validation images in its index; `sppcls shards --index` holds some out, or type "
            "data.val_fraction=0.2"
        )
    held_out = index.held_out or "val" not in sources
    if val_fraction is not None:
        setting = f"data.val_fraction={val_fraction:g}"
        if not held_out:
            raise ConfigError(f"{setting}: these shards have a validation split of their own; leave it out")
        whole = _together([sources[role] for role in ("train", "val") if role in sources])
        sources["train"], sources["val"] = hold_out(whole, val_fraction, setting)
    roles = [role for role in ROLES if role in sources]
    parts = [f"{role} {len(sources[role]):,}" for role in roles]
    held = ["val is held out of the training images"] if held_out else []
    found = "; ".join([f"{len(index.shards):,} shards, {', '.join(parts)}", *held])
    return Splits(sources["train"], sources["val"], sources.get("test"), found, held_out=held_out)


def _together(parts: Sequence[ShardSource]) -> ShardSource:
    """The images of several sources, in the order of a folder: class by class, by their names; of several labels by names."""
    first = parts[0]
    names = [part.name(index) for part in parts for index in range(len(part))]
    targets = [target for part in parts for target in part.targets]
    several = is_multi_label(first)
    order = sorted(range(len(names)), key=lambda i: (0 if several else targets[i], names[i]))
    columns: dict[str, Any] = {
        column: np.concatenate([getattr(part.records, column) for part in parts])[order]
        for column in ("shard", "offset", "size", "crc32")
    }
    labels = [targets[index] for index in order]
    columns["label"] = LabelSets(labels) if several else labels
    return first.with_records(Records.of(columns, [names[index] for index in order]))


def load_index(storage: Storage) -> Index:
    """The index of a folder of shards.

    Raises:
        DataError: there is none, it is damaged, or the address cannot be reached.
    """
    try:
        return read_index(storage.read(INDEX), f"{storage}/{INDEX}")
    except Missing:
        raise DataError(
            f"data.root={storage}: there is no {INDEX} there; `sppcls shards FOLDER OUT` writes shards with one, "
            "`sppcls shards --index FOLDER` one for tar files that are there"
        ) from None


def check_sizes(storage: Storage, index: Index) -> None:
    """Look whether every shard is there in its full size; no image is read.

    Raises:
        DataError: names those that are not.
    """
    bad = []
    for shard, size in zip(index.shards, storage.sizes([s.file for s in index.shards]), strict=True):
        if isinstance(size, Missing):
            bad.append(f"{shard.file}: {size}")
        elif size is not None and size != shard.bytes:
            bad.append(f"{shard.file}: {size:,} bytes instead of {shard.bytes:,}")
    if bad:
        more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            f"{storage}: {len(bad)} of {len(index.shards)} shards are broken (fetch them again, or data.check=false skips "
            f"what cannot be read): {'; '.join(bad[:5])}{more}"
        )


def _try_one(source: ShardSource) -> None:
    """Read one image from an address, whose server may not know how to send a part of a file."""
    with suppress(ImageError):  # of one image, which training will name
        source.data(0)
