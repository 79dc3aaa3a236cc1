"""A run as a comparison sees it: what was asked for, and what came out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sppcls.comparison.answers import DETECTION, TEST, TEST_BEST, Answers, Judged, LabelAnswers, Measure
from sppcls.runs.names import METRICS, RESULT


@dataclass
class Run:
    """One run folder.

    Attributes:
        folder: where it is.
        config: nested, as in ``config.yaml``.
        seed: its seed; of a cross-validation a :class:`~sppcls.comparison.folds.Fold`.
        rows: a dict for every epoch with the numbers of ``metrics.csv`` (None: blank).
        result: ``result.json`` of a finished run, else empty.
        finished: whether the last epoch that was asked for is there.
        main: where the headline error is measured.
        errors: top-1 and top-5 error in per cent of the weights after the last epoch; under measures of ``TEST_BEST``
            of those of the best. Of images with several labels what the mean average precision lacks, and NaN.
        answers: what these weights said to every image, where that was kept.
        values: what a sweep varied for this run, the seed left out; empty outside a sweep.
        notes: what was there but could not be used.
        tags: the columns of ``metrics.csv`` as they stand there, which are the tags of its own events.
    """

    folder: Path
    config: dict[str, Any]
    seed: int
    rows: list[dict[str, float | None]]
    result: dict[str, Any]
    finished: bool
    main: Measure
    errors: dict[Measure, tuple[float, float]] = field(default_factory=dict)
    answers: dict[Measure, Answers | LabelAnswers | Judged] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tags: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Name of its folder, with the one above it."""
        return "/".join(self.folder.parts[-2:])

    @property
    def written(self) -> os.stat_result:
        """When its figures were written."""
        metrics = self.folder / METRICS
        return (metrics if metrics.exists() else self.folder / RESULT).stat()

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return int(self.rows[-1]["epoch"] or 0) + 1

    @property
    def planned_epochs(self) -> int:
        """Epochs asked for."""
        return int(self.config["trainer"]["max_epochs"])

    @property
    def sizes(self) -> list[Any]:
        """Sizes trained at."""
        return list(self.config["sizes"]["sizes"])

    @property
    def bins(self) -> int | None:
        """Number of bins of its pyramid; None without one."""
        levels = self.config["pyramid"].get("levels")
        if not isinstance(levels, list):
            return None
        return sum(n * n if isinstance(n, int) else n[0] * n[1] for n in levels)

    @property
    def training_view(self) -> str:
        """Name of the view that training validates with; of a detector, what stands for it."""
        if self.main.protocol == DETECTION:
            return DETECTION
        side = (self.config.get("augment") or {}).get("shorter_side")
        return "center" if side is None else f"center_of_{side}"

    def column(self, measure: Measure) -> str | None:
        """The column of ``metrics.csv`` with the top-1 error of a measure, such as ``val_180/top1_error``."""
        if measure.protocol != self.training_view or measure.images:
            return None
        name = f"val_{measure.size}/{measure.figure()}"
        return name if name in self.rows[-1] else None

    def figure(self, measure: Measure, name: str) -> float | None:
        """A figure of :data:`~sppcls._util.figures.FIGURES` under a measure after the last epoch, or of the best; None
        where it was not written down."""
        test = self.result.get("test") or {}
        places = {
            "": self.rows[-1] | (self.result.get("protocols") or {}),
            TEST: test.get("last"),
            TEST_BEST: test.get("best"),
        }
        value = (places[measure.images] or {}).get(f"{measure.named(self.training_view)}/{name}")
        return float(value) if isinstance(value, int | float) else None

    def last(self, key: str) -> float | None:
        """A figure at the end of the run, such as ``pixels_seen``."""
        return self.rows[-1].get(key)

    @property
    def parameters(self) -> float | None:
        """Number of parameters of the network; None where the run has no ``result.json``."""
        count = self.result.get("parameters")
        return count if isinstance(count, int | float) else None

    @property
    def images_per_s(self) -> float | None:
        """Training images per second over the whole run."""
        parts = [(row.get("images_per_s"), row.get("epoch_seconds")) for row in self.rows]
        known = [(speed, seconds) for speed, seconds in parts if speed and seconds]
        total = sum(seconds for _, seconds in known)
        return sum(speed * seconds for speed, seconds in known) / total if total else None
