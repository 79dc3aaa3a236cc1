"""File bytes to an upright 8-bit RGB image.

JPEG files, nearly all of a photo set, go through torchvision's decoder, which is about 1.7 times as fast as
Pillow's; all else goes through Pillow. ``torchvision.io.decode_image`` is not used: it ends the process on
some broken PNG files.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import warnings
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_jpeg

from sppcls._util.reason import reason_of
from sppcls.data.kinds import readable_formats
from sppcls.data.not_images import what_it_is
from sppcls.data.pixel_range import PixelRange, own_range, to_8_bits
from sppcls.data.tiff import bit_depth, tiff_refusal, unsigned, values_in_words, white_is_zero
from sppcls.errors import ImageError, Interrupted, SppclsError

MAX_PIXELS = 178_956_970
"""Largest image that is decoded unless the caller says otherwise: Pillow's own limit, 0.5 GB of RGB."""


_STRIP = 512  # rows

# Pillow logs errors of files beside raising them; without a handler, Python prints them.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(data: bytes, max_pixels: int = MAX_PIXELS, pixel_range: PixelRange = "full") -> torch.Tensor:
    """Decode an image file held in memory.

    EXIF rotation is applied, transparency is composited on white, grey of more than 8 bits is scaled to 8, and of
    several frames the first is taken. Colour profiles (ICC) are not applied.

    Args:
        data: the whole file, of a kind that :func:`~sppcls.data.kinds.image_kinds` calls readable.
        max_pixels: refuse images whose header announces more.
        pixel_range: which values of grey images of more than 8 bits are black and white.

    Returns:
        uint8 (3, height, width), RGB.

    Raises:
        ImageError: the data is empty, no image, damaged, too large, or of pixels that have no 8-bit form; one line
            without the file's name. All but damage is what :func:`check_header` finds as well.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, torchvision of its decoder's retirement: no news to the user.
        warnings.simplefilter("ignore")
        try:
            image = _open(io.BytesIO(data), max_pixels, pixel_range)
            if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
                return _decode_jpeg(data)
            return _to_tensor(image, pixel_range)
        except (SppclsError, MemoryError):  # a stop by a signal, too
            raise
        except Exception as error:  # Pillow raises nearly any type on damaged files
            raise ImageError(f"damaged image ({_reason(error)})") from error


def from_pillow(image: Image.Image, pixel_range: PixelRange = "full") -> torch.Tensor:
    """The pixels of an open PIL image, treated as those of a file: uint8 (3, height, width), RGB.

    Raises:
        ImageError: it cannot be decoded, or has no 8-bit form.
    """
    if reason := _refusal(image, pixel_range):
        raise ImageError(reason)
    try:
        copy = image.copy()
        # Which copy() leaves behind, and which says how the image is turned.
        copy.info = dict(image.info)
        return _to_tensor(copy, pixel_range)
    except (SppclsError, MemoryError):  # a stop by a signal, too
        raise
    except Exception as error:  # Pillow raises nearly any type on damaged files
        raise ImageError(f"damaged image ({_reason(error)})") from error


def read_image(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, pixel_range: PixelRange = "full"
) -> torch.Tensor:
    """:func:`decode` a file or a pipe: uint8 (3, height, width); the ImageError names the file."""
    if reason := odd_file(path, pipes=True):
        raise ImageError(f"{path}: {reason}")
    try:
        return decode(Path(path).read_bytes(), max_pixels, pixel_range)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def odd_file(path: str | os.PathLike[str], pipes: bool = False) -> str | None:
    """What is wrong with a device or, unless ``pipes`` are welcome, a pipe: reading it may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None  # whoever opens it says why it cannot be read
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or (pipes and stat.S_ISFIFO(mode)):
        return None
    return "not a regular file"


def check_header(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS, pixel_range: PixelRange = "full"
) -> str | None:
    """What is wrong with a file as far as its first bytes tell (``None``: nothing); no pixel is decoded."""
    if reason := odd_file(path):
        return reason
    try:
        with open(path, "rb") as file:
            return check_header_of(file, max_pixels, pixel_range)
    except OSError as error:
        return f"cannot be read ({error.strerror or _reason(error)})"


def check_header_of(
    file: IO[bytes], max_pixels: int = MAX_PIXELS, pixel_range: PixelRange = "full"
) -> str | None:
    """:func:`check_header` of an open file."""
    try:
        _open(file, max_pixels, pixel_range)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror or _reason(error)})"
    except SppclsError:  # a stop by a signal
        raise
    except Exception as error:
        return f"damaged image ({_reason(error)})"
    return None


