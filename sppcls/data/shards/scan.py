"""Tar files that somebody else has written: where the images in them lie. No member is unpacked or run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import IO, NamedTuple

from sppcls._util.reason import reason_of
from sppcls.data.hold_out import held_out
from sppcls.data.kinds import image_kinds
from sppcls.data.label_sets import targets_of
from sppcls.data.names import in_order, roles_among, some
from sppcls.data.shards.index import MAX_IMAGE, Index, Records, Shard
from sppcls.errors import DataError

# webdataset's readers unpickle them.
_PICKLES = ("pyd", "pkl", "pickle", "pth")
_LABEL = 4096  # most bytes of a label
_LISTED = 1 << 20  # and of a list of them, with whatever else a file of JSON says
_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Member(NamedTuple):
    """A file in a tar file: its name, its first byte and its bytes."""

    name: str
    offset: int
    size: int


@contextmanager
def reading_tar(path: Path) -> Iterator[None]:
    """A block that reads a tar file; what tarfile and the disk raise becomes a DataError."""
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged or cut off ({reason_of(error)})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or reason_of(error)})") from None


def members(path: Path, file: IO[bytes], end: int) -> Iterator[Member]:
    """The files of a tar file that begins where ``file`` is; links, folders and devices are passed over.

    Args:
        path: what to call it in messages.
        file: an open file.
        end: where the tar file ends at the latest.

    Raises:
        DataError: it is cut off, or a member is not in one piece.
        tarfile.TarError: it is damaged.
    """
    with tarfile.TarFile(fileobj=file) as tar:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined]  # a list of a million is not needed
            if not info.isreg():
                continue
            if info.issparse():
                raise DataError(f"{path}: {info.name!r} has holes (a sparse member): pack it anew")
            if info.offset_data + info.size > end:
                raise DataError(f"{path}: cut off within {info.name!r}")
            yield Member(info.name, info.offset_data, info.size)


class _Sample(NamedTuple):
    name: str
    labels: tuple[str, ...]
    shard: int
    image: Member
    crc32: int


def index_folder(
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    val_fraction: float = 0.2,
    say: Callable[[str], None] = print,
) -> Index:
    """The index of WebDataset tar files: ``KEY.jpg`` (or another kind of image) and ``KEY.cls`` for each image, or
    ``KEY.json`` with a list of ``labels``. Images have several labels if a list is read.

    Splits are told by the names of files or their folders (``train-000000.tar``, ``val/0001.tar``). Without validation
    files, ``val_fraction`` of each class is held out by the hash of the keys.

    Args:
        folder: of the tar files, which may lie in folders below it.
        classes: names of the classes, if the labels are numbers; None: the numbers.
        val_fraction: share of each class to hold out.
        say: takes a line for each tar file.

    Raises:
        DataError: a file is damaged or compressed, holds pickles, or an image has no label; names the file and member.
    """
    found = sorted(path for path in folder.rglob("*") if not path.name.startswith("."))
    if packed := [path for path in found if path.name.endswith(_PACKED)]:
        raise DataError(
            f"{packed[0]}: compressed, so no image can be read by itself: unpack it to a plain .tar"
        )
    paths = [path for path in found if path.suffix == ".tar" and path.is_file()]
    if not paths:
        raise DataError(f"{folder}: there is no .tar file in it")
    shards: list[Shard] = []
    samples: list[list[_Sample]] = []
    several = False
    for number, path in enumerate(paths):
        rows, lists, digest = _samples(path, number)
        several = several or lists
        name = path.relative_to(folder).as_posix()
        if ":" in name or "\\" in name:
            raise DataError(f"{path}: rename it: a shard's name has no colon and no backslash")
        shards.append(Shard(name, path.stat().st_size, len(rows), digest))
        samples.append(rows)
        say(f"{name}: {len(rows):,} images")
    labels = {label for rows in samples for row in rows for label in row.labels}
    if any(samples) and not labels:
        raise DataError(f"{folder}: no image has a label")
    names, number_of = _classes(labels, classes, folder)
    roles = _roles([shard.file for shard in shards])
    by_role: dict[str, list[_Sample]] = {}
    for role, rows in zip(roles, samples, strict=True):
        by_role.setdefault(role, []).extend(rows)
    if "train" not in by_role:
        raise DataError(f"{folder}: no training images; found {', '.join(sorted(by_role))}")
    without_val = "val" not in by_role
    if without_val:  # in each class, the images whose keys hash lowest are held out
        rows = by_role["train"]
        targets = targets_of([row.labels for row in rows], number_of, several)
        setting = f"--val-fraction {val_fraction}"
        is_val = held_out(targets, names, lambda index: rows[index].name, val_fraction, setting)
        for role, mask in (("train", ~is_val), ("val", is_val)):
            by_role[role] = list(compress(rows, mask))
    splits = {}
    for role, rows in by_role.items():
        if not rows:
            raise DataError(f"{folder}: no image in {role}")
        splits[role] = Records.from_rows(
            [(r.shard, r.image.offset, r.image.size, r.crc32, r.name) for r in rows],
            targets_of([row.labels for row in rows], number_of, several),
        )
    return Index(names, shards, splits, held_out=without_val)


def _samples(path: Path, number: int) -> tuple[list[_Sample], bool, str]:
    """The images of one tar file, whether lists say their labels, and its SHA-256."""
    kinds = image_kinds()
    images: dict[str, tuple[Member, int]] = {}
    labels: dict[str, tuple[str, ...]] = {}
    lists: dict[str, tuple[str, ...]] = {}
    others: dict[str, str] = {}
    size = path.stat().st_size
    with reading_tar(path), open(path, "rb") as headers, open(path, "rb") as file:
        for member in members(path, headers, size):
            # WebDataset's rule: the key ends at the first dot of the file's name.
            place, slash, name = member.name.rpartition("/")
            stem, _, extension = name.partition(".")
            if not stem:  # a hidden file, such as the ._1.jpg that macOS packs beside 1.jpg
                continue
            key, extension = place + slash + stem, extension.lower()
            last = extension.rpartition(".")[2]
            if last in _PICKLES:
                raise DataError(f"{path}: {member.name!r} is a pickle, which can run code: leave it out")
            # KEY.seg.png beside KEY.jpg is something else of the same sample, such as a mask.
            is_image = f".{extension}" in kinds and kinds[f".{extension}"].readable
            if extension == "json":
                file.seek(member.offset)
                found = _listed(file.read(member.size)) if member.size <= _LISTED else None
                if found is not None:
                    lists[key] = found
                continue
            if not is_image and extension != "cls":
                if f".{last}" in kinds:
                    others[key] = member.name
                continue
            if key in (images if is_image else labels):
                raise DataError(f"{path}: two members {member.name!r}")
            if member.size > (MAX_IMAGE if is_image else _LABEL) or "\0" in key:
                raise DataError(f"{path}: {member.name!r} is too large, or has an impossible name")
            file.seek(member.offset)
            data = file.read(member.size)
            if is_image:
                if not data:
                    raise DataError(f"{path}: {member.name!r} is empty")
                images[key] = member, zlib.crc32(data)
            elif text := data.decode("utf-8", "replace").strip():
                labels[key] = (text,)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    lists = {key: found for key, found in lists.items() if key in images and key not in labels}
    labels |= lists
    if lacking := [key for key in images if key not in labels]:
        raise DataError(
            f"{path}: {len(lacking)} images have no label, KEY.cls: {some(lacking)}; several are a list of labels in KEY.json"
        )
    if odd := [key for key in others if key in labels and key not in images]:
        raise DataError(
            f"{path}: {len(odd)} labels have no image: one is KEY.jpg or of another kind, with no other dot, and "
            f"{others[odd[0]]!r} is not: rename it"
        )
    rows = [_Sample(key, labels[key], number, member, crc32) for key, (member, crc32) in images.items()]
    return rows, bool(lists), digest


def _listed(data: bytes) -> tuple[str, ...] | None:
    """The labels that a member KEY.json lists; None if it does not."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    labels = found.get("labels") if isinstance(found, dict) else None
    if not isinstance(labels, list) or not all(type(label) in (int, str) for label in labels):
        return None
    texts = tuple(dict.fromkeys(str(label).strip() for label in labels))
    return texts if all(texts) else None


