"""Names of what lies in a run folder, and in the folder of a sweep or a search."""

from __future__ import annotations

from collections.abc import Sequence

CONFIG = "config.yaml"
METRICS = "metrics.csv"
RESULT = "result.json"
CLASSES = "classes.csv"
LOG = "train.log"
LAST = "last.ckpt"
BEST = "best.ckpt"
PREVIOUS = "previous.ckpt"
# Folders with the answers to every image: of the validation and the test, and of protocols.
PREDICTIONS = "predictions"
PROTOCOLS = "protocols"
PICTURES = "pictures"
# Average precision of a detector, with that of resampled images: judged.npz.
JUDGED = "judged"

SWEEP = "sweep.json"
SEARCH = "search.json"


def pyramid_word(levels: Sequence[int | Sequence[int]] | None) -> str:
    """A pyramid as it is typed: ``l6321``, ``l12_6`` where a level has two digits, ``l3x2_1``, or ``none``."""
    if levels is None:
        return "none"
    sides = ["x".join(map(str, level)) if isinstance(level, Sequence) else str(level) for level in levels]
    return "l" + ("" if all(len(side) == 1 for side in sides) else "_").join(sides)
