"""Grey of more than 8 bits: the right 8 bits, or one line before work begins; never lost contrast in silence."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_files import tiff

import sppcls
from sppcls.data import FileSource, build_sources, set_pixel_range, trained_pixel_range
from sppcls.data.cache import open_cache
from sppcls.data.decode import check_header, decode
from sppcls.data.pixel_range import as_pixel_range, own_range, to_8_bits
from sppcls.data.transforms import EvalTransform
from sppcls.errors import ConfigError, ImageError

V16 = np.array([[0, 257, 4095], [65535, 30000, 2048]], np.uint16)


def png(values):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def grey(data, pixel_range="full"):
    image = decode(data, pixel_range=pixel_range).numpy()
    assert (image == image[:1]).all()
    return image[0]


def by_hand(values, low, high):
    """One value at a time, in Python's own numbers."""
    rows = []
    for row in values.tolist():
        shares = [(min(max(v, low), high) - low) / (high - low) if v == v else 0.0 for v in row]
        rows.append([round(255 * share) for share in shares])
    return np.array(rows)


@pytest.mark.parametrize("write", [png, lambda v: tiff(v, bits=16), lambda v: tiff(v, bits=16, order=">"),
                                   lambda v: tiff(v, bits=16, big=True)], ids=["png", "tiff", "big-endian", "BigTIFF"])  # fmt: skip
@pytest.mark.parametrize(
    ("pixel_range", "low", "high"),
    [("full", 0, 65535), ((0, 4095), 0, 4095), ((1000, 40000), 1000, 40000), ("image", 0, 65535)],
)
def test_16_bits_become_8(write, pixel_range, low, high):
    assert (grey(write(V16), pixel_range) == by_hand(V16, low, high)).all()


def test_12_bits_in_16_keep_their_contrast():
    x_ray = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    assert grey(png(x_ray)).max() == 16  # what was lost
    assert len(np.unique(grey(png(x_ray), (0, 4095)))) == 256
    assert len(np.unique(grey(png(x_ray), "image"))) == 256


def test_packed_12_bits_have_a_white_of_their_own():
    packed = np.array([[0x80, 0x0F, 0xFF]], np.uint8)  # 0x800 and 0xFFF
    data = tiff(packed, bits=12).replace(
        (256).to_bytes(2, "little") + b"\x04\0\1\0\0\0\3\0\0\0", (256).to_bytes(2, "little") + b"\x04\0\1\0\0\0\2\0\0\0"
    )  # fmt: skip
    assert grey(data).tolist() == [[128, 255]]


def test_white_is_zero():
    assert (grey(tiff(V16, bits=16, photometric=0)) == 255 - by_hand(V16, 0, 65535)).all()
    floats = np.array([[0.0, 0.25, 1.0]], np.float32)
    data = tiff(floats, bits=32, sample_format=3, photometric=0)
    assert grey(data, (0, 1)).tolist() == [[255, 191, 0]]


@pytest.mark.parametrize(
    ("values", "sample_format", "pixel_range", "low", "high"),
    [
        (np.array([[0, 0.5, 1], [-3, 9, math.nan]], np.float32), 3, (0, 1), 0, 1),
        (np.array([[2, 2.5, 3], [math.nan, 2.25, 2]], np.float32), 3, "image", 2, 3),
        (np.array([[0, 7, 2**31], [4_000_000_000, 5, 9]], np.uint32), 1, (0, 4e9), 0, 4e9),
        (np.array([[-(2**31), 7, 2**31 - 1]], np.int32), 2, "image", -(2**31), 2**31 - 1),
    ],
)
def test_32_bits_take_a_range(values, sample_format, pixel_range, low, high):
    data = tiff(values, bits=32, sample_format=sample_format)
    assert (grey(data, pixel_range) == by_hand(values, low, high)).all()
    with pytest.raises(ImageError, match=r"data\.pixel_range=\[black,white\]"):
        decode(data)


def test_signed_16_bits_take_a_range():
    hounsfield = np.array([[-1000, 0, 1000]], np.int16)
    assert grey(tiff(hounsfield, bits=16, sample_format=2), (-1000, 1000)).tolist() == [[0, 128, 255]]
    with pytest.raises(ImageError, match="signed 16-bit whole numbers"):
        decode(tiff(hounsfield, bits=16, sample_format=2))


def test_not_finite_and_constant_images():
    odd = np.array([[math.nan, math.inf, -math.inf, 1.0]], np.float32)
    assert grey(tiff(odd, bits=32, sample_format=3), (0, 2)).tolist() == [[0, 255, 0, 128]]
    for value in (0.0, 5.0, 1e30, math.nan):
        flat = np.full((2, 3), value, np.float32)
        assert not grey(tiff(flat, bits=32, sample_format=3), "image").any()


