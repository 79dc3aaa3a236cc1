"""Size schedules: which input size a training step uses.

Multi-size training feeds one network with images of several sizes in turn (He et al. 2015, sec. 2.3): two
sizes that alternate by epoch, or a size drawn at random for each epoch. A schedule is a pure function of
(seed, epoch, step), so every rank and every resumed run computes the same size without talking to anybody.
Sizes are (height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sppcls.data.seeding import derive
from sppcls.errors import ConfigError
from sppcls.registry import SCHEDULES

Size = tuple[int, int]

_RANGES = ("random_epoch", "random_batch", "progressive")
_LABELS = {
    "single": "single",
    "alternate": "multi",
    "random_epoch": "random",
    "random_batch": "random_batch",
    "progressive": "progressive",
}


def as_size(value: int | Sequence[int], key: str = "size") -> Size:
    """Turn ``224`` or ``(height, width)`` into ``(height, width)``; ``key`` names the culprit in a
    ConfigError."""
    sides = (value, value) if isinstance(value, int) else value
    if (
        not isinstance(sides, Sequence)
        or isinstance(sides, str)
        or len(sides) != 2
        or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    ):
        raise ConfigError(f"{key}={value!r}: a size is a positive integer or a pair [height, width] of them")
    return sides[0], sides[1]


def size_label(size: Size) -> str:
    """``"224"`` for a square, ``"180x240"`` (height x width) otherwise."""
    return str(size[0]) if size[0] == size[1] else f"{size[0]}x{size[1]}"


def area(size: Size) -> int:
    """Pixels of a size."""
    return size[0] * size[1]


def batch_size_at(base: int, size: Size, largest: Size) -> int:
    """Images that fit the pixels of ``base`` images of the largest size: ``floor(base * area(largest) /
    area(size))``."""
    return max(1, base * area(largest) // area(size))


@dataclass(frozen=True)
class SizeSchedule:
    """A checked schedule; build it with :func:`make_schedule`."""

    kind: str
    sizes: tuple[Size, ...]
    seed: int
    epochs: int
    period: int = 1
    step: int = 1

    def at(self, epoch: int, step: int = 0) -> Size:
        """Size (height, width) of the given step (0-based within its epoch) of the given epoch (0-based)."""
        if self.kind == "single":
            return self.sizes[0]
        if self.kind == "alternate":
            return self.sizes[epoch // self.period % len(self.sizes)]
        last = self._stops - 1
        if self.kind == "progressive":
            ramp = 3 * self.epochs // 4
            return self._stop(min(last, epoch * last // ramp) if ramp else last)
        drawn = (epoch, step) if self.kind == "random_batch" else (epoch,)
        return self._stop(derive(self.seed, "size", *drawn) % self._stops)

    @property
    def largest(self) -> Size:
        """The size with the most pixels, at which images leave the loader."""
        return max(self.sizes, key=area)

    @property
    def main(self) -> Size:
        """The size that the headline errors are measured at: the largest."""
        return self.largest

    @property
    def training_sizes(self) -> tuple[Size, ...]:
        """The distinct sizes worth validating: all of a list, both ends of a range; in the order given."""
        return tuple(dict.fromkeys(self.sizes))

    @property
    def never_used(self) -> tuple[Size, ...]:
        """Those of :attr:`training_sizes` that so few epochs do not come to; sizes drawn at random are not foreseen."""
        if self.kind not in ("alternate", "progressive"):
            return ()
        used = {self.at(epoch) for epoch in range(self.epochs)}
        return tuple(size for size in self.training_sizes if size not in used)

    @property
    def changes_within_epoch(self) -> bool:
        """Whether two steps of one epoch can differ in size."""
        return self.kind == "random_batch"

    @property
    def label(self) -> str:
        """Name for run folders, such as ``single_224``, ``multi_224_180`` or ``random_180_224``."""
        parts = [_LABELS[self.kind], *map(size_label, self.sizes)]
        if self.period != 1:
            parts.append(f"period{self.period}")
        if self.step != 1:
            parts.append(f"step{self.step}")
        return "_".join(parts)

    @property
    def _stops(self) -> int:
        """Number of sizes in a range, both ends included."""
        low, high = self.sizes
        return (high[0] - low[0]) // self.step + 1

    def _stop(self, index: int) -> Size:
        """Size number ``index`` of a range; the width keeps pace with the height, rounded to the nearest
        pixel."""
        low, high = self.sizes
        last = self._stops - 1
        return low[0] + index * self.step, low[1] + (2 * (high[1] - low[1]) * index + last) // (2 * last)


def make_schedule(
    kind: str,
    sizes: int | Sequence[int | Sequence[int]],
    *,
    seed: int,
    epochs: int,
    period: int = 1,
    step: int = 1,
) -> SizeSchedule:
    """Check the arguments and build a schedule.

    Args:
        kind: ``single`` (one size), ``alternate`` (a list, ``period`` epochs each, over and over; the paper's
            multi-size training is 224 and 180 with period 1), ``random_epoch`` or ``random_batch`` (one size
            per epoch or per step, uniform over ``low, low + step, ..., high``), or ``progressive`` (from low
            to high in equal parts, high from three quarters of the epochs on).
        sizes: integers (squares) or pairs (height, width); ``[low, high]`` for the last three kinds.
        seed: run seed, any integer; only the random kinds use it.
        epochs: length of the run, which ``progressive`` needs.
        period: epochs per size, for ``alternate`` only.
        step: pixels between neighbouring heights of a range; must divide ``high - low``.

    Raises:
        ConfigError: an argument is impossible; the message names its key (``sizes.kind``, ``sizes.sizes``,
            ...).
    """
    if kind not in SCHEDULES:
        raise ConfigError(f"sizes.kind={kind!r}: choose from {', '.join(SCHEDULES)}")
    given = [sizes] if isinstance(sizes, int) else sizes
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise ConfigError(f"sizes.sizes={sizes!r}: give a list of sizes, such as [224, 180] or [[224, 320]]")
    checked = tuple(as_size(size, "sizes.sizes") for size in given)
    for key, number, least in (("epochs", epochs, 1), ("sizes.period", period, 1), ("sizes.step", step, 1)):
        if not isinstance(number, int) or isinstance(number, bool) or number < least:
            raise ConfigError(f"{key}={number!r}: an integer of at least {least} is needed")
    if kind == "single" and len(checked) != 1:
        raise ConfigError(
            f"sizes.sizes={sizes!r}: sizes.kind=single takes one size, not {len(checked)}; "
            "sizes.kind=alternate trains at several in turn"
        )
    if kind == "alternate" and len(checked) < 2:
        raise ConfigError(
            f"sizes.sizes={sizes!r}: sizes.kind=alternate takes two sizes or more; sizes.kind=single trains at one"
        )
    if kind != "alternate" and period != 1:
        raise ConfigError(f"sizes.period={period}: only sizes.kind=alternate has a period, not {kind}")
    if kind in _RANGES:
        _check_range(kind, checked, step)
    elif step != 1:
        raise ConfigError(f"sizes.step={step}: only {', '.join(_RANGES)} have a step, not sizes.kind={kind}")
    return SizeSchedule(kind=kind, sizes=checked, seed=seed, epochs=epochs, period=period, step=step)


def _check_range(kind: str, sizes: tuple[Size, ...], step: int) -> None:
    if len(sizes) != 2 or sizes[0][0] >= sizes[1][0] or sizes[0][1] > sizes[1][1]:
        shown = [list(size) if size[0] != size[1] else size[0] for size in sizes]
        raise ConfigError(f"sizes.sizes={shown}: sizes.kind={kind} takes [low, high] with low below high")
    span = sizes[1][0] - sizes[0][0]
    if span % step:
        raise ConfigError(
            f"sizes.step={step}: must divide high - low = {span}, or the high end is never reached"
        )
