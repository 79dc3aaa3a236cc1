"""The boxes of ``augment.crop=resized``, where each can be worked out by hand."""

from __future__ import annotations

import random

import pytest

from sppcls.data.geometry import Size, box_in_reduced, random_resized_box
from sppcls.data.transforms import TrainTransform
from sppcls.errors import ConfigError


def boxes(
    height: int, width: int, scale: float, ratio: float, region: Size = (100, 100), count: int = 200
) -> set[tuple[int, int, int, int]]:
    rng = random.Random(0)
    return {
        random_resized_box(height, width, region, (scale, scale), (ratio, ratio), rng) for _ in range(count)
    }


@pytest.mark.parametrize(
    ("region", "ratio", "sides"),
    [
        ((100, 100), 1.0, (500, 500)),
        ((100, 100), 2.0, (354, 707)),  # twice as wide as high, a quarter of the image
        ((100, 100), 0.5, (707, 354)),
        ((100, 200), 2.0, (250, 1000)),  # relative to the region
        ((200, 100), 2.0, (500, 500)),
    ],
)
def test_area_and_aspect(region: Size, ratio: float, sides: tuple[int, int]) -> None:
    found = boxes(1000, 1000, 0.25, ratio, region)
    assert {box[2:] for box in found} == {sides}


@pytest.mark.parametrize(("height", "width"), [(2, 3), (3, 2), (1, 4)])
def test_every_place_is_drawn(height: int, width: int) -> None:
    found = boxes(height, width, 1 / (height * width), 1.0)
    assert found == {(top, left, 1, 1) for top in range(height) for left in range(width)}


def test_a_box_as_high_or_as_wide_as_the_image_may_lie_anywhere() -> None:
    assert boxes(10, 20, 0.5, 1.0) == {(0, left, 10, 10) for left in range(11)}
    assert boxes(20, 10, 0.5, 1.0) == {(top, 0, 10, 10) for top in range(11)}


@pytest.mark.parametrize(
    ("height", "width", "scale", "ratio", "box"),
    [
        (100, 10, 1.0, 1.0, (45, 0, 10, 10)),
        (10, 100, 1.0, 1.0, (0, 45, 10, 10)),
        (100, 10, 1.0, 2.0, (47, 0, 5, 10)),
        (100, 10, 1.0, 0.5, (40, 0, 20, 10)),
        (10, 100, 1.0, 2.0, (0, 40, 10, 20)),
        (1, 100, 1.0, 200.0, (0, 0, 1, 100)),
        (100, 1, 1.0, 1 / 200, (0, 0, 100, 1)),
        (10, 10, 1e-6, 1.0, (0, 0, 10, 10)),  # less than a pixel
        (10, 10, 1e-3, 1000.0, (4, 0, 1, 10)),  # a box of no height
        (10, 10, 1e-3, 1 / 1000, (0, 4, 10, 1)),
    ],
)
def test_where_no_box_fits_it_is_the_largest_central_one(
    height: int, width: int, scale: float, ratio: float, box: tuple[int, int, int, int]
) -> None:
    assert boxes(height, width, scale, ratio, count=3) == {box}


@pytest.mark.parametrize(
    ("box", "size", "reduced", "expected"),
    [
        ((10, 20, 30, 40), (100, 200), (50, 100), (5, 10, 15, 20)),
        ((10, 20, 30, 40), (100, 200), (100, 50), (10, 5, 30, 10)),
        ((90, 190, 10, 10), (100, 200), (10, 20), (9, 19, 1, 1)),  # up to the last pixel
        ((99, 199, 1, 1), (100, 200), (10, 20), (9, 19, 1, 1)),  # nearest is behind the last one
        ((3, 7, 1, 1), (100, 200), (10, 20), (0, 1, 1, 1)),  # not empty
    ],
)
def test_a_box_in_the_reduced_image(
    box: tuple[int, int, int, int], size: Size, reduced: Size, expected: tuple[int, int, int, int]
) -> None:
    assert box_in_reduced(box, size, reduced) == expected


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.5, 0.5), (1.0, 1.0)), ((1.0, 1.0), (2.0, 2.0)), ((0.001, 1.0), (0.5, 3.0))]
)
def test_limits_may_be_equal(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    TrainTransform((8, 8), crop="resized", scale=scale, ratio=ratio)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (0.5, 0.4), (0.5, 1.01), (-0.1, 0.5), (0.5,)])
def test_a_share_of_the_area_is_one(scale: tuple[float, ...]) -> None:
    with pytest.raises(
        ConfigError, match=r"^augment\.scale=.*: give \[low, high\] with 0 < low <= high <= 1$"
    ):
        TrainTransform((8, 8), crop="resized", scale=scale)  # type: ignore[arg-type]


@pytest.mark.parametrize("ratio", [(0.0, 1.0), (2.0, 1.0), (1.0,)])
def test_a_range_of_aspects_is_one(ratio: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^augment\.ratio=.*: give \[low, high\] with 0 < low <= high$"):
        TrainTransform((8, 8), crop="resized", ratio=ratio)  # type: ignore[arg-type]