def test_pfm_and_pgm():
    pfm = b"Pf\n3 1\n-1.0\n" + np.array([0, 0.5, 1], "<f4").tobytes()
    assert grey(pfm, (0, 1)).tolist() == [[0, 128, 255]]
    with pytest.raises(ImageError, match="floating-point"):
        decode(pfm)
    pgm = b"P5\n3 1\n4095\n" + np.array([0, 2048, 4095], ">u2").tobytes()  # says itself what is white
    assert grey(pgm).tolist() == [[0, 128, 255]]


def test_8_bits_are_left_alone():
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for pixel_range in ("full", "image", (0, 4095)):
        assert (grey(png(values), pixel_range) == values).all()


def test_colours_of_16_bits_are_not_scaled_in_silence():
    colours = np.full((1, 2, 3), 200 * 257, np.uint16)
    data = tiff(colours, bits=16, photometric=2)
    assert decode(data)[:, 0, 0].tolist() == [200, 200, 200]
    with pytest.raises(ImageError, match="colours of 16 bits"):
        decode(data, pixel_range=(0, 4095))


def test_a_transparent_grey_value_is_white():
    buffer = io.BytesIO()
    Image.fromarray(V16).save(buffer, "PNG", transparency=257)
    assert grey(buffer.getvalue()).tolist() == [[0, 255, 16], [255, 117, 8]]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.floats(-1e5, 1e5),
    st.floats(1e-3, 1e5),
)
@example([0.0], 0.0, 1.0)
def test_scaling_is_linear_clipped_and_rounded(numbers, low, width):
    values = np.array([numbers], np.float32)
    got = to_8_bits(values, low, low + width).astype(int)
    assert np.abs(got - by_hand(values, low, low + width)).max() <= 1
    assert (np.diff(got[0][np.argsort(values[0])]) >= 0).all()


def test_own_range():
    assert own_range(np.array([[3, 9]], np.uint16)) == (3, 9)
    low, high = own_range(np.array([[7, 7]], np.int32))
    assert low == 7 < high


@pytest.mark.parametrize("value", ["Full", "", None, 4095, [4095], [0, 1, 2], [5, 5], [9, 1], ["a", 1], [0, math.inf],
                                   [True, 2], {"low": 0}])  # fmt: skip
def test_what_is_no_range(value):
    with pytest.raises(ConfigError, match=r"data\.pixel_range=.*must be full, image or \[black, white\]"):
        as_pixel_range(value)


def test_the_config_takes_it():
    words = ["data=folder", "data.root=x", "data.pixel_range=[0,4095]"]
    assert as_pixel_range(sppcls.compose(words).data.pixel_range) == (0, 4095)
    assert sppcls.compose(words[:2]).data.pixel_range == "full"
    with pytest.raises(ConfigError, match=r"data\.pixel_range=\[4095, 0\]: must be full"):
        sppcls.compose([*words[:2], "data.pixel_range=[4095,0]"])


def test_old_checkpoints_have_full():
    assert trained_pixel_range({"config": {"data": {"name": "folder"}}}) == "full"
    assert trained_pixel_range({"config": {"data": {"pixel_range": [0, 4095]}}}) == (0, 4095)


def x_rays(root, count=6):
    """Two classes of 12-bit images in 16-bit PNG files, whose levels are known."""
    for split in ("train", "val"):
        for name in ("clear", "dense"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                values = np.full((40, 40), 800 if name == "clear" else 3200, np.uint16) + number
                (root / split / name / f"{number}.png").write_bytes(png(values))
    return root


def test_sources_and_cache_use_it(tmp_path):
    root = x_rays(tmp_path / "photos")
    train = build_sources("folder", root).train
    assert isinstance(train, FileSource)
    caches = []
    for pixel_range, level in (("full", 3), ((0, 4095), 50)):
        set_pixel_range(pixel_range, train)
        assert int(train.image(0)[0, 0, 0]) == level
        # The same name: what the images were made of must tell.
        caches.append(open_cache(train, EvalTransform((32, 32)), [tmp_path / "cache"], "train"))
        assert int(caches[-1].read(0)[0][0, 0, 0]) == level


def test_header_check_and_decode_agree_on_a_range(tmp_path):
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(np.ones((2, 2), np.float32), bits=32, sample_format=3))
    assert "floating-point" in (check_header(path) or "")
    assert check_header(path, pixel_range=(0, 1)) is None
