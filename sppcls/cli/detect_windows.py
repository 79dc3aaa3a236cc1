"""``sppcls detect windows``: proposals of photos, and how many objects they find."""

from __future__ import annotations

import time
from pathlib import Path

from sppcls._util.console import table
from sppcls._util.files import check_local, check_new_file
from sppcls.cli.command import command
from sppcls.cli.common import Positive
from sppcls.cli.detect_common import Windows, Work, bar, scene_count
from sppcls.errors import ConfigError

_COUNTS = (500, 1000, 2000)


@command
def run(
    place: str,
    *,
    split: str | None = None,
    scenes: Positive | None = None,
    choice: Windows,
    out: Path | None = None,
    overwrite: bool = False,
    work: Work,
) -> int:
    """Propose windows that may hold an object, and keep them for the next commands. Of a set with boxes also prints the
    share of objects that they find: no detector can find more.

    examples:
      sppcls detect windows SET --split val
      sppcls detect windows photos/ --out windows.npz

    Args:
        place (PHOTOS|SET): a folder of photos, or images with boxes: a VOC folder, COCO JSON, a YOLO folder; or shapes
        split (NAME): split of the set (train, or trainval beside a test)
        scenes (N): how many scenes of shapes to generate (300 to train, 100 to judge)
        out (FILE): also write them to this .npz file
        overwrite: replace the file if it is there
    """
    check_local(place, "sppcls reads folders of photos")
    if out is not None:
        if out.suffix != ".npz":
            raise ConfigError(f"--out {out}: the name must end in .npz")
        check_new_file(out, overwrite)
    from sppcls.detection.proposals import make_proposer, propose, recall
    from sppcls.detection.sets import read_photos_or_set
    from sppcls.detection.window_files import write_windows

    images = read_photos_or_set(place, split, count=scene_count(place, scenes))
    proposer = make_proposer(choice.proposals, choice.limit, choice.k)
    started = time.monotonic()
    windows = propose(images, proposer, work.kept, workers=work.workers, progress=bar("windows"))
    seconds = time.monotonic() - started
    counts = [len(boxes) for boxes in windows]
    where = "" if isinstance(proposer, Path) else f", kept in {work.kept}"
    print(f"{images.name}, {images.split}: {len(images):,} images")
    print(
        f"{sum(counts) / len(counts):,.0f} windows per image ({min(counts):,} to {max(counts):,}), "
        f"{seconds / len(counts):.2f} s per image{where}"
    )
    if images.classes:
        columns = sorted({min(count, choice.limit) for count in _COUNTS})
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
    if out is not None:
        write_windows(out, dict(zip(images.names, windows, strict=True)))
        print(f"\n{out}: these windows")
    return 0
