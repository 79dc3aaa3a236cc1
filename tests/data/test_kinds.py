"""The list of kinds of image file, held against what Pillow itself does with a file of each."""

from __future__ import annotations

import io

import pytest
from PIL import Image, features

from sppcls.data.kinds import image_kinds, readable_extensions, readable_formats

SAVED_AS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".mpo": "MPO", ".png": "PNG", ".apng": "PNG", ".webp": "WEBP",
    ".bmp": "BMP", ".dib": "DIB", ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".avif": "AVIF",
    ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".tga": "TGA", ".pcx": "PCX", ".sgi": "SGI", ".qoi": "QOI",
}  # fmt: skip


@pytest.mark.parametrize("extension", SAVED_AS)
def test_a_kind_is_readable_if_pillow_reads_it(extension):
    buffer = io.BytesIO()
    try:
        Image.new("RGB", (9, 7), "red").save(buffer, SAVED_AS[extension])
    except (KeyError, OSError):
        assert not image_kinds()[extension].readable
        return
    with Image.open(buffer, formats=list(readable_formats())) as image:
        image.load()
        assert image.size == (9, 7)
    assert image_kinds()[extension].readable
    assert extension in readable_extensions()


def test_every_kind_is_readable_or_says_what_to_do():
    for extension, kind in image_kinds().items():
        assert extension == extension.lower()
        assert extension.startswith(".")
        assert kind.readable != bool(kind.remedy)
    assert ".eps" not in image_kinds()  # Pillow starts Ghostscript for it
    assert "EPS" not in readable_formats()


@pytest.mark.run
def test_plug_ins_are_named_where_they_are_missing(loaded):
    program = (
        "import importlib, sys; from sppcls.data import kinds\n"
        "sys.modules.update(pillow_heif=None, pillow_jxl=None)\n"  # as if they were not installed
        "image_kinds = importlib.reload(kinds).image_kinds\n"
        "print(image_kinds()['.heic'].remedy)\n"
        "print(image_kinds()['.jxl'].remedy)"
    )
    done = loaded.run(["-c", program])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["pip install pillow-heif", "pip install pillow-jxl-plugin"]


def test_heic_is_readable_with_its_plug_in():
    pytest.importorskip("pillow_heif")
    assert image_kinds()[".heic"].readable
    assert "HEIF" in readable_formats()


def test_what_pillow_was_built_with_decides():
    assert image_kinds()[".avif"].readable == features.check("avif")
    assert image_kinds()[".webp"].readable == features.check("webp")
