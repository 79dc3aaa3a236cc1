"""Size schedules against lists written by hand and against the paper."""

from __future__ import annotations

from collections import Counter

import pytest

from sppcls.data.sizes import as_size, batch_size_at, make_schedule, size_label
from sppcls.errors import ConfigError


def sides(schedule, epochs):
    return [schedule.at(epoch)[0] for epoch in range(epochs)]


def test_single():
    schedule = make_schedule("single", 224, seed=0, epochs=3)
    assert [schedule.at(epoch, step) for epoch in (0, 1, 89) for step in (0, 7)] == [(224, 224)] * 6
    assert schedule.label == "single_224"
    assert make_schedule("single", [224], seed=0, epochs=3) == schedule


def test_alternate_is_the_papers_two_size_training():
    schedule = make_schedule("alternate", [224, 180], seed=0, epochs=5)
    assert sides(schedule, 5) == [224, 180, 224, 180, 224]
    assert schedule.at(1, 0) == schedule.at(1, 999) == (180, 180)
    assert schedule.label == "multi_224_180"
    assert schedule.training_sizes == ((224, 224), (180, 180))
    assert not schedule.changes_within_epoch


def test_alternate_any_list_any_period():
    schedule = make_schedule("alternate", [128, 160, 96], seed=0, epochs=8, period=2)
    assert sides(schedule, 8) == [128, 128, 160, 160, 96, 96, 128, 128]
    assert schedule.largest == schedule.main == (160, 160)
    assert schedule.label == "multi_128_160_96_period2"


def test_sizes_of_a_list_may_repeat_and_are_validated_once():
    schedule = make_schedule("alternate", [224, 180, 224], seed=0, epochs=3)
    assert sides(schedule, 4) == [224, 180, 224, 224]
    assert schedule.training_sizes == ((224, 224), (180, 180))


def test_sizes_that_are_not_square():
    schedule = make_schedule("alternate", [[224, 320], [180, 180], (90, 512)], seed=0, epochs=3)
    assert [schedule.at(epoch) for epoch in range(3)] == [(224, 320), (180, 180), (90, 512)]
    assert schedule.largest == (224, 320)
    assert schedule.label == "multi_224x320_180_90x512"


def test_random_epoch_is_uniform_over_the_papers_range_with_both_ends():
    schedule = make_schedule("random_epoch", [180, 224], seed=1, epochs=70)
    counts = Counter(sides(schedule, 45_000))
    assert sorted(counts) == list(range(180, 225))
    # 45 sizes, 1000 expected of each: chi-square with 44 degrees of freedom is below 78.7 with probability
    # .999
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 78.7
    assert schedule.at(3, 0) == schedule.at(3, 1) == schedule.at(3, 500)
    assert schedule.label == "random_180_224"
    assert schedule.training_sizes == ((180, 180), (224, 224))


def test_an_epochs_size_is_that_of_its_first_step():
    schedule = make_schedule("random_batch", [128, 224], seed=0, epochs=8, step=32)
    assert [schedule.at(epoch) for epoch in range(8)] == [schedule.at(epoch, 0) for epoch in range(8)]
    assert [schedule.at(epoch) for epoch in range(8)] != [schedule.at(epoch, 1) for epoch in range(8)]


def test_random_batch_changes_with_the_step():
    schedule = make_schedule("random_batch", [128, 224], seed=0, epochs=2, step=32)
    counts = Counter(schedule.at(0, step)[0] for step in range(4000))
    assert sorted(counts) == [128, 160, 192, 224]
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 16.3  # 3 degrees of freedom, .999
    assert schedule.changes_within_epoch
    assert [schedule.at(0, step) for step in range(20)] != [schedule.at(1, step) for step in range(20)]
    assert schedule.label == "random_batch_128_224_step32"


def test_random_sizes_depend_on_the_seed_and_0_is_a_seed():
    drawn = [sides(make_schedule("random_epoch", [180, 224], seed=seed, epochs=70), 20) for seed in (0, 1, 2)]
    assert drawn[0] != drawn[1] != drawn[2]


def test_random_sizes_are_the_same_on_every_machine():
    # Written down once: a change here breaks the resuming of old runs.
    schedule = make_schedule("random_epoch", [180, 224], seed=0, epochs=70)
    assert sides(schedule, 8) == [198, 196, 207, 210, 213, 222, 188, 201]


