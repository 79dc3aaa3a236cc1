"""Which images are validated on, where the data have no validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from sppcls.data.label_sets import LabelSets, spread_label_sets
from sppcls.data.names import some
from sppcls.data.seeding import derive
from sppcls.errors import ConfigError, DataError


class Divisible(Protocol):
    """A source, some of whose images are a source of the same kind."""

    classes: list[str]
    targets: Any

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def part(self, mask: npt.NDArray[np.bool_]) -> Any: ...


_Source = TypeVar("_Source", bound=Divisible)


def hold_out(
    source: _Source, fraction: float, setting: str, key: Callable[[int], int | str] | None = None
) -> tuple[_Source, _Source]:
    """(train, val) of a source: see :func:`held_out`; without a ``key`` the names tell the images apart."""
    mask = held_out(source.targets, source.classes, key or source.name, fraction, setting)
    return source.part(~mask), source.part(mask)


def held_out(
    targets: Sequence[Any],
    classes: Sequence[str],
    key: Callable[[int], int | str],
    fraction: float,
    setting: str,
) -> npt.NDArray[np.bool_]:
    """Whether each image is held out: in each class those whose keys hash lowest; of several labels each has its share.

    Args:
        targets: class number of each image, or :class:`~sppcls.data.label_sets.LabelSets`.
        classes: names of the classes.
        key: what tells an image from the others of its class.
        fraction: share of each class to hold out.
        setting: that says the fraction, for messages.

    Raises:
        ConfigError: the fraction is no share.
        DataError: it leaves a class without an image.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"{setting}: a number between 0 and 1 is needed")
    if isinstance(targets, LabelSets):
        return _of_label_sets(targets, classes, key, fraction, setting)
    numbers = np.asarray(targets, np.int64)
    held = np.zeros(len(numbers), np.bool_)
    order, counts = np.argsort(numbers, kind="stable"), np.bincount(numbers, minlength=len(classes))
    for name, members in zip(classes, np.split(order, np.cumsum(counts)[:-1]), strict=False):
        count = round(len(members) * fraction)
        # A list of classes may have more than there are images of.
        if len(members) and not 0 < count < len(members):
            side = "validation" if count == 0 else "training"
            raise DataError(
                f"{setting}: class {name!r} has {len(members)} image(s), which leaves none for {side}; "
                "change the fraction or add images"
            )
        held[sorted(members.tolist(), key=lambda index: derive("split", key(index)))[:count]] = True
    return held


def _of_label_sets(
    sets: LabelSets, classes: Sequence[str], key: Callable[[int], int | str], fraction: float, setting: str
) -> npt.NDArray[np.bool_]:
    keys = list(map(key, range(len(sets))))
    held = np.array(spread_label_sets(sets, keys, [1 - fraction, fraction]), np.bool_)
    for mask, side in ((~held, "training"), (held, "validation")):
        if not mask.any():
            raise DataError(
                f"{setting}: {len(sets)} image(s), which leaves none for {side}; change the fraction or add images"
            )
    there, left = (part.counts(len(classes)) for part in (sets, sets.part(~held)))
    if lost := [name for name, gone in zip(classes, (there > 0) & (left == 0), strict=True) if gone]:
        raise DataError(
            f"{setting}: class {some(lost)} has no image left for training; change the fraction or add images"
        )
    return held
