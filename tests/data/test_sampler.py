"""What the samplers promise: each image once, on any number of ranks, and the same again after a resume."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sppcls.data.sampler import EvalSampler, KeyedBatchSampler, spread_over_classes
from sppcls.data.sizes import make_schedule
from sppcls.errors import ConfigError, DataError

SINGLE = make_schedule("single", 224, seed=0, epochs=10)
PAPER = make_schedule("alternate", [224, 180], seed=0, epochs=10)
RANDOM = make_schedule("random_batch", [112, 224], seed=0, epochs=10)


def epoch_of(n, batch, epoch=0, *, seed=0, schedule=SINGLE, **options):
    sampler = KeyedBatchSampler(n, batch, seed, schedule, **options)
    sampler.set_epoch(epoch)
    return list(sampler)


def indices(batches):
    return [index for batch in batches for _, _, _, index in batch]


@given(n=st.integers(1, 200), batch=st.integers(1, 40), world=st.integers(1, 5), epoch=st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_every_image_exactly_once_over_all_ranks(n, batch, world, epoch):
    if n < world:
        return
    ranks = [epoch_of(n, batch, epoch, rank=rank, world=world) for rank in range(world)]
    assert sorted(index for rank in ranks for index in indices(rank)) == list(range(n))
    assert {len(rank) for rank in ranks} == {len(KeyedBatchSampler(n, batch, 0, SINGLE, world=world))}
    sizes = [len(b) for rank in ranks for b in rank]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    if batch > 1:
        assert max(sizes) <= batch


def test_no_tiny_last_batch():
    assert [len(batch) for batch in epoch_of(33, 32)] == [16, 17]
    assert [len(batch) for batch in epoch_of(100, 32)] == [25, 25, 25, 25]
    assert [len(batch) for batch in epoch_of(96, 32)] == [32, 32, 32]


def test_keys_say_epoch_step_and_pass():
    batches = epoch_of(10, 4, epoch=3)
    assert [{key[:3] for key in batch} for batch in batches] == [{(3, step, 3)} for step in range(3)]


def test_order_differs_by_epoch_and_seed_and_0_is_a_seed():
    orders = [indices(epoch_of(50, 8, epoch, seed=seed)) for epoch in (0, 1) for seed in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 6
    assert orders[0] == indices(epoch_of(50, 8, 0, seed=0))
    assert orders[0] != list(range(50))


def test_without_shuffling_the_images_keep_their_order():
    assert indices(epoch_of(10, 4, 2, shuffle=False)) == list(range(10))


@given(
    n=st.integers(2, 60),
    batch=st.integers(1, 9),
    world=st.integers(1, 3),
    repeats=st.integers(1, 4),
    seed=st.integers(),
)
@settings(deadline=None, max_examples=60)
def test_repeated_augmentation_takes_every_image_so_often_and_each_time_anew(n, batch, world, repeats, seed):
    if n < world:
        return
    epochs = [
        [
            epoch_of(n, batch, epoch, seed=seed, rank=rank, world=world, repeats=repeats)
            for rank in range(world)
        ]
        for epoch in range(repeats)
    ]
    keys = [key for epoch in epochs for rank in epoch for step in rank for key in step]
    assert len(keys) == n * repeats
    assert Counter(index for *_, index in keys) == dict.fromkeys(range(n), repeats)
    assert len({(number, index) for _, _, number, index in keys}) == len(keys)  # what seeds the augmentation
    # In the order of the stream each image stands so many times in a row.
    for epoch, ranks in enumerate(epochs):
        stream = [key for step in zip(*ranks, strict=True) for key in interleaved(step)]
        assert len(stream) == n
        places = [(epoch * n + place) // repeats for place in range(n)]
        assert all((places[i] == places[i + 1]) == (stream[i][3] == stream[i + 1][3]) for i in range(n - 1))


def interleaved(batches):
    """The images of a step in the order in which the ranks share them."""
    longest = max(map(len, batches))
    return [batch[i] for i in range(longest) for batch in batches if i < len(batch)]


def test_a_step_has_its_images_several_times():
    (first, *_) = epoch_of(24, 12, repeats=3)
    assert sorted(Counter(index for *_, index in first).values()) == [3, 3, 3, 3]
    assert [number for _, _, number, _ in first] == [0, 1, 2] * 4


@pytest.mark.parametrize(
    "options", [{}, {"drop_last": True}, {"repeats": 3}, {"pixel_budget": True, "schedule": RANDOM}]
)
@pytest.mark.parametrize("world", [2, 3])
def test_the_images_of_a_step_do_not_depend_on_the_number_of_ranks(options, world):
    for epoch in (0, 1, 2):
        alone = epoch_of(100, 12, epoch, **options)
        ranks = [
            epoch_of(100, 12 // world, epoch, rank=rank, world=world, **options) for rank in range(world)
        ]
        assert len(alone) == len(ranks[0])
        for step, batch in enumerate(alone):
            shared = [key for rank in ranks for key in rank[step]]
            assert sorted(shared) == sorted(batch)


def test_drop_last_gives_full_batches_of_different_images():
    sampler = KeyedBatchSampler(50, 8, 0, SINGLE, drop_last=True, world=2, rank=1)
    assert len(sampler) == 3
    seen = []
    for epoch in range(4):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [8, 8, 8]
        assert len(set(indices(batches))) == 24
        seen.append(frozenset(indices(batches)))
    assert len(set(seen)) == 4


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"pixel_budget": True}])
@pytest.mark.parametrize("schedule", [PAPER, RANDOM], ids=lambda schedule: schedule.kind)
@pytest.mark.parametrize("start", [(0, 0), (0, 3), (1, 0), (1, 2), (4, 5)])
def test_a_resumed_epoch_is_the_tail_of_the_full_one(options, schedule, start):
    epoch, step = start
    full = epoch_of(97, 8, epoch, schedule=schedule, **options)
    resumed = KeyedBatchSampler(97, 8, 0, schedule, start=start, **options)
    assert len(resumed) == len(full)
    assert list(resumed) == full[step:]
    resumed.set_epoch(epoch)  # as Lightning does after it has drawn the first batches
    assert list(resumed) == full[step:]
    resumed.set_epoch(epoch + 1)
    assert list(resumed) == epoch_of(97, 8, epoch + 1, schedule=schedule, **options)


def test_pixel_budget_batches_and_steps_by_hand():
    # 180 x 180 has 32400 of 50176 pixels: 16 images become floor(24.78) = 24.
    assert [len(batch) for batch in epoch_of(100, 16, 0, schedule=PAPER, pixel_budget=True)] == [16] * 6
    assert [len(batch) for batch in epoch_of(100, 16, 1, schedule=PAPER, pixel_budget=True)] == [24] * 6
    ranks = [epoch_of(100, 8, 1, schedule=PAPER, pixel_budget=True, rank=r, world=2) for r in (0, 1)]
    assert [[len(batch) for batch in rank] for rank in ranks] == [[12] * 6] * 2


@pytest.mark.parametrize("schedule", [PAPER, RANDOM], ids=lambda schedule: schedule.kind)
def test_pixel_budget_stream_shows_all_images_equally_often(schedule):
    sampler = KeyedBatchSampler(37, 5, 0, schedule, pixel_budget=True)
    keys = []
    for epoch in range(10):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == 7
        keys += [key for batch in batches for key in batch]
    counts = Counter(index for *_, index in keys)
    assert max(counts.values()) - min(counts[index] for index in range(37)) <= 1
    passes = [number for _, _, number, _ in keys]
    assert passes == sorted(passes)
    for number in range(passes[-1]):
        assert sorted(index for _, _, p, index in keys if p == number) == list(range(37))


def test_pixel_budget_with_a_set_smaller_than_a_batch():
    assert [len(batch) for batch in epoch_of(5, 8, 0, schedule=PAPER, pixel_budget=True)] == [8]


def test_too_few_images():
    with pytest.raises(DataError, match=r"2 image\(s\), too few to give each of 3 processes one"):
        KeyedBatchSampler(2, 1, 0, SINGLE, world=3)
    with pytest.raises(ConfigError, match=r"data\.batch_size=8 on 2 process\(es\) .* 10 .* at most 5"):
        KeyedBatchSampler(10, 8, 0, SINGLE, world=2, drop_last=True)


def test_lightning_finds_set_epoch():
    sampler = KeyedBatchSampler(10, 2, 0, SINGLE)
    sampler.sampler.set_epoch(3)
    assert next(iter(sampler))[0][0] == 3


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 5, 13])
def test_eval_sampler_neither_pads_nor_drops(n, world):
    shares = [list(EvalSampler(n, rank, world)) for rank in range(world)]
    assert sorted(index for share in shares for index in share) == list(range(n))
    assert [len(share) for share in shares] == [len(EvalSampler(n, rank, world)) for rank in range(world)]
    assert all(b <= a for a, b in pairwise(map(len, shares)))


def test_images_are_spread_over_the_classes() -> None:
    by_class = [0] * 700 + [1] * 200 + [2] * 100
    in_turn = [i % 20 for i in range(2000)]  # every 20th image is of one class
    for targets in (by_class, in_turn):
        chosen = spread_over_classes(targets, 100)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == 100
        for name in set(targets):
            share = 100 * targets.count(name) / len(targets)
            assert abs(sum(targets[i] == name for i in chosen) - share) <= 1
    assert spread_over_classes(in_turn, 5000) == list(range(2000))
    assert len({i // 50 for i in spread_over_classes([i // 50 for i in range(50_000)], 512)}) == 512