@pytest.mark.parametrize(
    ("epochs", "step", "expected"),
    [
        (8, 32, [128, 128, 160, 160, 192, 192, 224, 224]),
        (4, 32, [128, 160, 192, 224]),
        (1, 32, [224]),
        (2, 32, [128, 224]),
        (8, 1, [128, 144, 160, 176, 192, 208, 224, 224]),
        (100, 96, [128] * 75 + [224] * 25),
    ],
)
def test_progressive_grows_evenly_and_ends_with_a_quarter_at_the_largest(epochs, step, expected):
    schedule = make_schedule("progressive", [128, 224], seed=0, epochs=epochs, step=step)
    assert sides(schedule, epochs) == expected
    assert schedule.at(epochs + 5) == (224, 224)


def test_ranges_that_are_not_square_keep_both_sides_in_pace():
    schedule = make_schedule("progressive", [[100, 150], [140, 210]], seed=0, epochs=8, step=10)
    assert [schedule.at(epoch) for epoch in range(8)] == [
        (100, 150), (100, 150), (110, 165), (120, 180), (120, 180), (130, 195), (140, 210), (140, 210),
    ]  # fmt: skip
    assert schedule.label == "progressive_100x150_140x210_step10"


def test_pixel_budget():
    assert batch_size_at(128, (224, 224), (224, 224)) == 128
    assert batch_size_at(128, (180, 180), (224, 224)) == 198  # 128 * 50176 / 32400 = 198.2
    assert batch_size_at(10, (112, 112), (224, 224)) == 40
    assert batch_size_at(3, (112, 224), (224, 224)) == 6


def test_as_size_and_label():
    assert as_size(224) == (224, 224)
    assert as_size([180, 240]) == (180, 240)
    assert size_label((224, 224)) == "224"
    assert size_label((180, 240)) == "180x240"


@pytest.mark.parametrize(
    "value", [0, -1, True, "224", 2.5, [224], [1, 2, 3], [224, 0], [224, "x"], None, [1, True]]
)
def test_as_size_refuses(value):
    with pytest.raises(ConfigError, match=r"^here=.*positive integer"):
        as_size(value, "here")


@pytest.mark.parametrize(
    ("kind", "sizes", "more", "message"),
    [
        ("other", 224, {}, r"sizes\.kind='other': choose from single, alternate"),
        ("single", [224, 180], {}, r"sizes\.sizes=\[224, 180\]: .*one size"),
        ("single", [], {}, r"sizes\.sizes=\[\]"),
        ("single", "224", {}, r"sizes\.sizes='224'"),
        ("single", 0, {}, r"sizes\.sizes=0"),
        ("alternate", [224], {}, r"sizes\.sizes=\[224\]: .*two sizes"),
        ("alternate", [224, 180], {"period": 0}, r"sizes\.period=0"),
        ("alternate", [224, 180], {"step": 2}, r"sizes\.step=2"),
        ("single", 224, {"period": 2}, r"sizes\.period=2"),
        ("random_epoch", [224, 180], {}, r"sizes\.sizes=\[224, 180\]: .*low below high"),
        ("random_epoch", [180, 180], {}, r"sizes\.sizes=\[180, 180\]"),
        ("random_batch", [180, 200, 224], {}, r"sizes\.sizes="),
        ("random_batch", [180, 224], {"step": 32}, r"sizes\.step=32: must divide high - low = 44"),
        ("random_batch", [180, 224], {"step": 0}, r"sizes\.step=0"),
        ("progressive", [128, 224], {"epochs": 0}, r"epochs=0"),
        ("progressive", [[128, 224], [224, 180]], {}, r"sizes\.sizes=\[\[128, 224\], \[224, 180\]\]"),
    ],
)
def test_bad_schedules_are_refused_by_key(kind, sizes, more, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make_schedule(kind, sizes, **{"seed": 0, "epochs": 10, **more})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "sizes", "epochs", "period", "missing"),
    [
        ("alternate", [224, 180], 1, 1, ((180, 180),)),
        ("alternate", [224, 180], 2, 1, ()),
        ("alternate", [224, 180, 128], 4, 2, ((128, 128),)),
        ("alternate", [224, 180, 128], 5, 2, ()),
        ("progressive", [128, 224], 1, 1, ((128, 128),)),
        ("progressive", [128, 224], 4, 1, ()),
        ("random_epoch", [180, 224], 1, 1, ()),
        ("single", [224], 1, 1, ()),
    ],
)
def test_sizes_that_a_short_run_does_not_come_to(
    kind: str, sizes: list[int], epochs: int, period: int, missing: tuple[tuple[int, int], ...]
) -> None:
    assert make_schedule(kind, sizes, seed=0, epochs=epochs, period=period).never_used == missing
