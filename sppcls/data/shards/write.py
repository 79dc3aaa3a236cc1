"""Writing images into shards, in an order that any reader may take them in; a writer that was stopped is resumed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from PIL import Image

from sppcls._util.files import one_at_a_time, read_json, replacing, write_json, writing
from sppcls.data.decode import check_header_of, decode, odd_file
from sppcls.data.files import FileSource
from sppcls.data.label_sets import LabelSets, is_multi_label
from sppcls.data.sampler import permutation
from sppcls.data.shards.index import INDEX, MAX_IMAGE, Index, Records, Shard, read_index
from sppcls.data.shards.source import ShardSource
from sppcls.data.stream import Loaded, load_each, resize_whole
from sppcls.errors import ConfigError, DataError, ImageError

UNFINISHED = ".unfinished"
"""Folder of what is known of the shards that are written, until there is an index."""

_BLOCK = 512
_SECONDS = 10  # between lines of progress


@dataclass(frozen=True)
class Preparation:
    """What becomes of an image file on its way into a shard.

    Attributes:
        shorter_side: images with a longer one are reduced to it and saved as JPEG; None: all files stay as they are.
        quality: of the JPEG files, as Pillow counts.
    """

    shorter_side: int | None = None
    quality: int = 90


@dataclass
class Written:
    """What :func:`write_shards` did: the index, and a line on each image that was left out."""

    index: Index
    left_out: list[str] = field(default_factory=list)


def write_shards(
    splits: Mapping[str, FileSource | ShardSource],
    out: Path,
    *,
    preparation: Preparation | None = None,
    shard_bytes: int = 256_000_000,
    held_out: bool = False,
    workers: int = 0,
    say: Callable[[str], None] = print,
) -> Written:
    """Write the images of splits into tar files, and an index of them.

    A shard holds images of all classes, in an order that depends on their number alone. The label beside an image is the
    number of its class, or JSON of several. A shard takes its name when it is whole. Called again after it was stopped,
    this resumes behind the last whole shard, and ends with the same bytes.

    Args:
        splits: images by ``train``, ``val``, ``test``.
        out: a new folder, or the one of a call that was stopped.
        preparation: whether images are reduced.
        shard_bytes: a shard is closed before it gets larger.
        held_out: whether ``val`` was held out of the training images, for the index.
        workers: processes that read and reduce; 0: this one.
        say: takes a line of progress.

    Raises:
        ConfigError: the folder holds something else, or cannot be written.
        DataError: no image of a split can be read.
    """
    preparation = preparation or Preparation()
    made_of = {
        "shorter_side": preparation.shorter_side,
        "quality": None if preparation.shorter_side is None else preparation.quality,
        "shard_bytes": shard_bytes,
        "images": {role: _digest(source) for role, source in splits.items()},
    }
    work = out / UNFINISHED
    with writing(out):
        _check_folder(out, made_of)
        work.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(work / "lock", partial(say, f"Waiting for another process that writes to {out}")):
            if (out / INDEX).exists():
                shutil.rmtree(work, ignore_errors=True)
                return Written(read_index((out / INDEX).read_bytes(), str(out / INDEX)))
            for leftover in out.glob(".*.tmp.tar"):  # of a writer that was killed
                leftover.unlink(missing_ok=True)
            write_json(work / "made_of.json", made_of)
            shards: list[Shard] = []
            records, left_out = {}, []
            for role, source in splits.items():
                read = partial(_prepared, source, preparation)
                parts = list(_write_split(out, role, source, read, shard_bytes, workers, say))
                records[role] = _records(source, parts, len(shards), role)
                shards += [Shard(**part["shard"]) for part in parts]
                left_out += [line for part in parts for line in part["left_out"]]
            classes = next(iter(splits.values())).classes
            index = Index(list(classes), shards, records, made_of, held_out)
            index.write(out)
        shutil.rmtree(work, ignore_errors=True)
    return Written(index, left_out)


def check_out(folder: Path, out: Path) -> None:
    """Refuse a place for shards that cannot be one, before the images are looked at.

    Args:
        folder: of the images.
        out: where the shards are to lie.

    Raises:
        ConfigError: it is ``folder`` or lies in it, or holds something else than shards.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        where = "the folder" if out.resolve() == folder.resolve() else f"in {folder},"
        raise ConfigError(f"{out}: is {where} whose images are to be read; name a new folder beside it")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; name a new folder")
    if out.is_dir() and not (out / INDEX).exists() and read_json(out / UNFINISHED / "made_of.json") is None:
        _check_empty(out)


def _check_empty(out: Path) -> None:
    if any(name != UNFINISHED for name in os.listdir(out)):
        raise ConfigError(f"{out}: is not empty; name a new folder")


