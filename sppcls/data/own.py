"""Size schedules, augmentations and images that do not come with sppcls (:mod:`sppcls.registry`), and what is asked of them.

A size schedule has ``training_sizes`` and ``at(epoch, step)``, a pure function that gives one of any size within the
largest. An augmentation maps one image to a region; its randomness comes from torch, numpy or ``random``, which are
seeded for every image. Images come as map-style Datasets or as sources (:class:`sppcls.data.Source`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from sppcls._util.reason import reason_with_line
from sppcls.data.files import Source, Splits
from sppcls.data.label_sets import LabelSets
from sppcls.data.sizes import Size, SizeSchedule, as_size, size_label
from sppcls.data.transforms import TrainTransform
from sppcls.errors import ConfigError, DataError, ImageError, Interrupted, PartError
from sppcls.registry import TARGET, build

# -- sizes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnSchedule(SizeSchedule):
    """A size schedule of one's own, ``part``, with all that the others have. Build it with :func:`own_schedule`."""

    part: Any = None

    def at(self, epoch: int, step: int = 0) -> Size:
        size = as_size(self.part.at(epoch, step), f"sizes: {self.kind}.at({epoch}, {step})")
        if size[0] > self.largest[0] or size[1] > self.largest[1]:
            raise ConfigError(
                f"sizes: {self.kind}.at({epoch}, {step}) is {size_label(size)}, larger than the largest of "
                f"its training_sizes, {size_label(self.largest)}"
            )
        return size

    @property
    def never_used(self) -> tuple[Size, ...]:
        if self.changes_within_epoch:
            return ()
        used = {self.at(epoch) for epoch in range(self.epochs)}
        return tuple(size for size in self.training_sizes if size not in used)

    @property
    def changes_within_epoch(self) -> bool:
        return bool(getattr(self.part, "changes_within_epoch", True))

    @property
    def label(self) -> str:
        return "_".join([self.kind, *map(size_label, self.training_sizes)])


def own_schedule(values: Mapping[str, Any], seed: int, epochs: int) -> OwnSchedule:
    """The size schedule that a config group names.

    Raises:
        ConfigError: it lacks what a schedule has, or gives impossible sizes.
    """
    part = build("sizes", values, seed=seed, epochs=epochs)
    kind = str(values["kind"])
    sizes = getattr(part, "training_sizes", None)
    if not callable(getattr(part, "at", None)) or not isinstance(sizes, Sequence) or not sizes:
        raise ConfigError(f"sizes: {kind} needs training_sizes, a list, and at(epoch, step)")
    checked = tuple(as_size(size, f"sizes: {kind}.training_sizes") for size in sizes)
    schedule = OwnSchedule(kind=kind, sizes=checked, seed=seed, epochs=epochs, part=part)
    for epoch in {0, epochs - 1}:
        schedule.at(epoch)
    return schedule


# -- augmentation ------------------------------------------------------------------------------------------------------


