"""Files as people have them: a wrong name, a failed download, rare kinds and modes. The right pixels or one clear line.

The look at headers and the decoder must agree: what cannot be decoded is found before training, unless it is damaged.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from tiff_files import tiff

from sppcls.data.decode import check_header, decode, read_image
from sppcls.data.kinds import image_kinds
from sppcls.errors import ImageError

# An arithmetic-coded JPEG of 8 x 8 random pixels, by jpegtran -arithmetic.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGB"
    "YUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAI"
    "AAgDAREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD+ciKW9FeACDEwp341eQubeLkdqw5Dm7a+Z1sUsAH07pTiSXdCEVIzQdpYdM"
    "+/5VNtdY5Sp0ssISwMky89zoobjiddPJolXxk1mBpDbE5xs0yLwQC1i0novaksy9D/2Q=="
)

FIRST = np.random.default_rng(0)
NOISE = FIRST.integers(0, 256, (16, 24, 3), np.uint8)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def array(data, **options):
    return decode(data, **options).permute(1, 2, 0).numpy()


def check(data, folder, pixel_range="full"):
    path = folder / "file"
    path.write_bytes(data)
    return check_header(path, pixel_range=pixel_range)


def agreed(data, folder, pixel_range="full"):
    """The reason that both give, or None; they must be the same."""
    found, decoded = check(data, folder, pixel_range), None
    try:
        decode(data, pixel_range=pixel_range)
    except ImageError as error:
        decoded = str(error)
    assert found == decoded
    assert "\n" not in (found or "")
    return found


MODES = ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F",
         "I;16", "I;16B", "I;16L", "I;16N")  # fmt: skip
KINDS = (
    "PNG",
    "TIFF",
    "JPEG",
    "WEBP",
    "BMP",
    "DIB",
    "GIF",
    "PPM",
    "AVIF",
    "JPEG2000",
    "TGA",
    "PCX",
    "SGI",
    "QOI",
    "MPO",
)


@pytest.mark.parametrize("mode", MODES)
def test_header_and_decoder_agree_on_every_mode(mode, tmp_path):
    for kind in KINDS:
        try:
            data = encoded(Image.new(mode, (9, 7)), kind)
        except (OSError, ValueError, KeyError, SystemError):
            continue  # this kind of file holds no such mode
        for pixel_range in ("full", "image", (0, 4095)):
            reason = agreed(data, tmp_path, pixel_range)
            if pixel_range == "full":
                refused = (kind == "TIFF" and mode in ("I", "F", "LAB")) or (kind == "PPM" and mode == "F")
                assert bool(reason) == refused, kind


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "I", "F"])
def test_header_and_decoder_agree_on_compressed_tiff(mode, tmp_path):
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma", "webp"):
        try:
            data = encoded(Image.new(mode, (9, 7)), "TIFF", compression=compression)
        except (OSError, ValueError):
            continue  # not in this Pillow, or not for this mode
        assert bool(agreed(data, tmp_path)) == (mode in ("I", "F")), compression


TYPES = {(8, 1): np.uint8, (8, 2): np.int8, (16, 1): np.uint16, (16, 2): np.int16, (16, 3): np.float16,
         (32, 1): np.uint32, (32, 2): np.int32, (32, 3): np.float32, (64, 1): np.uint64, (64, 3): np.float64,
         (64, 6): np.complex64, (128, 6): np.complex128}  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(
    pixel=st.sampled_from(sorted(TYPES)),
    bands=st.integers(1, 6),
    photometric=st.sampled_from([0, 1, 2, 3, 5, 6, 8, 32803]),
    planes=st.sampled_from([1, 2]),
    extra=st.sampled_from([None, 0, 1, 2]),
    big=st.booleans(),
    order=st.sampled_from("<>"),
    pixel_range=st.sampled_from(["full", "image", (0, 4095)]),
)
def test_header_and_decoder_agree_on_any_tiff(
    tmp_path_factory, pixel, bands, photometric, planes, extra, big, order, pixel_range
):
    bits, sample_format = pixel
    colours = {2: 3, 5: 4, 6: 3, 8: 3}.get(photometric, 1)
    extras = None if extra is None or bands <= colours else [extra] * (bands - colours)
    data = tiff(
        np.ones((2, 3, bands), TYPES[pixel]), bits=bits, photometric=photometric, sample_format=sample_format,
        planes=planes, extra=extras, big=big, order=order,
    )  # fmt: skip
    reason = agreed(data, tmp_path_factory.getbasetemp(), pixel_range)
    if pixel == (8, 1) and bands == colours and photometric in (1, 2) and not (big and order == ">"):
        assert reason is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            tiff(np.ones((2, 2), np.float64), bits=64, sample_format=3),
            "1 band of 64-bit floating-point values",
        ),
        (tiff(np.ones((2, 2), np.complex64), bits=64, sample_format=6), "1 band of 64-bit complex values"),
        (
            tiff(np.ones((2, 2, 8), np.uint16), bits=16, photometric=2),
            "8 bands of 16-bit whole-number values",
        ),
        (
            tiff(np.ones((2, 2, 3), np.uint16), bits=16, photometric=2, planes=2),
            "in planes, which is not read",
        ),
        (tiff(np.ones((2, 2), np.uint8), bits=8, compression=34887), "compression 34887"),
        (tiff(np.ones((2, 2), np.uint16), bits=16, big=True, order=">"), "big-endian BigTIFF"),
        (tiff(np.ones((2, 2), np.uint16), bits=16, photometric=32803), "camera raw"),
        (tiff(np.ones((2, 2), np.uint8), bits=8, more=[(254, 4, [1])]), "a preview is its first image"),
        (tiff(np.ones((2, 2, 3), np.uint8), bits=8, photometric=8), "save it as RGB"),
    ],
)
def test_a_tiff_that_is_not_read_says_why_and_what_to_do(data, words, tmp_path):
    reason = agreed(data, tmp_path)
    assert reason is not None
    assert words in reason
    assert any(remedy in reason for remedy in ("save it", "develop"))


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("big", [False, True])
def test_colours_in_any_layout(planes, big):
    assert (array(tiff(NOISE, bits=8, photometric=2, planes=planes, big=big)) == NOISE).all()


def test_cmyk_and_alpha_in_planes():
    ink = np.zeros((2, 3, 4), np.uint8)
    ink[..., 0] = 255  # cyan
    assert (array(tiff(ink, bits=8, photometric=5, planes=2)) == [0, 255, 255]).all()
    rgba = np.concatenate([NOISE, np.full((16, 24, 1), 255, np.uint8)], -1)
    assert (array(tiff(rgba, bits=8, photometric=2, planes=2, extra=[2])) == NOISE).all()


def test_16_bit_cmyk_and_extra_bands():
    cmyk = np.full((1, 1, 4), 0, np.uint16)
    cmyk[..., 1] = 65535  # magenta
    assert array(tiff(cmyk, bits=16, photometric=5))[0, 0].tolist() == [255, 0, 255]
    bands = np.array([[[10, 20, 30, 99, 98]]], np.uint8)
    assert array(tiff(bands, bits=8, photometric=2, extra=[0, 0]))[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            "a Git LFS pointer, not the image: git lfs pull",
        ),
        (b"/annex/objects/SHA256E-s1--0.jpg\n", "git annex get"),
        (
            b"<!DOCTYPE html>\n<html><body>404</body></html>",
            "an HTML page, not an image: the download failed",
        ),
        (b"\xef\xbb\xbf  <HTML><head>", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML text, not an image"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, not an image of pixels"),
        (b'{"message": "rate limit exceeded"}', "JSON text, not an image"),
        ("größer als erlaubt\n".encode(), "text, not an image"),
        (b"", "empty file (0 bytes)"),
        (bytes(5000), "nothing but zero bytes"),
        (b"\0\x05\x16\x07" + bytes(100), "metadata of macOS"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript, not an image"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
        (b"\0\0\0\x18ftypisom" + bytes(40), "a video, not an image"),
        (b"8BPS" + bytes(40), "Photoshop, which is not read"),
        (bytes(128) + b"DICM" + bytes(40), "DICOM, which is not read"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), "camera raw, which is not read: develop"),
        (b"II*\0" + b"\xff" * 40, "damaged TIFF"),
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0" + bytes(40), "a JPEG of 12 bits a colour"),
        (b"\xff\xd8\xff\xc3\0\x0b\x10\0\x08\0\x08\x01\x01\x11\0" + bytes(40), "a lossless JPEG"),
        (bytes(range(128, 256)) * 4, "not an image of a known kind"),
    ],
)
def test_what_is_no_image_is_named(data, words, tmp_path):
    reason = agreed(data, tmp_path)
    assert reason is not None
    assert words in reason


@pytest.mark.parametrize(("extension", "head"), [(".heic", b"\0\0\0\x18ftypheic"), (".jxl", b"\xff\x0a")])
def test_a_kind_without_its_plug_in_names_it(extension, head, tmp_path):
    kind = image_kinds()[extension]
    reason = agreed(head + bytes(40), tmp_path) or ""
    assert kind.name in reason
    assert kind.readable or kind.remedy in reason


def test_the_file_is_named_and_its_content_counts(tmp_path):
    image = Image.fromarray(NOISE)
    for name, kind, options in (("a.jpg", "PNG", {}), ("b.jpg", "WEBP", {"lossless": True}), ("c.png", "BMP", {}),
                                ("d.gif", "TIFF", {})):  # fmt: skip
        (tmp_path / name).write_bytes(encoded(image, kind, **options))
        assert check_header(tmp_path / name) is None
        assert (read_image(tmp_path / name).permute(1, 2, 0).numpy() == NOISE).all()
    (tmp_path / "e.png").write_bytes(b"<html>Not found</html>")
    with pytest.raises(ImageError, match=r"e\.png: an HTML page, not an image: the download failed$"):
        read_image(tmp_path / "e.png")


def test_postscript_is_never_run(tmp_path):
    """Pillow would hand it to Ghostscript."""
    eps = encoded(Image.fromarray(NOISE), "EPS")
    assert "PostScript" in (agreed(eps, tmp_path) or "")


def test_arithmetic_coded_jpeg():
    truth = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    truth = np.asarray(Image.fromarray(truth).resize((8, 8)))
    assert np.abs(array(ARITHMETIC).astype(int) - truth).mean() < 8


def test_adobe_jpegs():
    """Photoshop writes CMYK inverted, and RGB without the change to YCbCr; the Adobe marker says so."""
    ink = Image.new("CMYK", (8, 8), (255, 0, 255, 0))  # green
    data = encoded(ink, "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(array(data).astype(int) - [0, 255, 0]).max() <= 3
    data = encoded(Image.new("RGB", (8, 8), (200, 30, 90)), "JPEG", quality=95, keep_rgb=True, subsampling=0)
    assert np.abs(array(data).astype(int) - [200, 30, 90]).max() <= 3


def test_16_bit_big_endian_and_grey_alpha():
    values = np.array([[0, 30000, 65535]], np.uint16)
    assert array(encoded(Image.frombytes("I;16B", (3, 1), values.astype(">u2").tobytes()), "TIFF"))[
        0, :, 0
    ].tolist() == [0, 117, 255]
    row = b"\0" + struct.pack(">6H", 0, 65535, 0, 0, 51400, 32896)  # a PNG of 16-bit grey and alpha

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 3, 1, 16, 4, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(row))
        + chunk(b"IEND", b"")
    )
    half = round(200 * 128 / 255 + 255 * 127 / 255)
    assert np.abs(array(data)[0, :, 0].astype(int) - [0, 255, half]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (16000, 1), (1, 16000), (3, 2)])
def test_extreme_shapes(kind, width, height):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    data = encoded(Image.new("RGB", (width, height), (10, 200, 90)), kind, **options)
    image = array(data)
    assert image.shape == (height, width, 3)
    assert np.abs(image.astype(int) - [10, 200, 90]).max() <= (3 if kind == "JPEG" else 0)


@pytest.mark.parametrize(
    ("kind", "feature", "options"),
    [("AVIF", "avif", {"quality": 100, "subsampling": "4:4:4"}), ("JPEG2000", "jpg_2000", {}), ("TGA", "", {}),
     ("QOI", "", {}), ("PCX", "", {}), ("SGI", "", {}), ("WEBP", "webp", {"lossless": True}), ("DIB", "", {})],
)  # fmt: skip
def test_rarer_kinds_and_cut_files(kind, feature, options, tmp_path):
    if feature and not features.check(feature):
        pytest.skip(f"this Pillow has no {kind}")
    try:
        data = encoded(Image.fromarray(NOISE), kind, **options)
    except KeyError:
        pytest.skip(f"this Pillow writes no {kind}")
    assert np.abs(array(data).astype(int) - NOISE).max() <= (6 if kind == "AVIF" else 0)
    for share in (0.9, 0.5, 0.1):
        found = None
        try:
            assert (
                array(data[: int(len(data) * share)]).shape == NOISE.shape
            )  # some decoders fill what is missing
        except ImageError as error:
            found = str(error)
        assert "\n" not in (found or "")


def test_colour_profiles_are_not_applied():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert (array(encoded(Image.fromarray(NOISE), "PNG", icc_profile=profile)) == NOISE).all()
