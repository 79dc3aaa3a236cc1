"""One sample, and a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from sppcls._util.reason import own_line, reason_with_line
from sppcls.data.cache import ImageCache
from sppcls.data.files import Source
from sppcls.data.label_sets import LabelSets
from sppcls.data.sampler import Key
from sppcls.data.seeding import derive
from sppcls.data.transforms import EvalTransform, TrainTransform
from sppcls.errors import DataError, ImageError, PartError, SppclsError


class Batch(NamedTuple):
    """What a loader yields."""

    image: torch.Tensor
    """uint8 (N, 3, H, W), regions of the largest size, in channels_last memory format."""
    target: torch.Tensor
    """int64 (N,); of several labels float32 (N, classes), 1 for each that the image has."""
    index: torch.Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a batch
    """int64 (N,), numbers of the images in their source."""
    lighting: torch.Tensor
    """float32 (N, 3), RGB offsets in units of 0..1; zeros outside training."""
    epoch: int
    """Epoch the batch belongs to (0 outside training); its size is ``schedule.at(epoch, step)``."""
    step: int
    """Step within the epoch (0 outside training)."""
    bad: tuple[str, ...]
    """One line for each image that could not be read and is therefore missing from the batch."""
    fault: str
    """Why no image can be read at all, in one line; or nothing."""


@dataclass(frozen=True)
class Sample:
    """One image on its way into a batch; ``bad`` or ``fault`` says why there is none."""

    image: torch.Tensor | None
    target: int | torch.Tensor
    index: int
    lighting: torch.Tensor
    epoch: int
    step: int
    bad: str = ""
    fault: str = ""


class ImageDataset(Dataset[Sample]):
    """A source seen through a transform, indexed by keys (epoch, step, pass, index) or plain integers.

    The augmentation of an image depends on (seed, pass, index) only. An unreadable image gives a sample
    without one, because an exception in a worker process would reach the user as a page of traceback.

    Args:
        source: images and their classes.
        transform: what becomes of an image.
        seed: run seed.
        cache: where the images are read instead, if there is one; it was made for this source and transform.
    """

    def __init__(
        self,
        source: Source,
        transform: TrainTransform | EvalTransform,
        seed: int,
        cache: ImageCache | None = None,
    ) -> None:
        self.source, self.transform, self.seed, self.cache = source, transform, seed, cache
        self._sets = source.targets if isinstance(source.targets, LabelSets) else None
        self._targets = torch.from_numpy(
            np.asarray([] if self._sets is not None else source.targets, dtype=np.int32)
        )

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, keys: Sequence[Key | int]) -> list[Sample]:
        """The samples of a batch; a source that can reads all their bytes at once, from far away, before."""
        fetch = None if self.cache else getattr(self.source, "fetch", None)
        if fetch is not None:
            try:
                fetch([key if isinstance(key, int) else key[3] for key in keys])
            except DataError as error:
                return [Sample(None, 0, 0, torch.zeros(3), 0, 0, fault=str(error))]
        return [self[key] for key in keys]

    def __getitem__(self, key: Key | int) -> Sample:
        epoch, step, number, index = (0, 0, 0, key) if isinstance(key, int) else key
        target: int | torch.Tensor
        if self._sets is not None:
            target = self._sets.row(index, len(self.source.classes))
        else:
            target = int(self._targets[index])
        lighting = torch.zeros(3)
        try:
            image, size = self.cache.read(index) if self.cache else (self.source.image(index), None)
        except ImageError as error:
            return Sample(None, target, index, lighting, epoch, step, bad=str(error))
        except DataError as error:  # the cache or the connection is at fault: so will be every other image
            return Sample(None, target, index, lighting, epoch, step, fault=str(error))
        except SppclsError:  # a stop by a signal, too, which may come within a source
            raise
        except Exception as error:  # a source of somebody's own
            function, _ = own_line(error)
            if not function:
                raise
            raise PartError(f"{function} failed: {reason_with_line(error)}") from error
        if isinstance(self.transform, TrainTransform):
            try:
                image, lighting = self.transform(image, derive(self.seed, "augment", number, index), size)
            except DataError as error:  # an augmentation of somebody's own
                return Sample(None, target, index, lighting, epoch, step, fault=str(error))
        elif size is None:  # what a cache holds for validation are the regions
            image = self.transform(image)
        return Sample(image, target, index, lighting, epoch, step)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples to a :class:`Batch`; those without an image are left out and named in ``bad``."""
    good = [sample for sample in samples if sample.image is not None]
    if good:
        # Stacked as (H, W, 3): the batch is channels_last at no cost, and resizing it costs less than half.
        rows = [sample.image.permute(1, 2, 0) for sample in good if sample.image is not None]
        image = default_collate(rows).permute(0, 3, 1, 2)
        lighting = torch.stack([sample.lighting for sample in good])
    else:
        image, lighting = torch.empty(0, 3, 1, 1, dtype=torch.uint8), torch.empty(0, 3)
    return Batch(
        image=image,
        target=_targets([sample.target for sample in good]),
        index=torch.tensor([sample.index for sample in good], dtype=torch.int64),
        lighting=lighting,
        epoch=samples[0].epoch,
        step=samples[0].step,
        bad=tuple(sample.bad for sample in samples if sample.image is None and not sample.fault),
        fault=next((sample.fault for sample in samples if sample.fault), ""),
    )


def _targets(targets: Sequence[int | torch.Tensor]) -> torch.Tensor:
    rows = [target for target in targets if isinstance(target, torch.Tensor)]
    return torch.stack(rows) if rows else torch.tensor(targets, dtype=torch.int64)
