"""What only the tags of a TIFF file tell of its pixels, beside the mode that Pillow gives it."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import TiffImagePlugin as tags

from sppcls.data.kinds import image_kinds

_SUBFILE_TYPE = 254
_ONE_BIT = ("tiff_ccitt", "group3", "group4")
_READ_ONLY = ("raw", "tiff_jpeg", "tiff_raw_16", "tiff_thunderscan")


def tiff_refusal(image: Image.Image) -> str | None:
    """Why an opened TIFF file is not decoded as far as its tags tell; None if nothing is against it."""
    if _tag(image, _SUBFILE_TYPE, 0) & 1:
        # The real pixels lie elsewhere in the file.
        return f"a preview is its first image, as in a {image_kinds()['.dng'].name} file: {image_kinds()['.dng'].remedy}"
    bits = _tag(image, tags.BITSPERSAMPLE, 1)
    if _tag(image, tags.PLANAR_CONFIGURATION, 1) == 2 and not _plain_planes(image):
        bands = f"{_tag(image, tags.SAMPLESPERPIXEL, 1)} {bits}-bit band(s)"
        return f"a TIFF of {bands} in planes, which is not read: save it as 8-bit RGB or grey, not in planes"
    if bits <= 8 and _tag(image, tags.SAMPLEFORMAT, 1) == 2:
        return "a TIFF of signed 8-bit values, which is not read: save it as unsigned or 16-bit values"
    compression = str(image.info.get("compression", "raw"))
    if not _can_decode(compression):
        return f"a TIFF compressed with {compression}, which this Pillow cannot read: save it with LZW or Deflate"
    return None


def _plain_planes(image: Image.Image) -> bool:
    """Whether Pillow reads a file in planes: of others it gives wrong pixels, or none."""
    if _tag(image, tags.BITSPERSAMPLE, 1) != 8 or _tag(image, tags.SAMPLESPERPIXEL, 1) != len(
        image.getbands()
    ):
        return False
    if image.mode == "L":
        return _tag(image, tags.PHOTOMETRIC_INTERPRETATION, 0) == 1
    return image.mode in ("RGB", "RGBA", "CMYK") and _tag(image, tags.EXTRASAMPLES, 2) != 1


def bit_depth(image: Image.Image) -> int | None:
    """Bits of each value of a grey TIFF file of unsigned whole numbers of at most 16 bits; None for all others."""
    bits = _tag(image, tags.BITSPERSAMPLE, 1)
    return bits if image.mode != "F" and _tag(image, tags.SAMPLEFORMAT, 1) == 1 and bits <= 16 else None


def values_in_words(image: Image.Image) -> str:
    """Kind of the values of a grey TIFF file, such as "signed 16-bit whole numbers"."""
    sign = "signed " if _tag(image, tags.SAMPLEFORMAT, 1) == 2 else ""
    return f"{sign}{_tag(image, tags.BITSPERSAMPLE, 32)}-bit whole numbers"


def unsigned(values: npt.NDArray[np.int32], image: Image.Image) -> npt.NDArray[Any]:
    """Values of Pillow's mode ``I``, which is signed, as the file means them."""
    if (
        image.format == "TIFF"
        and _tag(image, tags.BITSPERSAMPLE, 1) == 32
        and _tag(image, tags.SAMPLEFORMAT, 1) == 1
    ):
        return values.view(np.uint32)
    return values


def white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF file of more than 8 bits counts from white, as some X-rays do; Pillow inverts 8 bits only."""
    return image.format == "TIFF" and _tag(image, tags.PHOTOMETRIC_INTERPRETATION, 1) == 0


def _tag(image: Image.Image, number: int, default: int) -> int:
    """The first value of a tag that holds whole numbers."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    first = value[0] if isinstance(value, tuple) and value else value
    return first if isinstance(first, int) else default


@cache
def _can_decode(compression: str) -> bool:
    """Try a compression on a tiny image: which ones there are was decided when libtiff was built."""
    if compression in _READ_ONLY:
        return True
    if compression.startswith("tiff_sgilog"):  # libtiff would complain on stderr
        return False
    file = io.BytesIO()
    try:
        mode = "1" if compression in _ONE_BIT else "RGB"
        Image.new(mode, (16, 16)).save(file, "TIFF", compression=compression)
        with Image.open(file) as image:
            image.load()
    except Exception:
        return False
    return True
