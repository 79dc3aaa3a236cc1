"""The loaders, in the form Lightning takes them."""

from __future__ import annotations

import atexit
import multiprocessing.util  # which registers what it does at the end
import signal
from collections.abc import Sequence
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from sppcls.data.balance import WeightedOrder
from sppcls.data.cache import ImageCache
from sppcls.data.dataset import Batch, ImageDataset, Sample, collate
from sppcls.data.files import Source
from sppcls.data.sampler import EvalSampler, KeyedBatchSampler, spread_over_classes
from sppcls.data.sizes import SizeSchedule
from sppcls.data.stream import LOADERS_BEGIN, begin_worker
from sppcls.data.transforms import EvalTransform, TrainTransform
from sppcls.errors import ConfigError, DataError, ImageError

ON_ERROR = ("skip", "raise")
_STATISTICS = 32  # most images of a batch that gives batch norm its statistics


class ImageDataModule(pl.LightningDataModule):
    """Training and validation loaders that give uint8 regions of the schedule's largest size.

    Order and augmentation are functions of (seed, epoch, image): the same with any number of workers, on any
    rank, and after resuming from a checkpoint written anywhere in an epoch. The Trainer needs
    ``use_distributed_sampler=False``; the samplers here share the images among the ranks themselves, so that
    none is seen twice or dropped.

    Args:
        train, val: the two splits.
        schedule: sizes; batches carry the (epoch, step) to ask it with.
        batch_size: training images per process and step (with a pixel budget: at the largest size).
        val_batch_size: validation images per process and step; ``None``: as ``batch_size``.
        workers: loader processes; 0 loads in the main process.
        seed: run seed.
        train_transform, eval_transform: what happens to each image.
        drop_last: full training batches only.
        pixel_budget: larger training batches at smaller sizes.
        repeats: times that a step has each of its training images, augmented in different ways.
        on_error: what an unreadable image does: ``skip`` (left out and named in ``Batch.bad``) or ``raise``.
        caches: of the training and of the validation images, made for their transforms.
        val_batches: validate on a part of the images: as many as so many batches of one process hold, the same ones in
            every run and on any number of processes, each class in proportion to its images; None: on all.
        test: images kept for the end, if there are any; they are decoded each time.
        image_weights: how often a training image of each class is drawn, relative to the others; None: equally often.

    Attributes:
        val_part: numbers of the images that are validated on; None: all.

    Raises:
        ConfigError: an argument is out of range.
        ImageError: (while training or validating) an image is unreadable and ``on_error="raise"``.
        DataError: (likewise) a cache is.
    """

    def __init__(
        self,
        train: Source,
        val: Source,
        schedule: SizeSchedule,
        *,
        batch_size: int,
        val_batch_size: int | None = None,
        workers: int = 0,
        seed: int = 0,
        train_transform: TrainTransform,
        eval_transform: EvalTransform,
        drop_last: bool = False,
        pixel_budget: bool = False,
        repeats: int = 1,
        on_error: str = "skip",
        caches: tuple[ImageCache | None, ImageCache | None] = (None, None),
        val_batches: int | None = None,
        test: Source | None = None,
        image_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        val_batch_size = batch_size if val_batch_size is None else val_batch_size
        for key, value in (("batch_size", batch_size), ("val_batch_size", val_batch_size)):
            if value < 1:
                raise ConfigError(f"data.{key}={value}: at least 1 is needed")
        if workers < 0:
            raise ConfigError(f"data.workers={workers}: at least 0 is needed")
        if on_error not in ON_ERROR:
            raise ConfigError(f"data.on_error={on_error!r}: choose from {', '.join(ON_ERROR)}")
        self.train, self.val, self.test, self.schedule = train, val, test, schedule
        self.batch_size, self.val_batch_size = batch_size, val_batch_size
        self.workers, self.seed = workers, seed
        self.train_transform, self.eval_transform = train_transform, eval_transform
        self.drop_last, self.pixel_budget, self.on_error = drop_last, pixel_budget, on_error
        self.repeats = repeats
        self.train_cache, self.val_cache = caches
        self.order = None if image_weights is None else WeightedOrder(train.targets, image_weights, seed)
        self.val_part = limited_part(val, val_batches, val_batch_size)
        # A validation set smaller than the number of processes is fine.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def batch_sampler(
        self, *, rank: int = 0, world: int = 1, start: tuple[int, int] = (0, 0)
    ) -> KeyedBatchSampler:
        """The training batches of one process; ``len()`` of it is the number of steps per epoch."""
        return KeyedBatchSampler(
            len(self.train),
            self.batch_size,
            self.seed,
            self.schedule,
            rank=rank,
            world=world,
            drop_last=self.drop_last,
            pixel_budget=self.pixel_budget,
            repeats=self.repeats,
            start=start,
            order=self.order,
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        rank, world = self._place()
        steps = len(self.batch_sampler(rank=rank, world=world))
        dataset = ImageDataset(self.train, self.train_transform, self.seed, self.train_cache)
        sampler = self.batch_sampler(rank=rank, world=world, start=self._start(steps))
        return self._loader(dataset, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader[Sample]:
        dataset = ImageDataset(self.val, self.eval_transform, self.seed, self.val_cache)
        sampler = EvalSampler(len(dataset), *self._place(), self.val_part)
        return self._loader(dataset, sampler=sampler, batch_size=self.val_batch_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        """The test images as the validation images are seen, this process's share of them."""
        assert self.test is not None
        dataset = ImageDataset(self.test, self.eval_transform, self.seed)
        sampler = EvalSampler(len(dataset), *self._place())
        return self._loader(dataset, sampler=sampler, batch_size=self.val_batch_size)

    def statistics_dataloader(self, epoch: int, images: int) -> DataLoader[Sample]:
        """The first training images of an epoch, as many as asked for or a few more, in batches of at most 32: the same on
        any number of processes that have the same images in a step."""
        together = min(_STATISTICS, self.batch_size * self._place()[1])
        sampler = KeyedBatchSampler(
            len(self.train), together, self.seed, self.schedule, start=(epoch, 0), order=self.order
        )
        batches = list(islice(sampler, -(-images * len(sampler) // len(self.train))))
        dataset = ImageDataset(self.train, self.train_transform, self.seed, self.train_cache)
        return self._loader(dataset, batch_sampler=batches)

    def val_image(self, index: int) -> torch.Tensor:
        """uint8 (3, *region): what the validation loader gives for an image; raises ImageError."""
        return self.eval_transform(self.val.image(index))

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Complain of unreadable images here, in the main process, where the message stays one line."""
        if batch.fault:
            raise DataError(batch.fault)
        if batch.bad and self.on_error == "raise":
            raise ImageError(batch.bad[0])
        return batch

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _start(self, steps: int) -> tuple[int, int]:
        """(epoch, step) that training begins at, from the progress that a checkpoint restored.

        ``trainer.current_epoch`` will not do: it is one too low here when the checkpoint was written at the
        end of an epoch, and Lightning 2.6 then draws the first batches before it tells the sampler the epoch.
        Nor do the progress counters' ``ready``, which include a step that was interrupted.
        """
        if self.trainer is None:
            return 0, 0
        epochs: Any = self.trainer.fit_loop.epoch_progress.current
        batches: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        limit = self.trainer.limit_train_batches
        steps = min(steps, limit) if isinstance(limit, int) else int(steps * limit)
        if epochs.started == epochs.processed:
            return epochs.processed, 0
        if batches.processed >= steps:
            return epochs.processed + 1, 0
        return epochs.processed, batches.processed

    def _loader(self, dataset: ImageDataset, **kwargs: Any) -> DataLoader[Sample]:
        return DataLoader(
            dataset,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=_begin_worker,
            multiprocessing_context=LOADERS_BEGIN if self.workers else None,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            # Without one of its own, a loader draws from the global generator, and validating more or less
            # often would change the training.
            generator=torch.Generator().manual_seed(0),
            **kwargs,
        )


def limited_part(val: Source, batches: int | None, batch_size: int) -> list[int] | None:
    """Numbers of the images that a limit on the validation batches leaves; None if it leaves all.

    Args:
        val: the validation images.
        batches: the limit, in batches of one process; None: no limit.
        batch_size: images in one of them.
    """
    if batches is None or batches * batch_size >= len(val):
        return None
    return spread_over_classes(val.targets, batches * batch_size)


def _begin_worker(worker: int) -> None:
    begin_worker(worker)
    # It reaches every process of a scheduler's job; the main one saves first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@atexit.register  # after multiprocessing's own, and so called before it
def _kill_loaders() -> None:
    """End the loader processes that a failed run has left: Python waits for them for ever, as they do not hear SIGTERM."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
