"""What a run knows of itself beside its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sppcls.engine.learning_rate import Plateau


@dataclass
class RunState:
    """The state of a run: callbacks read and update it, every checkpoint holds it.

    Attributes:
        plateau: drops of the learning rate so far.
        images_seen, pixels_seen: trained on, over all processes.
        train_seconds: spent in training steps, over all starts of the run.
        val_results: loss, top1_error, top5_error (per cent) and number of images of the last validation, by size label.
        best: ``{"epoch", "top1_error", "val_results"}`` of the best epoch; None before the first validation.
        bad_images: a line on each image that could not be read, once, in the order of finding.
        train_counts: errors of the unfinished epoch, summed over the processes.
        epoch_length: batches in an epoch and batches in an update; None in a new run.
        processes: that trained.
        stopped: the callbacks of others that stood by when one of them ended the training; None if none did.
        started: whether this process has trained; not kept.
    """

    plateau: Plateau
    images_seen: int = 0
    pixels_seen: int = 0
    train_seconds: float = 0.0
    best: dict[str, Any] | None = None
    val_results: dict[str, dict[str, float]] = field(default_factory=dict)
    bad_images: dict[str, None] = field(default_factory=dict)
    train_counts: list[float] = field(default_factory=list)
    epoch_length: list[int] | None = None
    processes: int = 1
    stopped: list[str] | None = None
    started: bool = False

    def to_checkpoint(self) -> dict[str, Any]:
        """Plain values, as a checkpoint holds them under ``sppcls_progress``."""
        kept = {
            spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self) if spec.name != "started"
        }
        return {**kept, "plateau": self.plateau.state_dict(), "bad_images": list(self.bad_images)}

    def from_checkpoint(self, kept: dict[str, Any]) -> None:
        """Take the values of :meth:`to_checkpoint`; what an older version did not keep stays as it is."""
        self.plateau.load_state_dict(kept["plateau"])
        self.bad_images = dict.fromkeys(kept["bad_images"])
        for spec in dataclasses.fields(self):
            if spec.name in kept and spec.name not in ("plateau", "bad_images", "started"):
                setattr(self, spec.name, kept[spec.name])

    def note_bad(self, lines: Iterable[str]) -> None:
        """Remember images that could not be read."""
        self.bad_images.update(dict.fromkeys(lines))
