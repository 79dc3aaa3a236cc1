"""Every odd kind of image file: right colours, upright, or one line that says why not."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sppcls.data.decode import check_header, decode, read_image
from sppcls.errors import ImageError


def picture(height=24, width=40):
    """A smooth picture whose corners are black, red, green and yellow, with blue growing downwards."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    return (
        np.stack([255 * x / (width - 1), 255 * y / (height - 1), 128 * y / (height - 1)], -1)
        .round()
        .astype(np.uint8)
    )


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def as_array(tensor):
    assert tensor.dtype == torch.uint8
    assert tensor.ndim == 3
    assert tensor.shape[0] == 3
    return tensor.permute(1, 2, 0).numpy()


def assert_close(tensor, expected, tolerance=0):
    got = as_array(tensor)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= tolerance


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_kinds_are_exact(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert_close(decode(encoded(Image.fromarray(picture()), kind, **options)), picture())


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(progressive):
    data = encoded(Image.fromarray(picture()), "JPEG", quality=95, subsampling=0, progressive=progressive)
    assert_close(decode(data), picture(), 6)


def test_grayscale():
    grey = picture()[..., 0]
    expected = np.repeat(grey[..., None], 3, -1)
    assert_close(decode(encoded(Image.fromarray(grey), "PNG")), expected)
    assert_close(decode(encoded(Image.fromarray(grey), "JPEG", quality=95)), expected, 6)


def test_one_bit():
    bits = picture()[..., 0] > 127
    expected = np.where(bits[..., None], 255, 0).repeat(3, -1)
    for kind in ("PNG", "TIFF"):
        assert_close(decode(encoded(Image.fromarray(bits), kind)), expected)


def test_palette():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 200, 0, 0, 0, 100])
    image.putdata([0, 1, 2])
    colours = np.array([[[255, 0, 0], [0, 200, 0], [0, 0, 100]]])
    assert_close(decode(encoded(image, "PNG")), colours)
    assert_close(
        decode(encoded(image, "PNG", transparency=1)), np.array([[[255, 0, 0], [255, 255, 255], [0, 0, 100]]])
    )
    assert_close(decode(encoded(image, "GIF")), colours)


def test_transparency_is_composited_on_white():
    rgba = Image.new("RGBA", (4, 1))
    rgba.putdata([(100, 0, 0, 255), (100, 0, 0, 0), (100, 0, 0, 128), (0, 0, 0, 51)])
    half = round(100 * 128 / 255 + 255 * 127 / 255), round(255 * 127 / 255), round(255 * 127 / 255)
    expected = np.array([[[100, 0, 0], [255, 255, 255], half, [204, 204, 204]]])
    assert_close(decode(encoded(rgba, "PNG")), expected, 1)
    assert_close(decode(encoded(rgba, "WEBP", lossless=True, exact=True)), expected, 1)
    grey_alpha = Image.new("LA", (3, 1))
    grey_alpha.putdata([(50, 255), (50, 0), (0, 51)])
    assert_close(decode(encoded(grey_alpha, "PNG")), np.array([[[50] * 3, [255] * 3, [204] * 3]]), 1)
    keyed = Image.new("RGB", (2, 1))
    keyed.putdata([(1, 2, 3), (9, 8, 7)])
    assert_close(decode(encoded(keyed, "PNG", transparency=(1, 2, 3))), np.array([[[255] * 3, [9, 8, 7]]]))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled(kind):
    values = np.array([[0, 257, 128 * 257, 65535, 129, 128]], np.uint16)
    expected = np.array([[0, 1, 128, 255, 1, 0]]).repeat(3, 0).T[None]
    assert_close(decode(encoded(Image.fromarray(values), kind)), expected)


def test_16_bit_rgb_png():
    """Pillow cannot write one: made by hand."""
    row = b"\0" + struct.pack(">6H", 0, 128 * 257, 65535, 10 * 257, 20 * 257, 30 * 257)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    assert_close(decode(data), np.array([[[0, 128, 255], [10, 20, 30]]]))


