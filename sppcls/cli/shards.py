"""``sppcls shards``: images into tar files that are read by an index, on this machine or from an address."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sppcls.cli.common import Parser, check_there, not_negative, positive, report_bad
from sppcls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sppcls.data.files import FileSource
    from sppcls.data.shards import Index, ShardSource

_UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def run(words: list[str]) -> int:
    """Write, index or check shards; 1 if an image is left out or a shard is broken."""
    args = _parser().parse_args(words)
    if args.index is not None or args.check is not None:
        if args.folder is not None or (args.index is not None and args.check is not None):
            raise ConfigError("sppcls shards: --index and --check each take one folder, and nothing else")
        return _index(args) if args.index is not None else _check(args.check)
    if args.folder is None or args.out is None:
        raise ConfigError("sppcls shards: FOLDER and OUT are needed; see sppcls shards --help")
    return _write(args)


def _write(args: argparse.Namespace) -> int:
    check_there(args.folder, "sppcls shards takes a folder of images")
    from sppcls.data.folder import folder_sources
    from sppcls.data.label_sets import is_multi_label
    from sppcls.data.shards import write_shards
    from sppcls.data.shards.imagenet import imagenet_tars, is_imagenet
    from sppcls.data.shards.write import Preparation

    folder, held_out = Path(args.folder), False
    sources: Mapping[str, FileSource | ShardSource | None]
    if is_imagenet(folder):
        sources = imagenet_tars(folder, say=_say)
    else:
        splits = folder_sources(folder, labels=args.labels, val_fraction=args.val_fraction)
        if is_multi_label(splits.train):
            raise DataError(
                f"{folder}: its images have several labels, which shards do not hold; train with data=folder"
            )
        _say(splits.found)
        for line in splits.warnings:
            _say(f"warning: {line}")
        held_out = splits.held_out
        sources = {"train": splits.train, "val": splits.val, "test": splits.test}  # type: ignore[dict-item]
    started = time.monotonic()
    written = write_shards(
        {role: source for role, source in sources.items() if source is not None},
        Path(args.out),
        preparation=Preparation(args.resize_shorter_side, args.quality),
        shard_bytes=args.size,
        held_out=held_out,
        workers=args.workers,
        say=_say,
    )
    _report(Path(args.out), written.index, time.monotonic() - started)
    return report_bad("left out", written.left_out)


def _index(args: argparse.Namespace) -> int:
    check_there(args.index, "sppcls shards --index takes a folder")
    from sppcls.data.shards.index import INDEX, read_index
    from sppcls.data.shards.scan import index_folder

    folder, started = Path(args.index), time.monotonic()
    classes = None
    if args.classes is not None:
        try:
            classes = Path(args.classes).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"--classes {args.classes}: cannot be read ({error})") from None
    elif (
        folder / INDEX
    ).is_file():  # the tar files of `sppcls shards` hold numbers; the names are in the index alone
        with suppress(DataError, OSError):
            classes = read_index((folder / INDEX).read_bytes(), INDEX).classes
    index = index_folder(folder, classes=classes, val_fraction=args.val_fraction, say=_say)
    index.write(folder)
    _report(folder, index, time.monotonic() - started)
    return 0


def _check(place: str) -> int:
    check_there(place, "sppcls shards --check takes a folder")
    from sppcls.data.shards.scan import check_shards
    from sppcls.data.shards.source import load_index
    from sppcls.data.shards.storage import Storage

    index = load_index(Storage(place))
    bad = check_shards(Path(place), index)
    if not bad:
        print(f"{place}: {len(index.shards):,} shards, all as they were written")
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


def _size(text: str) -> int:
    """Bytes of ``256MB``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmg]i?|)b?", text.lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 10_000:
        raise argparse.ArgumentTypeError(f"{text}: must be a size of at least 10kB, such as 256MB")
    return size


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a number between 0 and 1")
    return value


def _quality(text: str) -> int:
    value = positive(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number from 1 to 100")
    return value


def _parser() -> Parser:
    parser = Parser(
        "shards",
        "Write the images of a folder into WebDataset tar files with an index, index.json, for data=shards. FOLDER is\n"
        "what data=folder takes, or holds ImageNet's tar files. The same command goes on where it was stopped.",
    )
    parser.usage = "sppcls shards FOLDER OUT [options] | --index FOLDER | --check FOLDER"
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="images in class folders or with a file of labels"
    )
    parser.add_argument("out", metavar="OUT", nargs="?", help="new folder for the shards")
    parser.add_argument(
        "--index", metavar="FOLDER", help="write the index of WebDataset tar files that are there"
    )
    parser.add_argument("--check", metavar="FOLDER", help="read all shards and compare their checksums")
    parser.add_argument(
        "--resize-shorter-side",
        type=positive,
        metavar="N",
        help="reduce larger images to this shorter side, in pixels, and save them as JPEG (all stay as they are)",
    )
    parser.add_argument(
        "--quality", type=_quality, default=90, metavar="N", help="of these JPEG files, 1 to 100 (90)"
    )
    parser.add_argument(
        "--size", type=_size, default=_size("256MB"), metavar="BYTES", help="most of a shard (256MB)"
    )
    parser.add_argument("--labels", metavar="FILE", help="file of labels in FOLDER (found by itself)")
    parser.add_argument(
        "--val-fraction",
        type=_fraction,
        default=0.2,
        metavar="F",
        help="share of each class held out where there is no validation split (0.2)",
    )
    parser.add_argument("--classes", metavar="FILE", help="with --index: names of the classes, one in a line")
    parser.add_argument("--workers", type=not_negative, default=2, help="processes that read images (2)")
    return parser