def _classes(
    labels: Collection[str], classes: Sequence[str] | None, folder: Path
) -> tuple[list[str], dict[str, int]]:
    """Names of the classes, and the number of each label."""
    there = in_order(labels)
    numbers = all(label.isascii() and label.isdigit() for label in there)
    if classes is None:
        if not numbers:
            return there, {label: number for number, label in enumerate(there)}
        # An address by itself says no more than that there are this many.
        classes = [str(number) for number in range(max(map(int, there), default=-1) + 1)]
    if numbers:
        if unknown := [label for label in there if int(label) >= len(classes)]:
            raise DataError(f"{folder}: label {some(unknown)}, for {len(classes)} classes")
        return list(classes), {label: int(label) for label in there}
    number = {name: index for index, name in enumerate(classes)}
    if unknown := [label for label in there if label not in number]:
        raise DataError(f"{folder}: label {some(unknown)} is not in the list of classes")
    return list(classes), number


def _roles(files: Sequence[str]) -> list[str]:
    """The split of each tar file, by its folder or its name without the number at its end; train if neither tells."""

    def group(file: str) -> str:
        folder, _, name = file.rpartition("/")
        return folder or re.sub(r"[-_.{}\d]*$", "", name.removesuffix(".tar"))

    groups = dict.fromkeys(map(group, files))
    role_of = {name: role for role, names in roles_among(filter(None, groups)).items() for name in names}
    return [role_of.get(group(file), "train") for file in files]


def check_shards(folder: Path, index: Index) -> list[str]:
    """Read every shard to its end; a line on each whose bytes are not those that were written."""
    bad = []
    for shard in index.shards:
        path = folder / shard.file
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size != shard.bytes:
                    bad.append(f"{path}: {size:,} bytes instead of {shard.bytes:,}")
                elif hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                    bad.append(f"{path}: damaged: other bytes than were written (SHA-256)")
        except OSError as error:
            bad.append(f"{path}: cannot be read ({error.strerror})")
    return bad
