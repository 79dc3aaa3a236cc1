"""What the balanced sampler promises: shares of the classes, every image in turn, the same on any number of processes."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from sppcls.data.balance import WeightedOrder, class_counts, class_weights, image_weights
from sppcls.data.sampler import KeyedBatchSampler
from sppcls.data.sizes import make_schedule
from sppcls.errors import ConfigError

SINGLE = make_schedule("single", 224, seed=0, epochs=10)
RANDOM = make_schedule("random_batch", [112, 224], seed=0, epochs=10)
COUNTS = {"daisy": 61, "roses": 30, "tulips": 7}
# Not in the order of the classes.
TARGETS = [label for i in range(61) for label, count in enumerate(COUNTS.values()) if i < count]
BALANCED = image_weights("balanced", 1.0, list(COUNTS), list(COUNTS.values()))


def epochs_of(last, batch=8, *, seed=0, schedule=SINGLE, weights=BALANCED, **options):
    """Keys of the batches of the epochs 0 to ``last``."""
    order = WeightedOrder(TARGETS, weights, seed)
    sampler = KeyedBatchSampler(len(TARGETS), batch, seed, schedule, order=order, **options)
    found = []
    for epoch in range(last + 1):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def test_each_class_has_its_share_of_every_epoch_and_of_all_together():
    drawn = Counter()
    for batches in epochs_of(29):
        counts = Counter(TARGETS[key[3]] for batch in batches for key in batch)
        assert sum(counts.values()) == 98
        assert all(counts[label] in (32, 33) for label in range(3)), counts  # 98 / 3
        drawn += counts
    assert all(abs(drawn[label] - 30 * 98 / 3) < 12 for label in range(3)), drawn  # not always the same class


@pytest.mark.parametrize("balance", [0.0, 0.25, 0.5, 1.0])
def test_the_power_lies_between_the_images_and_the_classes(balance):
    weights = image_weights("balanced", balance, list(COUNTS), list(COUNTS.values()))
    shares = [count ** (1 - balance) for count in COUNTS.values()]
    for number in range(4):
        found = WeightedOrder(TARGETS, weights, 3).counts(number)
        for label, share in enumerate(shares):
            assert abs(found[label] - 98 * share / sum(shares)) < 1


def test_images_of_a_class_come_in_turn_from_epoch_to_epoch():
    keys = [key for batches in epochs_of(11) for batch in batches for key in batch]
    for label, count in enumerate(COUNTS.values()):
        seen = Counter(key[3] for key in keys if TARGETS[key[3]] == label)
        assert len(seen) == count
        assert max(seen.values()) - min(seen.values()) <= 1
        # The pass, which seeds the augmentation, differs each time that an image is drawn.
        passes = Counter(key[2:] for key in keys if TARGETS[key[3]] == label)
        assert set(passes.values()) == {1}
        assert sorted({number for number, _ in passes}) == list(range(max(seen.values())))


def test_given_weights_are_those_of_an_image():
    weights = image_weights({"tulips": 4, "roses": 2}, 1.0, list(COUNTS), list(COUNTS.values()))
    assert weights == [1, 2, 4]
    counts = WeightedOrder(TARGETS, weights, 0).counts(0)
    assert all(abs(c - 98 * w / (61 + 60 + 28)) < 1 for c, w in zip(counts, (61, 60, 28), strict=True))


def test_order_depends_on_seed_and_epoch_alone():
    first, again, other = epochs_of(2), epochs_of(2), epochs_of(2, seed=1)
    assert first == again != other
    assert all(a != b for a, b in pairwise(first))


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"pixel_budget": True, "schedule": RANDOM}])
@pytest.mark.parametrize("world", [2, 3])
def test_the_images_of_a_step_do_not_depend_on_the_number_of_processes(options, world):
    alone = epochs_of(2, 12, **options)
    ranks = [epochs_of(2, 12 // world, rank=rank, world=world, **options) for rank in range(world)]
    for epoch, batches in enumerate(alone):
        for step, batch in enumerate(batches):
            assert sorted(key for rank in ranks for key in rank[epoch][step]) == sorted(batch)


@pytest.mark.parametrize("options", [{}, {"pixel_budget": True}])
@pytest.mark.parametrize("start", [(0, 3), (1, 0), (4, 5)])
def test_a_resumed_epoch_is_the_tail_of_the_full_one(options, start):
    epoch, step = start
    full = epochs_of(epoch + 1, schedule=RANDOM, **options)
    order = WeightedOrder(TARGETS, BALANCED, 0)
    resumed = KeyedBatchSampler(len(TARGETS), 8, 0, RANDOM, start=start, order=order, **options)
    assert list(resumed) == full[epoch][step:]
    resumed.set_epoch(epoch + 1)
    assert list(resumed) == full[epoch + 1]


def test_a_share_below_one_image_is_drawn_in_some_epochs():
    order = WeightedOrder([0] * 9 + [1], [1.0, 0.3], 0)
    rare = [int(order.counts(number)[1]) for number in range(2000)]
    assert set(rare) == {0, 1}
    assert sum(rare) / 2000 == pytest.approx(10 * 0.3 / 9.3, abs=0.03)


def test_balanced_weights_are_those_of_sklearn():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(3), y=np.array(TARGETS))
    found = class_weights("loss.class_weights", "balanced", list(COUNTS), class_counts(TARGETS, 3))
    assert found == pytest.approx(expected.tolist())
    assert sum(Fraction(found[label]) for label in TARGETS) == pytest.approx(98)


@pytest.mark.parametrize(
    ("value", "counts", "message"),
    [
        ({"rose": 2}, (61, 30, 7), "KEY: there is no class 'rose' (did you mean 'roses'?); the classes: daisy, roses, tulips"),
        ([1, 2], (61, 30, 7), "KEY: 2 numbers for 3 classes (daisy, roses, tulips)"),
        ({"roses": 0}, (61, 30, 7), "KEY: the weight of class roses is 0; it must be a finite number > 0"),
        ({"roses": True}, (61, 30, 7), "KEY: the weight of class roses is True; it must be a finite number > 0"),
        ("balanced", (61, 0, 7), "KEY: class 'roses' has no training image; add some, or take the class out"),
    ],
)  # fmt: skip
def test_impossible_weights_are_one_line(value, counts, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        class_weights("KEY", value, list(COUNTS), counts)
