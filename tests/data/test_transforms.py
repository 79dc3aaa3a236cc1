"""The paper's crop geometry on images whose pixels say where they are; batches against numpy."""

from __future__ import annotations

import math
import random
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as V

from sppcls.data.geometry import cut, offset_at, random_resized_box, resize, resized_size
from sppcls.data.transforms import (
    EvalTransform,
    TrainTransform,
    _empty_like,
    lighting_offset,
    prepare_batch,
)
from sppcls.errors import ConfigError

REGION = (224, 224)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def ruler(height, width):
    """uint8 (3, H, W): red grows from 0 to 250 with x, green with y; blue is 250 - red."""
    x = torch.arange(width).add(0.5).mul(250 / width).expand(height, width)
    y = torch.arange(height).add(0.5).mul(250 / height)[:, None].expand(height, width)
    return torch.stack([x, y, 250 - x]).round().to(torch.uint8)


def seen(region):
    """(top, left, bottom, right) that a region of a ruler shows, as fractions of the whole image."""
    left, right = (region[0][:, column].float().mean().item() / 250 for column in (0, -1))
    top, bottom = (region[1][row].float().mean().item() / 250 for row in (0, -1))
    return top, left, bottom, right


def noise(height, width, seed=0):
    """A picture with detail at every scale."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(3, height, width)
    for cells in (3, 9, 27, 81):
        coarse = torch.rand(1, 3, cells, cells, generator=generator)
        image += F.interpolate(coarse, (height, width), mode="bilinear")[0] / 4
    return (image * 255).to(torch.uint8)


def resize_then_crop(image, whole, top, left, region):
    """The definition, in float."""
    full = F.interpolate(image[None].float(), whole, mode="bilinear", antialias=True)[0]
    return full[:, top : top + region[0], left : left + region[1]]


# --- where the region lies


@pytest.mark.parametrize(
    ("height", "width", "whole"),
    [
        (256, 256, (256, 256)),
        (300, 400, (256, 341)),
        (400, 300, (341, 256)),
        (100, 50, (512, 256)),
        (1, 3, (256, 768)),
    ],
)
def test_shorter_side_becomes_256(height, width, whole):
    assert resized_size(height, width, 256, REGION) == whole


def test_a_region_wider_than_the_image_is_still_covered():
    assert resized_size(256, 256, 256, (224, 320)) == (320, 320)
    assert resized_size(500, 100, 206, (320, 180)) == (1030, 206)


def test_corners_are_those_of_the_whole_image_not_of_the_central_square():
    corners = ("top_left", "top_right", "bottom_left", "bottom_right", "center")
    assert [offset_at(position, (256, 341), REGION) for position in corners] == [
        (0, 0), (0, 117), (32, 0), (32, 117), (16, 58),
    ]  # fmt: skip
    transform = TrainTransform(REGION, flip=False, lighting=0)
    views = Counter(
        tuple(round(edge, 1) for edge in seen(transform(ruler(300, 400), seed)[0])) for seed in range(400)
    )
    # 224 of 341 pixels is 0.66 of the width, 224 of 256 is 0.88 of the height.
    assert set(views) == {
        (0.0, 0.0, 0.9, 0.7), (0.0, 0.3, 0.9, 1.0), (0.1, 0.0, 1.0, 0.7), (0.1, 0.3, 1.0, 1.0),
        (0.1, 0.2, 0.9, 0.8),
    }  # fmt: skip
    # Chi-square with 4 degrees of freedom is below 18.5 with probability .999.
    assert sum((count - 80) ** 2 / 80 for count in views.values()) < 18.5


@pytest.mark.parametrize(("height", "width"), [(300, 400), (500, 333), (256, 256), (224, 1000), (60, 80)])
def test_exact_extent_of_every_position(height, width):
    """Edges of each region against arithmetic, to half a pixel and one grey level (1/250 of the image)."""
    image, whole = ruler(height, width), resized_size(height, width, 256, REGION)
    for position in ("center", "top_left", "top_right", "bottom_left", "bottom_right"):
        top, left = offset_at(position, whole, REGION)
        edges = (
            (top + 0.5) / whole[0],
            (left + 0.5) / whole[1],
            (top + 223.5) / whole[0],
            (left + 223.5) / whole[1],
        )
        for got, expected in zip(seen(cut(image, whole, top, left, REGION)), edges, strict=True):
            assert got == pytest.approx(expected, abs=1.1 / 250 + 0.5 * max(1 / height, 1 / width))


def test_anywhere_reaches_every_offset_of_the_whole_image():
    transform = TrainTransform((2, 2), crop="anywhere", shorter_side=4, flip=False, lighting=0)
    image = torch.arange(24, dtype=torch.uint8).view(1, 4, 6).expand(3, 4, 6)
    firsts = Counter(int(transform(image, seed)[0][0, 0, 0]) for seed in range(3000))
    assert set(firsts) == {6 * y + x for y in range(3) for x in range(5)}
    assert sum((count - 200) ** 2 / 200 for count in firsts.values()) < 36.1  # 14 degrees of freedom, .999


def test_center_of_an_image_of_the_right_size_is_a_plain_crop():
    image = noise(256, 300)
    expected = image[:, 16:240, 38:262]
    assert torch.equal(EvalTransform(REGION)(image), expected)
    region, _ = TrainTransform(REGION, crop="center", flip=False, lighting=0)(image, 3)
    assert torch.equal(region, expected)


def test_flip_mirrors_half_of_the_images():
    transform = TrainTransform(REGION, crop="center", lighting=0)
    image = noise(256, 256)
    plain = EvalTransform(REGION)(image)
    flipped = 0
    for seed in range(400):
        region, _ = transform(image, seed)
        mirrored = torch.equal(region, plain.flip(-1))
        assert mirrored or torch.equal(region, plain)
        flipped += mirrored
    assert 150 < flipped < 250


def test_the_180_image_is_the_224_region_resized():
    region = EvalTransform(REGION)(ruler(300, 400))
    small = prepare_batch(region[None], (180, 180), (0.0,) * 3, (1.0,) * 3)[0] * 255
    for got, expected in zip(seen(small), seen(region), strict=True):
        assert got == pytest.approx(expected, abs=1.5 / 250)


# --- cutting first is the same as resizing first


@given(
    height=st.integers(20, 700),
    width=st.integers(20, 700),
    region=st.sampled_from([(224, 224), (96, 160), (64, 32)]),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(deadline=None, max_examples=60)
def test_cut_equals_resize_then_crop(height, width, region, where):
    whole = resized_size(height, width, 256, region)
    top, left = (round(w * (a - b)) for w, a, b in zip(where, whole, region, strict=True))
    # An image that says where each of its pixels comes to lie: x and y in pixels of the resized image.
    y = (torch.arange(height) + 0.5) * (whole[0] / height) - 0.5
    x = (torch.arange(width) + 0.5) * (whole[1] / width) - 0.5
    image = torch.stack([y[:, None].expand(-1, width), x.expand(height, -1), torch.zeros(height, width)])
    got = cut(image, whole, top, left, region)
    assert got.shape == (3, *region)
    rows = got[0] - (top + torch.arange(region[0]))[:, None]
    columns = got[1] - (left + torch.arange(region[1]))
    # At the image's border interpolation repeats the outermost pixel: there a ramp is flat, with any resize.
    flat_y, flat_x = whole[0] / height, whole[1] / width
    inside_y = (y[0] + flat_y <= got[0]) & (got[0] <= y[-1] - flat_y)
    inside_x = (x[0] + flat_x <= got[1]) & (got[1] <= x[-1] - flat_x)
    assert rows[inside_y].abs().max() <= 0.51
    assert columns[inside_x].abs().max() <= 0.51


@pytest.mark.parametrize("shape", [(253, 253), (500, 375), (61, 90), (256, 700)])
def test_cut_shows_what_resize_then_crop_shows(shape):
    image = noise(*shape)
    whole = resized_size(*shape, 256, REGION)
    top, left = (w - r - 5 for w, r in zip(whole, REGION, strict=True))
    exact = resize_then_crop(image, whole, top, left, REGION)
    off_by_two = resize_then_crop(image, whole, top - 2, left - 2, REGION)
    difference = (cut(image, whole, top, left, REGION).float() - exact).abs().mean()
    assert difference < 0.5 * (off_by_two - exact).abs().mean()


def test_cut_is_exact_at_the_corners_and_without_resizing():
    image = noise(300, 450)
    whole = resized_size(300, 450, 256, REGION)
    for position in ("top_left", "bottom_right"):
        top, left = offset_at(position, whole, REGION)
        # Far from the cut the two agree to rounding (vertical and horizontal passes round one after the
        # other).
        difference = (
            cut(image, whole, top, left, REGION).float() - resize_then_crop(image, whole, top, left, REGION)
        ).abs()
        assert difference.mean() < 0.5
    assert torch.equal(cut(image, (300, 450), 31, 77, REGION), image[:, 31:255, 77:301])


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 20_000), (300, 20_000), (1, 1), (2, 3)])
@pytest.mark.parametrize("crop", ["five", "anywhere", "center", "resized"])
def test_extreme_shapes_in_bounded_memory(shape, crop):
    image = ruler(*shape)
    transform = TrainTransform(REGION, crop=crop)
    tracemalloc.start()
    for seed in range(10):
        assert transform(image, seed)[0].shape == (3, *REGION)
    assert EvalTransform(REGION)(image).shape == (3, *REGION)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # Python's side; torch's would fail outright on 256 x 5,120,000 x 3


def test_strips_are_never_resized_whole(monkeypatch):
    """The largest tensor that resizing makes from a 1 x 20000 strip is a few regions, not 3.9 GB."""
    largest = []
    from sppcls.data import geometry

    resize = geometry.F.resize
    monkeypatch.setattr(
        geometry.F, "resize", lambda x, size, **k: largest.append(size[0] * size[1]) or resize(x, size, **k)
    )
    for shape in [(1, 20_000), (20_000, 1)]:
        for seed in range(20):
            TrainTransform(REGION, crop="anywhere")(ruler(*shape), seed)
    assert max(largest) < 256 * 256 * 36


def test_images_smaller_than_the_region_are_enlarged():
    region = EvalTransform(REGION)(ruler(8, 8))
    top, left, _, right = seen(region)
    assert top == pytest.approx(left, abs=0.01)
    assert (left, right) == (
        pytest.approx(1 / 16 + 1 / 512, abs=0.02),
        pytest.approx(15 / 16 - 1 / 512, abs=0.02),
    )


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)), size=st.tuples(st.integers(2, 90), st.integers(2, 90)),
    margin=st.integers(0, 3),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_resize_is_torchvisions_in_any_layout(shape, size, margin):
    channels_first = noise(shape[0] + margin, shape[1] + margin)
    channels_last = channels_first.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert channels_last.stride(0) == 1
    expected = V.resize(channels_first[:, margin:, margin:], list(size), antialias=True)
    assert torch.equal(resize(channels_first[:, margin:, margin:], size), expected)
    got = resize(channels_last[:, margin:, margin:], size)
    assert torch.equal(got, expected)
    if min(shape) > 1:  # else layouts cannot be told apart
        assert got.permute(1, 2, 0).is_contiguous()  # so that a batch is a copy of bytes


# --- RandomResizedCrop


@given(
    height=st.integers(1, 400), width=st.integers(1, 400), seed=st.integers(0, 10_000),
    region=st.sampled_from([(224, 224), (100, 200)]),
)  # fmt: skip
@settings(deadline=None, max_examples=300)
def test_random_boxes_lie_inside(height, width, seed, region):
    top, left, h, w = random_resized_box(
        height, width, region, (0.08, 1), (3 / 4, 4 / 3), random.Random(seed)
    )
    assert top >= 0
    assert left >= 0
    assert 0 < h <= height - top
    assert 0 < w <= width - left
    if min(height, width) > 100:
        relative = (w / h) / (region[1] / region[0])
        assert 0.72 < relative < 1.39
        assert h * w / (height * width) > 0.07


def test_random_boxes_have_the_distribution_asked_for():
    boxes = [
        random_resized_box(1000, 1000, REGION, (0.2, 0.4), (0.5, 2), random.Random(seed))
        for seed in range(2000)
    ]
    share = np.array([h * w / 1e6 for *_, h, w in boxes])
    aspect = np.log([w / h for *_, h, w in boxes])
    assert share.min() > 0.199
    assert share.max() < 0.401
    assert abs(share.mean() - 0.3) < 0.005
    assert abs(aspect.mean()) < 0.03
    assert np.abs(aspect).max() < math.log(2.02)


# --- lighting and extras


def test_lighting_against_numpy():
    values, vectors = (
        np.array([0.2175, 0.0188, 0.0045]),
        np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]),
    )
    alphas = [0.1, -0.2, 0.05]
    expected = sum(vectors[:, i] * values[i] * alphas[i] for i in range(3))
    np.testing.assert_allclose(lighting_offset(alphas).numpy(), expected, rtol=1e-5)
    # The components are orthonormal, red, green and blue nearly alike in the first.
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)


def test_lighting_has_the_papers_spread():
    transform = TrainTransform((8, 8), crop="center", flip=False)
    image = ruler(8, 8)
    offsets = torch.stack([transform(image, seed)[1] for seed in range(3000)])
    assert offsets.mean(0).abs().max() < 0.002
    # red: sqrt(sum over components of (vector * value)^2) * 0.1
    assert offsets[:, 0].std().item() == pytest.approx(
        0.1 * math.hypot(0.5675 * 0.2175, 0.7192 * 0.0188, 0.4009 * 0.0045), rel=0.05
    )
    assert not TrainTransform((8, 8), lighting=0)(image, 0)[1].any()


@pytest.mark.parametrize("crop", ["five", "anywhere", "center", "resized"])
def test_all_randomness_comes_from_the_seed(crop):
    transform = TrainTransform((64, 64), crop=crop, trivial_augment=True, erasing=0.5)
    image = noise(90, 130)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = [transform(image, seed) for seed in range(20)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    random.seed(1)
    for (a, b), seed in zip(first, range(20), strict=True):
        again = transform(image, seed)
        assert torch.equal(a, again[0])
        assert torch.equal(b, again[1])
    assert len({a.numpy().tobytes() for a, _ in first}) > 15
    assert all(a.dtype == torch.uint8 and a.shape == (3, 64, 64) for a, _ in first)


@pytest.mark.parametrize("options", [{"rand_augment": 9}, {"augmix": 3}], ids=str)
def test_rand_augment_and_augmix_are_torchvisions_with_the_seed_of_the_image(options):
    kinds = {"rand_augment": lambda m: v2.RandAugment(magnitude=m), "augmix": lambda m: v2.AugMix(severity=m)}
    ((name, strength),) = options.items()
    plain = TrainTransform((64, 64), crop="anywhere")
    augmented = TrainTransform((64, 64), crop="anywhere", **options)
    image = noise(90, 130)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    found = [augmented(image, seed)[0] for seed in range(10)]
    assert torch.equal(torch.get_rng_state(), state)
    for seed, region in enumerate(found):
        random.seed(seed + 1)
        torch.manual_seed(seed)
        assert torch.equal(region, kinds[name](strength)(plain(image, seed)[0]))
        assert torch.equal(region, augmented(image, seed)[0])
    assert len({region.numpy().tobytes() for region in found}) > 7


def test_erasing_paints_a_rectangle_grey():
    white = torch.full((3, 64, 64), 255, dtype=torch.uint8)
    region, _ = TrainTransform((64, 64), shorter_side=64, erasing=1.0)(white, 0)
    grey = (region == torch.tensor([124, 116, 104], dtype=torch.uint8)[:, None, None]).all(0)
    assert 0 < grey.sum() < 64 * 64
    assert (region[:, ~grey] == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "middle"}, r"augment\.crop='middle': choose from five, anywhere, center, resized"),
        ({"lighting": -1}, r"augment\.lighting=-1"),
        ({"erasing": 1.5}, r"augment\.erasing=1\.5"),
        ({"scale": (0, 1)}, r"augment\.scale=\[0, 1\]"),
        ({"scale": (0.5, 0.2)}, r"augment\.scale"),
        ({"ratio": (2, 1)}, r"augment\.ratio=\[2, 1\]"),
        ({"shorter_side": 200}, r"augment\.shorter_side=200: at least the region's 224"),
    ],
)
def test_impossible_options_are_refused_by_key(options, message):
    with pytest.raises(ConfigError, match=message):
        TrainTransform(REGION, **options)


# --- the batch


@pytest.mark.parametrize("count", [1, 3, 4, 11])
@pytest.mark.parametrize("lit", [True, False])
def test_prepare_batch_against_numpy(count, lit):
    image = torch.stack([noise(32, 32, seed) for seed in range(11)])[:count]
    lighting = torch.linspace(-0.1, 0.1, 3 * count).view(count, 3) if lit else torch.zeros(count, 3)
    got = prepare_batch(image, (32, 32), MEAN, STD, lighting if lit else None)
    mean, std = (np.array(v).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    expected = (image.numpy() / 255.0 + lighting.numpy()[:, :, None, None] - mean) / std
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)
    assert got.dtype == torch.float32
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert image.dtype == torch.uint8  # the batch itself is left alone


def test_prepare_batch_writes_to_what_it_returns_whatever_the_layout_on_a_gpu():
    image = torch.empty(2, 3, 20, 30, dtype=torch.uint8, device="meta")  # as a resize might leave it
    rows = _empty_like(image).permute(0, 2, 3, 1)
    assert rows.is_contiguous(), "else flattening copies, and nothing is written to the result"


def test_prepare_batch_resizes_like_each_image_alone():
    image = torch.stack([noise(224, 224, seed) for seed in range(2)])
    got = prepare_batch(image, (180, 180), (0.0,) * 3, (1 / 255,) * 3)
    expected = torch.stack([V.resize(one, [180, 180], antialias=True) for one in image])
    assert (got - expected.float()).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("region", "size", "visible"),
    [
        ((224, 224), (112, 224), ((0.25, 0.75), (0, 1))),
        ((224, 320), (180, 180), ((0, 1), (0.15, 0.85))),
        ((224, 320), (112, 160), ((0, 1), (0, 1))),
    ],
)
def test_another_aspect_is_cut_centrally(region, size, visible):
    got = prepare_batch(ruler(*region)[None], size, (0.0,) * 3, (1 / 255,) * 3)[0]
    assert got.shape == (3, *size)
    top, left, bottom, right = seen(got)
    (y0, y1), (x0, x1) = visible
    half = 0.5 / min(size)
    assert (top, bottom) == (pytest.approx(y0 + half, abs=0.012), pytest.approx(y1 - half, abs=0.012))
    assert (left, right) == (pytest.approx(x0 + half, abs=0.012), pytest.approx(x1 - half, abs=0.012))