def test_cmyk_jpeg_has_the_right_colours():
    image = Image.fromarray(picture()).convert("CMYK")
    data = encoded(image, "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert_close(decode(data), picture(), 12)


# What a viewer must do with a file of each EXIF orientation, from the EXIF standard: where row 0 and column 0
# lie.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(Image.fromarray(picture()), kind, exif=exif, **options)
    assert_close(decode(data), UPRIGHT[orientation](picture()), 8 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(kind):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert_close(decode(data), np.array([255, 0, 0]) * np.ones((6, 8, 1), int))


def test_multi_picture_jpeg():
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95, subsampling=0)
    assert_close(decode(data), picture(), 6)


def one_line(error):
    assert "\n" not in str(error)


def noisy():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.1])
def test_truncated(kind, share):
    data = encoded(noisy(), kind)
    with pytest.raises(ImageError) as caught:
        decode(data[: int(len(data) * share)])
    one_line(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"just text, no picture\n" * 20, "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    ],
)
def test_not_images(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        decode(data)
    one_line(caught.value)


def bomb(width, height):
    """The header of a PNG of any size, with hardly any data."""
    good = encoded(Image.new("L", (1, 1)), "PNG")
    header = struct.pack(">II", width, height) + good[24:29]
    return good[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + good[33:]


@pytest.mark.parametrize("side", [1001, 20_000, 60_000])
def test_bombs_are_refused_by_their_header(side, tmp_path):
    with pytest.raises(ImageError, match="1,000,000 pixels allowed"):
        decode(bomb(side, side), max_pixels=1_000_000)
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    assert "1,000,000 pixels allowed" in (check_header(tmp_path / "bomb.png", 1_000_000) or "")
    assert decode(encoded(Image.new("RGB", (1000, 1000)), "PNG"), max_pixels=1_000_000).shape == (
        3,
        1000,
        1000,
    )


def test_broken_pngs_do_not_end_the_process():
    """torchvision.io.decode_image dies of a segmentation fault on some of these."""
    data = encoded(noisy(), "PNG")
    idat = data.index(b"IDAT")
    bad_crc = bytearray(data)
    bad_crc[idat + 40] ^= 0xFF
    short = bomb(64, 640)
    for broken in (bytes(bad_crc), short, data[: idat + 4], data[:-60]):
        with pytest.raises(ImageError):
            decode(broken + b"\0" * 3)
    assert decode(data[:-12]).shape == (3, 64, 64)  # all pixels are there, only the end mark is not


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_random_damage_gives_an_image_or_an_image_error(kind):
    rng = random.Random(kind)
    for image in (noisy(), noisy().convert("P"), noisy().convert("CMYK")):
        if image.mode == "CMYK" and kind not in ("JPEG", "TIFF"):
            continue
        try:
            data = encoded(image, kind)
        except OSError:  # this kind of file does not hold this mode
            continue
        for _ in range(60):
            broken = bytearray(data)
            for _ in range(rng.randint(1, 8)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            try:
                decoded = decode(bytes(broken), max_pixels=1_000_000)
            except ImageError as error:
                one_line(error)
            else:
                assert decoded.shape[0] == 3


def test_read_image_names_the_file(tmp_path):
    path = tmp_path / "näme with spaces.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"näme with spaces\.jpg: empty file"):
        read_image(path)
    with pytest.raises(ImageError, match=r"gone\.jpg: cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "gone.jpg")
    path.write_bytes(encoded(Image.fromarray(picture()), "PNG"))  # the name lies, the content counts
    assert_close(read_image(path), picture())


def test_check_header(tmp_path):
    path = tmp_path / "x.jpg"
    for data, found in [(b"", "empty"), (b"text" * 50, "not an image"), (encoded(noisy(), "JPEG"), None)]:
        path.write_bytes(data)
        reason = check_header(path)
        assert found in reason if found else reason is None
    assert "cannot be read" in (check_header(tmp_path) or "")
