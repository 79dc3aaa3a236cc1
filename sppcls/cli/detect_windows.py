"""``sppcls detect windows``: proposals of photos, and how many objects they find."""

from __future__ import annotations

import time
from pathlib import Path

from sppcls._util.console import table
from sppcls._util.files import check_local, check_new_file
from sppcls.cli.common import Parser, positive
from sppcls.cli.detect_common import add_cache, add_windows, bar, scenes_of
from sppcls.errors import ConfigError

_COUNTS = (500, 1000, 2000)


def run(words: list[str]) -> int:
    """Make the windows, keep them, and print a table."""
    args = _parser().parse_args(words)
    check_local(args.place, "sppcls reads folders of photos")
    if args.out is not None:
        if Path(args.out).suffix != ".npz":
            raise ConfigError(f"--out {args.out}: the name must end in .npz")
        check_new_file(args.out, args.overwrite)
    from sppcls.detection.proposals import make_proposer, propose, recall
    from sppcls.detection.sets import read_photos_or_set
    from sppcls.detection.store import default_cache
    from sppcls.detection.window_files import write_windows

    images = read_photos_or_set(args.place, args.split, count=scenes_of(args.place, args.scenes))
    proposer = make_proposer(args.proposals, args.limit, args.k)
    cache = args.cache or default_cache()
    started = time.monotonic()
    windows = propose(images, proposer, cache, workers=args.workers, progress=bar("windows"))
    seconds = time.monotonic() - started
    counts = [len(boxes) for boxes in windows]
    where = "" if isinstance(proposer, Path) else f", kept in {cache}"
    print(f"{images.name}, {images.split}: {len(images):,} images")
    print(
        f"{sum(counts) / len(counts):,.0f} windows per image ({min(counts):,} to {max(counts):,}), "
        f"{seconds / len(counts):.2f} s per image{where}"
    )
    if images.classes:
        columns = sorted({min(count, args.limit) for count in _COUNTS})
        found = {(n, at): recall(images, windows, n, at) for at in (0.5, 0.7) for n in columns}
        total = images.counts()
        rows: list[list[object]] = []
        for number, name in enumerate([*images.classes, "all"]):
            part = slice(None) if number == len(images.classes) else slice(number, number + 1)
            objects = int(total[part].sum())
            shares = [hit[part].sum() / max(objects, 1) for hit, _ in found.values()]
            rows.append([name, objects, *(f"{share:.3f}" if objects else "-" for share in shares)])
        print(
            "\nrecall: objects (not difficult) that one of the first windows overlaps by 0.5 or 0.7 (IoU)\n"
        )
        print(table(rows, ["class", "objects", *(f"{at} of {n:,}" for n, at in found)]))
    if args.out is not None:
        write_windows(Path(args.out), dict(zip(images.names, windows, strict=True)))
        print(f"\n{args.out}: these windows")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "detect windows",
        "Propose windows that may hold an object, and keep them for the next commands. Of a set with boxes also prints\n"
        "the share of objects that they find: no detector can find more.",
    )
    parser.add_argument(
        "place",
        metavar="PHOTOS|SET",
        help="a folder of photos, or images with boxes: a VOC folder, COCO JSON, a YOLO folder; or shapes",
    )
    parser.add_argument("--split", metavar="NAME", help="of the set (that to train on)")
    parser.add_argument(
        "--scenes", type=positive, metavar="N", help="generated scenes of shapes (300; val 100)"
    )
    add_windows(parser)
    parser.add_argument("--out", metavar="FILE", help="also write them to this .npz file")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    add_cache(parser)
    return parser
