"""Which images make up which batch.

Batches are lists of keys (epoch, step, pass, index): the epoch and step the batch belongs to, how often the
whole set had been gone through before this image (which seeds its augmentation), and the image's number.
Because a key carries all of it, a worker process needs no state, and a loader that prefetches can never be
one epoch behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler

from sppcls.data.seeding import derive
from sppcls.data.sizes import SizeSchedule, batch_size_at
from sppcls.errors import ConfigError, DataError

Key = tuple[int, int, int, int]


def permutation(n: int, seed: int, number: int) -> torch.Tensor:
    """Order number ``number`` of ``n`` images under ``seed``: int64 (n,), a private generator's."""
    generator = torch.Generator().manual_seed(derive(seed, "order", number))
    return torch.randperm(n, generator=generator)


class KeyedBatchSampler(Sampler[list[Key]]):
    """Batches of keys for one rank; every rank sees the same steps, and the ranks share each step's images.

    The set of images of a step depends on ``batch_size * world`` only; rank r takes every world-th of them.

    Without a pixel budget an epoch is one pass over a fresh permutation: each image exactly once over all
    ranks. Its ``ceil(n / (batch_size * world))`` steps share the images evenly, so batches differ by one
    image at most and no tiny batch is left over for batch normalisation to choke on. (``drop_last`` gives
    full batches only and leaves out fewer than one step's images, others in each epoch.)

    With a pixel budget, steps at smaller sizes take more images, in all
    ``floor(batch_size * world * area(largest) / area(size))``. The number of steps per epoch stays
    ``n // (batch_size * world)``; images come from an endless stream of permutations that goes on from epoch
    to epoch, so all are seen equally often.

    With ``repeats`` each image stands so many times in a row in the stream, so nearly always in one step, shared among
    the ranks (repeated augmentation, Hoffer et al. 2020). An epoch stays as long and sees ``n / repeats`` images; over
    ``repeats`` epochs all are seen equally often. Each time has a pass of its own, and so its own augmentation.

    Args:
        n: number of images.
        batch_size: images per rank and step (with a pixel budget: at the largest size).
        seed: run seed, any integer.
        schedule: sizes, used by the pixel budget only.
        rank, world: this process and how many there are.
        shuffle: ``False`` keeps the images in their order.
        drop_last: full batches only.
        pixel_budget: larger batches at smaller sizes.
        repeats: times in a row that an image is taken.
        start: (epoch, step) to begin at; the skipped steps belong to that epoch only.
        order: passes and images, int64 (n,) each, of block number 0, 1, ... of the stream, in place of permutations;
            see :class:`~sppcls.data.balance.WeightedOrder`.

    Raises:
        DataError: fewer images than ranks.
        ConfigError: ``drop_last`` and not a single full batch.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        schedule: SizeSchedule,
        *,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        pixel_budget: bool = False,
        repeats: int = 1,
        start: tuple[int, int] = (0, 0),
        order: Callable[[int], tuple[torch.Tensor, torch.Tensor]] | None = None,
    ) -> None:
        if n < world:
            raise DataError(
                f"the training set has {n} image(s), too few to give each of {world} processes one"
            )
        self.n, self.batch_size, self.seed, self.schedule = n, batch_size, seed, schedule
        self.rank, self.world = rank, world
        self.shuffle, self.drop_last, self.pixel_budget = shuffle, drop_last, pixel_budget
        self.repeats = repeats
        self.start = start
        self.epoch = start[0]
        self._epoch_places = [0]
        self._blocks = order or self._permuted
        self._block: tuple[int, torch.Tensor, torch.Tensor] | None = None
        together = batch_size * world
        if pixel_budget:
            self._steps = max(1, n // together)
        elif drop_last:
            self._steps = n // together
        else:
            # Never more steps than leave each rank an image (this matters only for batch_size=1).
            self._steps = min(-(-n // together), n // world)
        if not self._steps:
            raise ConfigError(
                f"data.batch_size={batch_size} on {world} process(es) is more than the {n} training images: "
                f"choose at most {n // world}, or data.drop_last=false"
            )

    @property
    def sampler(self) -> KeyedBatchSampler:
        """Itself: Lightning looks for ``set_epoch`` at ``loader.batch_sampler.sampler``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields; only the epoch of ``start`` begins midway."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Steps per epoch: the same in every epoch and on every rank, also where ``start`` skips some."""
        return self._steps

    def __iter__(self) -> Iterator[list[Key]]:
        epoch = self.epoch
        first = self.start[1] if epoch == self.start[0] else 0
        begin = self._place_of(epoch, first)
        for step in range(first, self._steps):
            end = begin + self._count(epoch, step)
            yield [
                (epoch, step, *self._pass_and_image(place))
                for place in range(begin + self.rank, end, self.world)
            ]
            begin = end

    def _count(self, epoch: int, step: int) -> int:
        """Images of a step over all ranks."""
        together = self.batch_size * self.world
        if self.pixel_budget:
            return batch_size_at(together, self.schedule.at(epoch, step), self.schedule.largest)
        if self.drop_last:
            return together
        return (step + 1) * self.n // self._steps - step * self.n // self._steps

    def _place_of(self, epoch: int, step: int) -> int:
        """Where a step begins in the endless stream of permutations (one per epoch without a budget)."""
        place = epoch * self.n
        if self.pixel_budget:
            while len(self._epoch_places) <= epoch:
                done = len(self._epoch_places) - 1
                total = sum(self._count(done, each) for each in range(self._steps))
                self._epoch_places.append(self._epoch_places[-1] + total)
            place = self._epoch_places[epoch]
        return place + sum(self._count(epoch, each) for each in range(step))

    def _pass_and_image(self, place: int) -> tuple[int, int]:
        """Pass and image at a place of the endless stream; only the current block is kept."""
        distinct, again = divmod(place, self.repeats)
        number, position = divmod(distinct, self.n)
        if self._block is None or self._block[0] != number:
            self._block = number, *self._blocks(number)
        return int(self._block[1][position]) * self.repeats + again, int(self._block[2][position])

    def _permuted(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        images = permutation(self.n, self.seed, number) if self.shuffle else torch.arange(self.n)
        return torch.tensor(number).expand(self.n), images


class EvalSampler(Sampler[int]):
    """Images ``rank, rank + world, ...`` of ``n``: over all ranks each exactly once, with no padding.

    Args:
        n: number of images.
        rank, world: this process and how many there are.
        part: numbers of the images to take; None: all.
    """

    def __init__(self, n: int, rank: int = 0, world: int = 1, part: Sequence[int] | None = None) -> None:
        self._share = (range(n) if part is None else part)[rank::world]

    def __len__(self) -> int:
        return len(self._share)

    def __iter__(self) -> Iterator[int]:
        return iter(self._share)


def spread_over_classes(targets: Sequence[int], most: int) -> list[int]:
    """At most ``most`` image numbers, ascending, each class in proportion to its images.

    Every so many-th of all images ordered by class, and within a class by a hash of their number: neighbours, such as
    frames of one film, are as likely as any other two. Nothing but the classes and ``most`` decides.
    """
    if most >= len(targets):
        return list(range(len(targets)))
    order = sorted(range(len(targets)), key=lambda index: (targets[index], derive("spread", index)))
    return sorted(order[i * len(order) // most] for i in range(most))
