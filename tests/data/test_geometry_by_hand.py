"""Figures of the geometry that were worked out by hand; changes of the code that other tests let pass."""

from __future__ import annotations

import pytest

from sppcls.data.geometry import box_in_reduced
from sppcls.data.transforms import TrainTransform


@pytest.mark.parametrize(
    ("box", "size", "reduced", "expected"),
    [
        # 400 x 600 at a half: all halved.
        ((100, 200, 60, 90), (400, 600), (200, 300), (50, 100, 30, 45)),
        # Each axis by its own factor: 400 to 100, 600 to 300.
        ((100, 200, 60, 90), (400, 600), (100, 300), (25, 100, 15, 45)),
        # A single pixel in the corner stays within the image, and one pixel large.
        ((399, 599, 1, 1), (400, 600), (100, 150), (99, 149, 1, 1)),
        # A line that vanishes between two pixels keeps one.
        ((10, 0, 1, 600), (400, 600), (40, 60), (1, 0, 1, 60)),
    ],
)
def test_a_box_in_a_reduced_image(
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    reduced: tuple[int, int],
    expected: tuple[int, int, int, int],
) -> None:
    assert box_in_reduced(box, size, reduced) == expected


def test_a_cache_holds_what_the_smallest_share_of_an_image_needs() -> None:
    # A quarter of an image of 448 x 448 is a region of 224 x 224.
    made = TrainTransform((224, 224), crop="resized", scale=(0.25, 1.0), ratio=(0.75, 4 / 3))
    assert made.cache_side == 448