class OwnTransform(TrainTransform):
    """An augmentation of one's own: uint8 (3, H, W) -> uint8 (3, *region).

    Args:
        region: (height, width) that it has to give, in pixels.
        part: called with an image.
        name: what to call it in messages.
        shorter_side: shorter side of validation images, and of what a cache holds.
    """

    def __init__(
        self, region: Size, part: Callable[[torch.Tensor], torch.Tensor], name: str, shorter_side: int | None
    ) -> None:
        super().__init__(region, flip=False, lighting=0.0, shorter_side=shorter_side)
        self.part, self.part_name = part, name

    def __call__(
        self, image: torch.Tensor, seed: int, size: Size | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            with _seeded(seed):
                result = self.part(image)
        except Interrupted:  # a signal that came within
            raise
        except Exception as error:  # other people's code
            raise PartError(f"augment: {self.part_name} failed: {reason_with_line(error)}") from error
        wanted, found = f"torch.uint8 {(3, *self.region)}", type(result).__name__
        if isinstance(result, torch.Tensor):
            found = f"{result.dtype} {tuple(result.shape)}"
        if found != wanted:
            raise DataError(f"augment: {self.part_name} must give {wanted}, not {found}")
        return result, torch.zeros(3)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators, seeded; afterwards they are as they were."""
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)


# -- images ------------------------------------------------------------------------------------------------------------


# Exceptions that tell of a mistake in the code of a Dataset, not of one image that cannot be read.
_MISTAKES = (
    TypeError, NameError, AttributeError, ImportError, LookupError, NotImplementedError, AssertionError,
)  # fmt: skip


class DatasetSource:
    """A map-style Dataset of (image, class number) as a source.

    Args:
        dataset: its images are PIL images, uint8 tensors (3, H, W) or (1, H, W), or uint8 arrays (H, W, 3) or (H, W).
            Class numbers are read from ``targets`` or ``labels`` if it has them, else from every item once. Where images may
            have several labels, each has a row of 0 and 1, one for each class, instead.
        role: what it is used as, for names and messages.
        classes: names of the classes; None: its attribute ``classes``, or the numbers.

    Raises:
        DataError: it is empty, or an item or a class number is nothing of the kind.
    """

    def __init__(self, dataset: Dataset[Any], role: str, classes: Sequence[str] | None = None) -> None:
        self._dataset, self._role = dataset, role
        try:
            count = len(dataset)  # type: ignore[arg-type]
        except TypeError:
            raise DataError(
                f"{role}: {type(dataset).__name__} has no length; give a map-style Dataset"
            ) from None
        if not count:
            raise DataError(f"{role}: {type(dataset).__name__} has no images")
        found = next((t for n in ("targets", "labels") if (t := getattr(dataset, n, None)) is not None), None)
        if found is None:
            found = self._targets(count)
        names = classes if classes is not None else getattr(dataset, "classes", None)
        self.targets: Any
        if (rows := _label_rows(role, found, count)) is not None:
            self.classes = [str(name) for name in (range(rows.shape[1]) if names is None else names)]
            if len(self.classes) != rows.shape[1]:
                raise DataError(f"{role}: rows of {rows.shape[1]} labels, for {len(self.classes)} classes")
            self.targets = LabelSets(np.flatnonzero(row).tolist() for row in rows)
            return
        try:
            self.targets = [int(target) for target in found]
        except (TypeError, ValueError):
            raise DataError(f"{role}: class numbers must be whole numbers") from None
        if len(self.targets) != count:
            raise DataError(f"{role}: has {count} images and {len(self.targets)} class numbers")
        self.classes = [str(n) for n in (range(max(self.targets) + 1) if names is None else names)]
        low, high, count = min(self.targets), max(self.targets), len(self.classes)
        # Without names nobody has said that there are more classes than numbers.
        if low == 1 and high == (high if names is None else count):
            raise DataError(
                f"{role}: class numbers are 1 to {high}; they begin at 0: off by one, subtract 1 in the Dataset"
            )
        if low < 0 or high >= count:
            raise DataError(
                f"{role}: class numbers are {low} to {high}, for {count} classes they must be 0 to {count - 1}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, index: int) -> str:
        return f"{self._role}/{index:05d}"

    def image(self, index: int) -> torch.Tensor:
        try:
            image = self._item(index)[0]
        except (DataError, Interrupted):
            raise
        except _MISTAKES as error:
            raise PartError(f"{self._role}: item {index} failed: {reason_with_line(error)}") from error
        except Exception as error:  # of a decoder, most likely: this image cannot be read
            raise ImageError(f"{self.name(index)}: {reason_with_line(error)}") from error
        if isinstance(image, Image.Image):
            image = np.asarray(image.convert("RGB"))
        if isinstance(image, np.ndarray):
            image = torch.from_numpy(np.array(image))  # a copy: a decoder's array may be read-only
            image = image.permute(2, 0, 1) if image.dim() == 3 else image.unsqueeze(0)
        if not isinstance(image, torch.Tensor) or image.dim() != 3 or image.shape[0] not in (1, 3):
            found = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
            raise DataError(
                f"{self._role}: item {index}: no image but {found}; a PIL image or uint8 (3, H, W) is needed"
            )
        if image.dtype != torch.uint8:
            raise DataError(
                f"{self._role}: item {index}: {image.dtype}; uint8 in 0..255 is needed: leave out ToTensor and Normalize"
            )
        return image.expand(3, -1, -1)

    def _targets(self, count: int) -> list[Any]:
        targets = []
        for index in range(count):
            try:
                targets.append(self._item(index)[1])
            except (DataError, Interrupted):
                raise
            except Exception as error:  # other people's code
                raise PartError(f"{self._role}: item {index} failed: {reason_with_line(error)}") from error
        return targets

    def _item(self, index: int) -> tuple[Any, Any]:
        item = self._dataset[index]
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise DataError(
                f"{self._role}: item {index}: {type(item).__name__}; (image, class number) is needed"
            )
        return item[0], item[1]


def _label_rows(role: str, found: Sequence[Any], count: int) -> np.ndarray | None:
    """0 or 1 for each item and class, (count, classes); None where items have class numbers.

    Raises:
        DataError: rows of another length, or with something else in them.
    """
    if not len(found) or np.ndim(found[0]) != 1 or len(found[0]) < 2:
        return None
    try:
        rows = np.array([np.asarray(row) for row in found])
    except ValueError:
        rows = np.empty(0)
    if rows.ndim != 2 or len(rows) != count or not np.isin(rows, (0, 1)).all():
        raise DataError(
            f"{role}: several labels of an item are a row of 0 and 1 for all classes, for each of the {count} items"
        )
    return rows


def as_splits(parts: Any, what: str) -> Splits:
    """Training, validation and perhaps test images as :class:`~sppcls.data.Splits`.

    Args:
        parts: of two or three Datasets or sources, or Splits.
        what: begins the messages.

    Raises:
        DataError: they are something else, or their classes differ.
    """
    if isinstance(parts, Splits):
        return parts
    if not isinstance(parts, (tuple, list)) or len(parts) not in (2, 3):
        raise DataError(f"{what}: must be (train, val) or (train, val, test), Datasets or sources")
    sources: list[Source] = []
    for role, part in zip(("train", "val", "test"), parts, strict=False):
        if part is None:
            continue
        if not all(hasattr(part, name) for name in ("classes", "targets", "image", "name")):
            if not hasattr(part, "__getitem__"):
                raise DataError(
                    f"{what}: {role} is a {type(part).__name__}; give a map-style Dataset or a source"
                )
            named = sources[0].classes if sources and not hasattr(part, "classes") else None
            part = DatasetSource(part, role, named)
        sources.append(cast(Source, part))
        if list(sources[-1].classes) != list(sources[0].classes):
            raise DataError(f"{what}: the classes of {role} are not those of train")
    if len(sources) < 2:
        raise DataError(f"{what}: validation images are needed, too")
    train, val, *test = sources
    return Splits(train, val, test[0] if test else None)


def own_splits(values: Mapping[str, Any]) -> Splits:
    """The images that a config group names.

    Raises:
        DataError: it gives something else than images.
        ConfigError: it cannot be made.
    """
    return as_splits(build("data", values), f"data {values.get(TARGET, values.get('name'))}")
