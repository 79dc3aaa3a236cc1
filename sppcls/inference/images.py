"""Images that are handed over in memory: Pillow's, arrays, tensors, the bytes of a file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sppcls._util.files import check_local
from sppcls.data import PixelRange, image_files
from sppcls.data.decode import decode, from_pillow
from sppcls.errors import ConfigError, ImageError

Given = Path | bytes | torch.Tensor
"""An image file, the bytes of one, or pixels: uint8 (3, H, W), RGB."""

_KINDS = (
    "a path, a PIL image, a numpy array (H, W, 3) or (H, W), a torch tensor (3, H, W), the bytes of an image file, "
    "an open file, or a list of these"
)


def given_images(images: Any, pixel_range: PixelRange = "full") -> list[Given]:
    """What :func:`sppcls.predict` was handed, in its order; a folder gives all image files in and below it.

    Args:
        images: one of, or an iterable of: paths of files and folders; PIL images; numpy arrays (H, W, 3), (H, W, 4) and
            (H, W), torch tensors (3, H, W) and (1, H, W), both uint8 or floating point in 0..1; bytes of an image
            file, or a file that is open for reading them.
        pixel_range: which values of grey images of more than 8 bits are black and white.

    Raises:
        ConfigError: something else, or pixels of another shape, type or range; names its position in the list.
        DataError: a path that does not exist, or a folder without an image.
    """
    if _is_image(images) or isinstance(images, str | os.PathLike) or not isinstance(images, Iterable):
        return _images(images, "image", pixel_range)
    found: list[Given] = []
    for number, image in enumerate(images, 1):
        found += _images(image, f"image {number}", pixel_range)
    return found


def _is_image(thing: Any) -> bool:
    kinds = (Image.Image, np.ndarray, torch.Tensor, bytes, bytearray, memoryview)
    return isinstance(thing, kinds) or hasattr(thing, "read")


def _images(image: Any, name: str, pixel_range: PixelRange) -> list[Given]:
    if isinstance(image, str | os.PathLike):
        check_local(image, "sppcls predicts image files")
        return list(image_files([image]))
    if isinstance(image, Image.Image):
        try:
            return [from_pillow(image, pixel_range)]
        except ImageError as error:
            raise ConfigError(f"{name}: {error}") from None
    if isinstance(image, np.ndarray):
        return [_pixels(image, name)]
    if isinstance(image, torch.Tensor):
        return [_pixels(_channels_last(image, name), name)]
    if hasattr(image, "read"):
        image = image.read()
    if isinstance(image, bytes | bytearray | memoryview):
        return [bytes(image)]
    raise ConfigError(f"{name}: {type(image).__name__}: give {_KINDS}")


def _channels_last(tensor: torch.Tensor, name: str) -> np.ndarray:
    shape = tuple(tensor.shape)
    if tensor.ndim != 3 or shape[0] not in (1, 3):
        remedy = "; give a list of its images" if tensor.ndim == 4 else ""
        remedy = "; use tensor.permute(2, 0, 1)" if tensor.ndim == 3 and shape[-1] in (1, 3) else remedy
        raise ConfigError(f"{name}: a tensor of shape {shape}: must be (3, H, W) or (1, H, W){remedy}")
    tensor = tensor.detach().cpu()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.permute(1, 2, 0).numpy()


def _pixels(array: np.ndarray, name: str) -> torch.Tensor:
    """uint8 (3, H, W) of an array (H, W) or (H, W, 1, 3 or 4)."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        remedy = "; give a list of its images" if array.ndim == 4 else ""
        remedy = "; use array.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3) else remedy
        raise ConfigError(f"{name}: an array of shape {array.shape}: must be (H, W, 3) or (H, W){remedy}")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ConfigError(
                f"{name}: {array.dtype} values from {array.min():.4g} to {array.max():.4g}: must be in 0..1, not "
                "normalised; make values of 0..255 uint8"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ConfigError(f"{name}: values of type {array.dtype}: must be uint8, or floating point in 0..1")
    # A copy: the caller may change what was handed over.
    return from_pillow(Image.fromarray(array.squeeze(2) if array.shape[2:] == (1,) else array))


def pixels_of(image: Given, pixel_range: PixelRange = "full") -> torch.Tensor:
    """uint8 (3, H, W) of an image in memory; raises ImageError for bytes that are no image."""
    assert not isinstance(image, Path)
    return decode(image, pixel_range=pixel_range) if isinstance(image, bytes) else image
