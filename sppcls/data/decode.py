"""File bytes to an upright 8-bit RGB image.

JPEG files, nearly all of a photo set, go through torchvision's decoder, which is about 1.7 times as fast as
Pillow's; all else goes through Pillow. ``torchvision.io.decode_image`` is not used: it ends the process on
some broken PNG files.
"""

from __future__ import annotations

import io
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

from sppcls.errors import ImageError

MAX_PIXELS = 178_956_970
"""Largest image that is decoded unless the caller says otherwise: Pillow's own limit, 0.5 GB of RGB."""


_STRIP = 512  # rows


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """Decode an image file held in memory.

    EXIF rotation is applied, transparency is composited on white, 16-bit grey is scaled to 8 bits, and of
    several frames the first is taken.

    Args:
        data: the whole file, of any kind that Pillow reads.
        max_pixels: refuse images whose header announces more.

    Returns:
        uint8 (3, height, width), RGB.

    Raises:
        ImageError: the data is empty, no image, damaged, or too large; one line without the file's name.
    """
    with warnings.catch_warnings():
        # Pillow warns of odd metadata, torchvision of its decoder's retirement: no news to the user.
        warnings.simplefilter("ignore")
        try:
            image = _open(io.BytesIO(data), max_pixels)
            if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
                return _decode_jpeg(data)
            return _to_tensor(image)
        except (ImageError, MemoryError):
            raise
        except Exception as error:  # Pillow raises nearly any type on damaged files
            raise ImageError(f"damaged image ({_one_line(error)})") from error


def from_pillow(image: Image.Image) -> torch.Tensor:
    """The pixels of an open PIL image, treated as those of a file: uint8 (3, height, width), RGB.

    Raises:
        ImageError: it cannot be decoded, or its values are outside 8 or 16 bits.
    """
    try:
        copy = image.copy()
        # Which copy() leaves behind, and which says how the image is turned.
        copy.info = dict(image.info)
        return _to_tensor(copy)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly any type on damaged files
        raise ImageError(f"damaged image ({_one_line(error)})") from error


def read_image(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """:func:`decode` a file or a pipe: uint8 (3, height, width); the ImageError names the file."""
    if reason := odd_file(path, pipes=True):
        raise ImageError(f"{path}: {reason}")
    try:
        return decode(Path(path).read_bytes(), max_pixels)
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


def check_header(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> str | None:
    """What is wrong with a file as far as its first bytes tell (``None``: nothing); no pixel is decoded."""
    if reason := odd_file(path):
        return reason
    try:
        with open(path, "rb") as file:
            _open(file, max_pixels)
    except ImageError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read ({error.strerror or _one_line(error)})"
    except Exception as error:
        return f"damaged image ({_one_line(error)})"
    return None


def header_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) by an image file's header, before any rotation; None if it is unreadable."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            return image.height, image.width
    except Exception:  # Pillow raises nearly any type on damaged files
        return None


def _open(file: IO[bytes], max_pixels: int) -> Image.Image:
    """Read an image's header."""
    if not file.read(1):
        raise ImageError("empty file (0 bytes)")
    file.seek(0)
    try:
        image = Image.open(file)
    except UnidentifiedImageError as error:
        raise ImageError("not an image of a known kind") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"more than the {max_pixels:,} pixels allowed") from error
    if image.width * image.height > max_pixels:
        raise ImageError(f"{image.width}x{image.height} is more than the {max_pixels:,} pixels allowed")
    return image


def _decode_jpeg(data: bytes) -> torch.Tensor:
    # A bytearray, because torch warns of (and could write to) read-only memory.
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return decode_jpeg(encoded, mode=ImageReadMode.RGB, apply_exif_orientation=True)


def _to_tensor(image: Image.Image) -> torch.Tensor:
    ImageOps.exif_transpose(image, in_place=True)  # a copy of a large image would be as large
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_8_bit(image)
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


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (which Pillow's own conversion would clip to white) to 8 bits."""
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ImageError(f"pixel values outside 8 or 16 bits (Pillow mode {image.mode})")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _one_line(error: BaseException) -> str:
    text = re.sub(r"^\S*, \S*\.cpp:\d+, ", "", " ".join(str(error).split()))  # torchvision's source file
    return text or type(error).__name__