def _check_folder(out: Path, made_of: Mapping[str, Any]) -> None:
    """Refuse a folder with something else in it than what this writer makes."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / INDEX).exists():
        before: Mapping[str, Any] | None = read_index((out / INDEX).read_bytes(), str(out / INDEX)).made_of
    else:
        before = read_json(out / UNFINISHED / "made_of.json")
        if before is None:
            _check_empty(out)
    if before is not None and before != made_of:
        names = [name for name in made_of if before.get(name) != made_of[name]]
        raise ConfigError(
            f"{out}: holds shards of other images or settings ({', '.join(names)}); name a new folder, or remove it"
        )


def _digest(source: FileSource | ShardSource) -> str:
    """A hash of the names and classes of the images."""
    digest = hashlib.blake2b("\0".join(source.classes).encode("utf-8", "surrogateescape"), digest_size=16)
    for index, target in enumerate(source.targets):
        digest.update(f"{target}\0{source.name(index)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


# --- in the loader processes


def _prepared(source: FileSource | ShardSource, preparation: Preparation, index: int) -> tuple[str, bytes]:
    """(extension, bytes) of the file that goes into a shard; raises ImageError of what cannot be read."""
    name = source.name(index)
    extension = os.path.splitext(name)[1].lower().lstrip(".")
    data = _file(source, index)
    try:
        if len(data) > MAX_IMAGE:
            raise ImageError(f"more than the {MAX_IMAGE:,} bytes allowed")
        side = preparation.shorter_side
        if side is None:
            if reason := check_header_of(io.BytesIO(data), source.max_pixels, "image"):
                raise ImageError(reason)
            return extension, data
        image = decode(data, source.max_pixels)
        if min(image.shape[-2:]) <= side:
            return extension, data
        pixels = resize_whole(image, side).permute(1, 2, 0).contiguous().numpy()
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=preparation.quality)
        return "jpg", encoded.getvalue()
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error


def _file(source: FileSource | ShardSource, index: int) -> bytes:
    if isinstance(source, ShardSource):
        return source.data(index)
    path = source.root / source.name(index)
    if reason := odd_file(path):
        raise ImageError(f"{path}: {reason}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error


# --- in the main process


class _Tar:
    """A WebDataset tar file that is being written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
        self.rows: list[tuple[int, int, int, int]] = []

    def add(self, index: int, target: Any, extension: str, data: bytes) -> None:
        key = f"{index:09d}"
        # Read as they are by tarfile, too: a header of one block, then the data.
        self._member(f"{key}.{extension}", data)
        self.rows.append((index, self._tar.offset - _padded(len(data)), len(data), zlib.crc32(data)))
        self._member(f"{key}.{'json' if isinstance(target, tuple) else 'cls'}", _label(target))

    def has_room(self, data: bytes, target: Any, most: int) -> bool:
        end = self._tar.offset + 2 * _BLOCK + _padded(len(data)) + _padded(len(_label(target)))
        return not self.rows or end + tarfile.RECORDSIZE <= most

    def close(self) -> None:
        self._tar.close()

    def _member(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        self._tar.addfile(info, io.BytesIO(data))
        self._tar.members = []  # type: ignore[attr-defined]  # a list of all is not needed


def _label(target: Any) -> bytes:
    """A class number, or those of several labels."""
    return (json.dumps({"labels": target}) if isinstance(target, tuple) else str(target)).encode()


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _write_split(
    out: Path,
    role: str,
    source: FileSource | ShardSource,
    read: Callable[[int], tuple[str, bytes]],
    shard_bytes: int,
    workers: int,
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """What is known of each shard of a split, those of before first; the others are written."""
    work, count = out / UNFINISHED, len(source)
    number = begin = 0
    while (part := read_json(work / f"{_name(role, number)}.json")) is not None:
        shard = Shard(**part["shard"])
        if not (out / shard.file).is_file() or (out / shard.file).stat().st_size != shard.bytes:
            break
        yield part
        number, begin = number + 1, part["end"]
    if number:
        say(f"{role}: resuming behind {number:,} shards with {begin:,} images")
    order = permutation(count, 0, 0)[begin:].tolist()
    items = load_each(read, count, workers, order)
    item = next(items, None)
    started = said = time.monotonic()
    end = begin
    while item is not None:
        path = out / f"{_name(role, number)}.tar"
        left_out: list[str] = []
        with replacing(path) as temporary:
            with open(temporary, "wb") as file:
                tar = _Tar(file)
                while item is not None and _add(tar, source, item, shard_bytes, left_out):
                    end, item = end + 1, next(items, None)
                    if time.monotonic() - said > _SECONDS:
                        said = time.monotonic()
                        left = (said - started) * (count - end) / (end - begin) / 60
                        say(f"{role}: {end:,} of {count:,} images, about {left:.0f} minutes left")
                tar.close()
            with open(temporary, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        shard = Shard(path.name, path.stat().st_size, len(tar.rows), digest)
        part = {"shard": shard.__dict__, "rows": tar.rows, "left_out": left_out, "end": end}
        with replacing(work / f"{_name(role, number)}.json") as temporary:
            temporary.write_text(json.dumps(part))
        yield part
        number += 1


def _name(role: str, number: int) -> str:
    return f"{role}-{number:06d}"


def _add(
    tar: _Tar,
    source: FileSource | ShardSource,
    item: Loaded[tuple[str, bytes]],
    most: int,
    left_out: list[str],
) -> bool:
    """Add an image, or note why it is left out; False if it has to go into the next shard."""
    if item.value is None:
        left_out.append(item.error)
        return True
    extension, data = item.value
    target = source.targets[item.index]
    if not tar.has_room(data, target, most):
        return False
    tar.add(item.index, target, extension, data)
    return True


def _records(source: FileSource | ShardSource, parts: list[dict[str, Any]], first: int, role: str) -> Records:
    """The rows of all shards of a split, in the order of the images' numbers: that of the folder."""
    rows = sorted(
        (index, first + number, offset, size, crc32)
        for number, part in enumerate(parts)
        for index, offset, size, crc32 in part["rows"]
    )
    if not rows:
        raise DataError(f"{role}: none of its {len(source):,} images can be read")
    targets = [source.targets[index] for index, *_ in rows]
    return Records.from_rows(
        [(*row, source.name(index)) for index, *row in rows],
        LabelSets(targets) if is_multi_label(source) else targets,
    )
