"""``sppcls shards``: images into tar files that are read by an index, on this machine or from an address."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from sppcls.cli.command import command
from sppcls.cli.common import NotNegative, Positive, between, check_there, report_bad, whole
from sppcls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sppcls.data.files import FileSource
    from sppcls.data.shards import Index, ShardSource

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def _size(text: str) -> int:
    """Bytes of ``256MB``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]i?|)b?", text.lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 10_000:
        raise argparse.ArgumentTypeError(f"{text}: must be a size of at least 10kB, such as 256MB")
    return size


@command
def run(
    folder: Path | None = None,
    out: Path | None = None,
    *,
    index: Path | None = None,
    check: Path | None = None,
    resize_shorter_side: Positive | None = None,
    quality: Annotated[int, whole(1, 100)] = 90,
    size: Annotated[int, _size] = 256 * 10**6,
    labels: str | None = None,
    multi_label: Literal["true", "false", "comma", "space"] | None = None,
    val_fraction: Annotated[float, between(0, 1)] = 0.2,
    classes: Path | None = None,
    workers: NotNegative = 2,
) -> int:
    """Write the images of a folder into WebDataset tar files with an index, index.json, for data=shards. FOLDER is what
    data=folder takes, or holds ImageNet's tar files. The same command resumes where it was stopped.

    examples:
      sppcls shards PHOTOS OUT
      sppcls shards PHOTOS OUT --resize-shorter-side 256
      sppcls shards --check OUT                           compare checksums

    The exit status is 1 if an image is left out or a shard is broken.

    Args:
        folder (FOLDER): images in class folders or with a file of labels
        out (OUT): new folder for the shards
        index (FOLDER): write the index of WebDataset tar files that are there, and nothing else
        check (FOLDER): read all shards and compare their checksums, and nothing else
        resize_shorter_side (N): reduce larger images to this shorter side, in pixels, and save them as JPEG (all stay as they
            are)
        quality (N): of these JPEG files, 1 to 100
        size (BYTES): most of a shard (256MB)
        labels (FILE): file of labels in FOLDER (found by itself)
        multi_label: several labels an image, as data.multi_label says it (what the file of labels shows)
        val_fraction (F): share of each class held out where there is no validation split
        classes (FILE): with --index: names of the classes, one in a line
        workers: processes that read images
    """
    if sum(one is not None for one in (folder, index, check)) > 1:
        raise ConfigError("sppcls shards: --index and --check each take one folder, and nothing else")
    if index is not None:
        return _index(index, classes, val_fraction)
    if check is not None:
        return _check(check)
    if folder is None or out is None:
        raise ConfigError("sppcls shards: FOLDER and OUT are needed; see sppcls shards --help")
    check_there(folder, "sppcls shards takes a folder of images")
    from sppcls.data.folder import folder_sources
    from sppcls.data.shards import write_shards
    from sppcls.data.shards.imagenet import imagenet_tars, is_imagenet
    from sppcls.data.shards.write import Preparation, check_out

    check_out(folder, out)
    held_out = False
    sources: Mapping[str, FileSource | ShardSource | None]
    if is_imagenet(folder):
        sources = imagenet_tars(folder, say=_say)
    else:
        several = (
            None if multi_label is None else {"true": True, "false": False}.get(multi_label, multi_label)
        )
        splits = folder_sources(folder, labels=labels, multi_label=several, val_fraction=val_fraction)
        _say(splits.found)
        for line in splits.warnings:
            _say(f"warning: {line}")
        held_out = splits.held_out
        sources = {"train": splits.train, "val": splits.val, "test": splits.test}  # type: ignore[dict-item]
    started = time.monotonic()
    written = write_shards(
        {role: source for role, source in sources.items() if source is not None},
        out,
        preparation=Preparation(resize_shorter_side, quality),
        shard_bytes=size,
        held_out=held_out,
        workers=workers,
        say=_say,
    )
    _report(out, written.index, time.monotonic() - started)
    return report_bad("left out", written.left_out)


def _index(folder: Path, names: Path | None, val_fraction: float) -> int:
    check_there(folder, "sppcls shards --index takes a folder")
    from sppcls.data.shards.index import INDEX, read_index
    from sppcls.data.shards.scan import index_folder

    started = time.monotonic()
    classes = None
    if names is not None:
        try:
            classes = names.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"--classes {names}: cannot be read ({error})") from None
    elif (
        folder / INDEX
    ).is_file():  # tar files of `sppcls shards` hold numbers; the names are in the index alone
        with suppress(DataError, OSError):
            classes = read_index((folder / INDEX).read_bytes(), INDEX).classes
    index = index_folder(folder, classes=classes, val_fraction=val_fraction, say=_say)
    index.write(folder)
    _report(folder, index, time.monotonic() - started)
    return 0


def _check(folder: Path) -> int:
    check_there(folder, "sppcls shards --check takes a folder")
    from sppcls.data.shards.scan import check_shards
    from sppcls.data.shards.source import load_index
    from sppcls.data.shards.storage import Storage

    index = load_index(Storage(str(folder)))
    bad = check_shards(folder, index)
    if not bad:
        print(f"{folder}: {len(index.shards):,} shards, all as they were written")
    return report_bad("broken", bad)


def _report(folder: Path, index: Index, seconds: float) -> None:
    images = sum(len(rows) for rows in index.splits.values())
    size = sum(shard.bytes for shard in index.shards)
    splits = ", ".join(f"{role} {len(rows):,}" for role, rows in index.splits.items())
    print(
        f"{folder}: {splits} images of {len(index.classes):,} classes in {len(index.shards):,} shards, "
        f"{size / 1e9:.2f} GB ({size / images / 1e3:.1f} kB an image), {seconds:.0f} s"
    )
    print(f"Train from them: sppcls train data=shards data.root={folder}")


def _say(line: str) -> None:
    print(line, flush=True)
