"""Names of what lies in a run folder, and in the folder of a sweep or a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULT = "result.json"
CLASSES = "classes.csv"
LOG = "train.log"
LAST = "last.ckpt"
BEST = "best.ckpt"
PREVIOUS = "previous.ckpt"
DETECTOR = "detector.ckpt"
# Folders with the answers to every image: of the validation and the test, and of protocols.
PREDICTIONS = "predictions"
PROTOCOLS = "protocols"
PICTURES = "pictures"
# Average precision of a detector, with that of resampled images: judged.npz.
JUDGED = "judged"
# TensorBoard's view of a comparison, in the folder of its report: events, and a folder with those of each mean.
# TensorBoard reads the files of a folder in the order of their names, and takes what describes a tag from the first
# file that has it. This one comes before those of a training, whose names begin with a time.
COMPARISON_EVENTS = "events.out.tfevents.0000000000.comparison"
MEAN = "mean"
# There: what a network is fed at first, by size.
INPUTS = "train_inputs_"

SWEEP = "sweep.json"
SEARCH = "search.json"


def checkpoints_below(folder: Path, names: Sequence[str] = (BEST, LAST)) -> list[Path]:
    """In a folder, and in each folder up to three levels below it, the first of ``names`` that is there; the newest first."""
    first: dict[Path, Path] = {}
    for name in names:
        for depth in range(4):
            for path in filter(Path.is_file, folder.glob("*/" * depth + name)):
                first.setdefault(path.parent, path)
    return sorted(first.values(), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def no_file(folder: Path, names: Sequence[str] = (BEST, LAST)) -> str:
    """What to type in place of a folder, where one of its files ``names`` is wanted."""
    found = checkpoints_below(folder, names)
    if not found:
        return f"a folder without {' or '.join(names)}; name such a file"
    return f"a folder; name a checkpoint file such as {_newest(found)}"


def no_checkpoint(folder: Path) -> str:
    """Why a folder without a checkpoint is nothing that a run can resume from."""
    if (folder / CONFIG).is_file():
        return "this run has no checkpoint yet; start it again"
    runs = [path.parent for path in checkpoints_below(folder, (LAST, PREVIOUS, BEST))]
    return (
        f"a folder of runs; name one, such as {_newest(runs)}"
        if runs
        else "no run's folder; name one, or a checkpoint"
    )


def _newest(paths: Sequence[Path]) -> str:
    """The first of some paths, and how many more there are: ``A (the newest), B, C and 5 more``."""
    first, *others = map(str, paths[:3])
    shown = ", ".join([f"{first} (the newest)" if others else first, *others])
    return f"{shown} and {len(paths) - 3} more" if len(paths) > 3 else shown


def figure_names(results: Mapping[str, Mapping[str, Any]], images: str = "val") -> dict[str, Any]:
    """Figures of each size or protocol under the one name that each has everywhere: ``val_224/top1_error``.

    Args:
        results: ``{"224": {"top1_error": 25.0}}``; a name may also be a protocol's, ``ten_view_224``.
        images: ``val``; ``test`` or ``test_best`` for those of the test split.
    """
    return {
        f"{images}_{name}/{figure}": value
        for name, figures in results.items()
        for figure, value in figures.items()
    }


def pyramid_word(levels: Sequence[int | Sequence[int]] | None) -> str:
    """A pyramid as it is typed: ``l6321``, ``l12_6`` where a level has two digits, ``l3x2_1``, or ``none``."""
    if levels is None:
        return "none"
    sides = ["x".join(map(str, level)) if isinstance(level, Sequence) else str(level) for level in levels]
    return "l" + ("" if all(len(side) == 1 for side in sides) else "_").join(sides)
