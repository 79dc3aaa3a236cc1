"""Several labels of each image: as many class numbers as it has, or none."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch

from sppcls.data.seeding import derive


class LabelSets(Sequence[tuple[int, ...]]):
    """The class numbers of each image, ascending. In two arrays, as lists would be copied into every loader process.

    That ``source.targets`` is one of these, not numbers, is what says that a source has several labels of an image.

    Args:
        sets: class numbers of each image, in any order.
    """

    def __init__(self, sets: Iterable[Iterable[int]]) -> None:
        rows = [sorted(set(numbers)) for numbers in sets]
        self._ends = np.cumsum([0, *map(len, rows)])
        self._numbers = np.fromiter((n for row in rows for n in row), np.int32, int(self._ends[-1]))

    @classmethod
    def packed(cls, numbers: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]) -> LabelSets:
        """From the class numbers of all images, one image after the other, and how many each has.

        Raises:
            ValueError: those of an image do not ascend.
        """
        rows = np.repeat(np.arange(len(lengths)), lengths)
        if ((np.diff(numbers) <= 0) & (np.diff(rows) == 0)).any():
            raise ValueError("labels of an image do not ascend")
        made = cls.__new__(cls)
        made._numbers, made._ends = numbers, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        return made

    @property
    def numbers(self) -> npt.NDArray[np.int32]:
        """The class numbers of all images, one image after the other."""
        return self._numbers

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """How many labels each image has."""
        return np.diff(self._ends).astype(np.int32)

    def part(self, mask: npt.NDArray[np.bool_]) -> LabelSets:
        """Those of some images."""
        return LabelSets.packed(self._numbers[np.repeat(mask, self.lengths)], self.lengths[mask])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> tuple[int, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> LabelSets: ...

    def __getitem__(self, index: int | slice) -> tuple[int, ...] | LabelSets:
        if isinstance(index, slice):
            return LabelSets(self[i] for i in range(*index.indices(len(self))))
        place = range(len(self))[index]
        return tuple(self._numbers[self._ends[place] : self._ends[place + 1]].tolist())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, LabelSets)
            and np.array_equal(self._ends, other._ends)
            and np.array_equal(self._numbers, other._numbers)
        )

    __hash__ = None  # type: ignore[assignment]

    def counts(self, num_classes: int) -> np.ndarray:
        """Images of each class, int64 (num_classes,)."""
        return np.bincount(self._numbers, minlength=num_classes)

    def renumbered(self, numbers: Sequence[int]) -> LabelSets:
        """With another number for each class, by its old one."""
        return LabelSets([numbers[old] for old in row] for row in self)

    def row(self, index: int, num_classes: int) -> torch.Tensor:
        """float32 (num_classes,): 1 where the image has the label, else 0."""
        row = torch.zeros(num_classes)
        row[list(self[index])] = 1
        return row

    def table(self, indices: Sequence[int], num_classes: int) -> np.ndarray:
        """bool (images, num_classes): whether each image has the label."""
        table = np.zeros((len(indices), num_classes), dtype=bool)
        for place, index in enumerate(indices):
            table[place, list(self[index])] = True
        return table


def is_multi_label(source: Any) -> bool:
    """Whether a source, as of :class:`sppcls.data.Source`, has several labels of an image."""
    return isinstance(source.targets, LabelSets)


def label_set_count(source: Any) -> int | None:
    """Number of images of a source with several labels of an image; None where each has one."""
    return len(source) if is_multi_label(source) else None


def kept_targets(targets: Sequence[Any]) -> Any:
    """What a source keeps of the targets that it is given."""
    return targets if isinstance(targets, LabelSets) else list(targets)


def targets_of(rows: Iterable[Collection[Any]], number: Mapping[Any, int], several: bool) -> Any:
    """The targets of images from the labels of each, one where they are not ``several``, and the number of each label."""
    if several:
        return LabelSets([number[label] for label in row] for row in rows)
    return [number[label] for (label,) in rows]


def some_targets(targets: Any, mask: npt.NDArray[np.bool_]) -> Any:
    """The targets of some images."""
    if isinstance(targets, LabelSets):
        return targets.part(mask)
    chosen = compress(targets, mask.tolist())
    return list(chosen) if isinstance(targets, list) else array("i", chosen)


def as_label_sets(source: Any) -> LabelSets:
    """The targets of a source, one label of each image being a set of one."""
    targets = source.targets
    return targets if isinstance(targets, LabelSets) else LabelSets([target] for target in targets)


def spread_label_sets(
    sets: Sequence[Sequence[int]], keys: Sequence[str | int], shares: Sequence[float]
) -> list[int]:
    """Divide images into parts so that every part has its share of each label: iterative stratification (Sechidis et al.
    2011), which begins with the rarest label.

    Nothing but labels, keys and shares decides: images come in the order of a hash of their keys.

    Args:
        sets: labels of each image; those without any are divided last.
        keys: of each image, such as its name.
        shares: of each part, their sum 1.

    Returns:
        the part of each image.
    """
    order = sorted(range(len(sets)), key=lambda index: derive("labels", keys[index]))
    members: dict[int, list[int]] = {}
    for index in order:
        for label in sets[index]:
            members.setdefault(label, []).append(index)
    part_of = [-1] * len(sets)
    left = {label: len(images) for label, images in members.items()}
    wanted = {label: [share * count for share in shares] for label, count in left.items()}
    room = [share * len(sets) for share in shares]

    def give(index: int, desire: Sequence[float]) -> None:
        part = max(range(len(shares)), key=lambda p: (desire[p], room[p], -p))
        part_of[index] = part
        room[part] -= 1
        for label in sets[index]:
            wanted[label][part] -= 1
            left[label] -= 1

    while left:
        rarest = min(left, key=lambda label: (left[label], label))
        for index in members[rarest]:
            if part_of[index] < 0:
                give(index, wanted[rarest])
        del left[rarest]
        left = {label: count for label, count in left.items() if count}
    for index in order:
        if part_of[index] < 0:
            give(index, room)
    return part_of
