"""The generated images: reproducible, varied, and never the same in both splits."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch

from sppcls.data.shapes import CLASSES, ShapesSource, _drawn
from sppcls.data.sources import build_sources
from sppcls.errors import ConfigError


def test_defaults():
    train, val, *_ = build_sources("shapes")
    assert (len(train), len(val)) == (2000, 500)
    assert train.classes == val.classes == CLASSES
    assert len(set(CLASSES)) == 20
    assert set(Counter(train.targets).values()) == {100}
    assert set(Counter(val.targets).values()) == {25}
    assert (
        len(build_sources("shapes", num_train=60, num_val=40)[0]),
        build_sources("shapes", num_val=40)[1].targets[-1],
    ) == (60, 19)


def test_an_image_is_a_function_of_seed_split_and_index():
    first, again = ShapesSource("train", 40), ShapesSource("train", 1000)
    torch.manual_seed(5)
    order = [7, 3, 39, 0]
    images = {index: first.image(index) for index in order}
    _drawn.cache_clear()
    for index in sorted(order):
        assert torch.equal(images[index], again.image(index))
    assert torch.equal(pickle.loads(pickle.dumps(first)).image(7), images[7])
    for other in (ShapesSource("val", 40), ShapesSource("train", 40, seed=1)):
        assert not any(torch.equal(images[index], other.image(index)) for index in order)


def test_an_image_is_the_callers_own():
    source = ShapesSource("val", 40)
    kept = source.image(3).clone()
    source.image(3).zero_()
    assert torch.equal(source.image(3), kept)
    _drawn.cache_clear()
    assert torch.equal(source.image(3), kept)
    assert source.image(3).stride() == (1, 3 * kept.shape[2], 3)  # as decoded images are laid out


def test_sizes_and_aspects_vary():
    source = ShapesSource("val", 200)
    shapes = [source.image(index).shape for index in range(200)]
    assert {shape[0] for shape in shapes} == {3}
    assert 200 <= min(min(shape[1:]) for shape in shapes) < 210
    assert 290 < max(min(shape[1:]) for shape in shapes) <= 300
    aspects = [shape[2] / shape[1] for shape in shapes]
    assert 0.59 < min(aspects) < 0.65
    assert 1.6 < max(aspects) < 1.71
    assert source.image(0).dtype == torch.uint8


def test_no_colour_belongs_to_a_class():
    """Mean colours of the classes differ less than images of one class do."""
    source = ShapesSource("train", 600)
    means = torch.stack([source.image(index).float().mean((1, 2)) for index in range(600)])
    targets = torch.tensor(source.targets)
    within = torch.stack([means[targets == c].std(0) for c in range(20)]).mean()
    between = torch.stack([means[targets == c].mean(0) for c in range(20)]).std(0).mean()
    assert between < within


def test_names_tell_split_number_and_class():
    assert ShapesSource("val", 40).name(3) == "val/00003 checks disc"


def test_too_few():
    with pytest.raises(ConfigError, match=r"data\.num_val=19: at least 20"):
        build_sources("shapes", num_val=19)