def grey_values(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[float, float] | None:
    """Lowest and highest value in a file of grey of more than 8 bits; None for all other files and unreadable ones."""
    if odd_file(path):
        return None
    try:
        with warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")
            image = _open(file, max_pixels, "image")
            return own_range(unsigned(np.asarray(image), image)) if _is_deep(image) else None
    except Interrupted:  # a signal that came within
        raise
    except Exception:  # Pillow raises nearly any type on damaged files
        return None


def header_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) by an image file's header, before any rotation; None if it is unreadable."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return image.height, image.width
    except Interrupted:  # a signal that came within
        raise
    except Exception:  # Pillow raises nearly any type on damaged files
        return None


def _open(file: IO[bytes], max_pixels: int, pixel_range: PixelRange) -> Image.Image:
    """Read an image's header, and refuse whatever cannot be decoded as far as it tells."""
    if not file.read(1):
        raise ImageError("empty file (0 bytes)")
    file.seek(0)
    try:
        image = Image.open(file, formats=readable_formats())
    except Image.DecompressionBombError as error:
        most = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise ImageError(f"more than the {most:,} pixels allowed") from error
    except Exception as error:
        if isinstance(error, OSError | SppclsError) and not isinstance(error, UnidentifiedImageError):
            raise
        what = what_it_is(file)
        if not what and not isinstance(error, UnidentifiedImageError):
            raise
        raise ImageError(what or "not an image of a known kind") from error
    if image.width * image.height > max_pixels:
        raise ImageError(f"{image.width}x{image.height} is more than the {max_pixels:,} pixels allowed")
    if reason := _refusal(image, pixel_range):
        raise ImageError(reason)
    return image


_SHALLOW = ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")


def _refusal(image: Image.Image, pixel_range: PixelRange) -> str | None:
    """Why an image whose header was read has no 8-bit form; None if it has one."""
    if image.format == "TIFF" and (reason := tiff_refusal(image)):
        return reason
    if _is_deep(image):
        if pixel_range == "full" and not _full_scale(image):
            what = "floating-point values" if image.mode == "F" else values_in_words(image)
            return f"{what}: data.pixel_range=[black,white] in training must say which are black and white"
        return None
    if image.mode not in _SHALLOW:
        return f"pixels of a kind that is not read (Pillow mode {image.mode}): save it as RGB"
    if pixel_range != "full" and ";16" in _raw_mode(image):
        return (
            "colours of 16 bits, of which the upper 8 are read: data.pixel_range is for grey images; save it with 8 "
            "bits a colour, or leave data.pixel_range=full"
        )
    return None


def _is_deep(image: Image.Image) -> bool:
    """Whether an image is grey of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def _full_scale(image: Image.Image) -> int | None:
    """The largest value that grey of at most 16 bits can have; None for other numbers, where it says nothing."""
    if image.format == "TIFF":
        bits = bit_depth(image)
        return (1 << bits) - 1 if bits else None
    # Pillow scales what PGM and JPEG 2000 files say is white to 16 bits; older ones call 16-bit PNG "I".
    return (
        65535
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
        else None
    )


def _raw_mode(image: Image.Image) -> str:
    """How Pillow reads the samples of a file; empty where it does not say."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return first if isinstance(first, str) else ""
    return ""


def _decode_jpeg(data: bytes) -> torch.Tensor:
    # A bytearray, because torch warns of (and could write to) read-only memory.
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return decode_jpeg(encoded, mode=ImageReadMode.RGB, apply_exif_orientation=True)


def _to_tensor(image: Image.Image, pixel_range: PixelRange) -> torch.Tensor:
    ImageOps.exif_transpose(image, in_place=True)  # a copy of a large image would be as large
    if _is_deep(image):
        image = _to_8_bits(image, pixel_range)
    if image.mode == "La":
        image = image.convert("LA")  # the only way out of it
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):  # at once, Pillow would make two more copies of all pixels
        bottom = min(top + _STRIP, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _to_8_bits(image: Image.Image, pixel_range: PixelRange) -> Image.Image:
    """8-bit grey of deep grey, which Pillow's own conversion would clip to white."""
    values = unsigned(np.asarray(image), image)
    full = _full_scale(image)
    if pixel_range == "full":
        assert full is not None  # or the header would have been refused
        low, high = 0.0, float(full)
    else:
        low, high = own_range(values) if pixel_range == "image" else pixel_range
    grey = to_8_bits(values, low, high)
    if white_is_zero(image):
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):  # one grey value stands for nothing
        grey[values == key] = 255
    return Image.fromarray(grey)


def _reason(error: BaseException) -> str:
    return re.sub(r"^\S*, \S*\.cpp:\d+, ", "", reason_of(error))  # torchvision's source file
