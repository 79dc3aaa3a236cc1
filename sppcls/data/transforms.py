"""From an image to the uint8 region that the loader hands out; from a batch of them to the network's input.

The loader always gives regions of the largest training size; a batch of a smaller size is the *same* regions
resized, as the paper does it (He et al. 2015, sec. 2.3: the 180x180 image is the 224x224 region resized, not
a smaller crop).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from sppcls.data.geometry import (
    POSITIONS,
    box_in_reduced,
    cut,
    default_shorter_side,
    offset_at,
    random_resized_box,
    reduced_size,
    resize,
    resized_size,
)
from sppcls.data.sizes import Size
from sppcls.errors import ConfigError
from sppcls.registry import CROPS

# Principal components of ImageNet's RGB values in 0..1 (Krizhevsky et al. 2012, sec. 4.1); rows of the
# vectors are R, G, B.
_EIGENVALUES = torch.tensor([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = torch.tensor(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)


def lighting_offset(alphas: Sequence[float]) -> torch.Tensor:
    """RGB offset, float32 (3,) in units of 0..1, of PCA lighting with three normal variates ``alphas``."""
    return _EIGENVECTORS @ (torch.tensor(alphas, dtype=torch.float32) * _EIGENVALUES)


class TrainTransform:
    """One random region of an image; all randomness comes from the seed of the call.

    Args:
        region: (height, width) of the result in pixels.
        crop: ``five`` (centre or a corner of the whole image, the paper's), ``anywhere`` in the whole image,
            ``center``, or ``resized`` (a box of random area and aspect, for modern recipes).
        flip: mirror half of the images.
        lighting: standard deviation of AlexNet's PCA lighting (the paper: 0.1), 0 for none.
        shorter_side: shorter side of the image before the region is cut, in pixels; ``None`` keeps the
            paper's proportion of 256 to 224. Not used by ``resized``.
        scale, ratio: range of the box's share of the image and of its relative aspect, for ``resized``.
        trivial_augment: one random operation of TrivialAugment (Müller and Hutter 2021).
        rand_augment: magnitude, 0 to 30, of two random operations of RandAugment (Cubuk et al. 2020); 0 for none.
        augmix: severity, 1 to 10, of AugMix's mixture of three chains of operations (Hendrycks et al. 2020); 0 for none.
        erasing: probability of painting a random rectangle grey (Zhong et al. 2020).
        cache_side: shorter side that a cache reduces images to for ``resized``, in pixels; ``None``: so large that
            the smallest box has as many pixels as the region. For other crops it is always ``shorter_side``.

    Raises:
        ConfigError: an argument is out of range; the message names its key.
    """

    def __init__(
        self,
        region: Size,
        crop: str = "five",
        flip: bool = True,
        lighting: float = 0.1,
        shorter_side: int | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        trivial_augment: bool = False,
        rand_augment: int = 0,
        augmix: int = 0,
        erasing: float = 0.0,
        cache_side: int | None = None,
    ) -> None:
        if crop not in CROPS:
            raise ConfigError(f"augment.crop={crop!r}: choose from {', '.join(CROPS)}")
        if lighting < 0:
            raise ConfigError(f"augment.lighting={lighting}: a standard deviation of at least 0 is needed")
        if not 0 <= erasing <= 1:
            raise ConfigError(f"augment.erasing={erasing}: a probability between 0 and 1 is needed")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"augment.scale={list(scale)}: give [low, high] with 0 < low <= high <= 1")
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ConfigError(f"augment.ratio={list(ratio)}: give [low, high] with 0 < low <= high")
        self.region, self.crop, self.flip, self.lighting = region, crop, flip, lighting
        self.shorter_side = _checked_shorter_side(shorter_side, region)
        self.scale, self.ratio = scale, ratio
        self.cache_side = self.shorter_side
        if crop == "resized":
            self.cache_side = cache_side or math.ceil(math.sqrt(region[0] * region[1] / scale[0]))
        extras: list[torch.nn.Module] = []
        if trivial_augment:
            extras.append(v2.TrivialAugmentWide())
        if rand_augment:
            extras.append(v2.RandAugment(magnitude=rand_augment))
        if augmix:
            extras.append(v2.AugMix(severity=augmix))
        if erasing:
            extras.append(v2.RandomErasing(erasing, value=[124, 116, 104]))  # about the mean of photos
        self._extras = extras

    def __call__(
        self, image: torch.Tensor, seed: int, size: Size | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 (3, H, W) -> uint8 (3, *region) and the lighting offset, float32 (3,) in units of 0..1.

        ``size`` is the (height, width) that the image had before :meth:`reduced`, by default its own: the region is
        the one that would be chosen there.
        """
        rng = random.Random(seed)
        result = self._region_of(image, rng, size or (image.shape[-2], image.shape[-1]))
        if self.flip and rng.random() < 0.5:
            result = result.flip(-1)
        offset = (
            lighting_offset([rng.gauss(0.0, self.lighting) for _ in range(3)])
            if self.lighting
            else torch.zeros(3)
        )
        if self._extras:
            # torchvision's own augmentations draw from the global generator.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                for extra in self._extras:
                    result = extra(result)
        return result, offset

    @property
    def reduction(self) -> str:
        """What :meth:`reduced` does, in words; equal words, equal pixels."""
        return f"shorter side {self.cache_side}, region {self.region}"

    def reduced_size(self, height: int, width: int) -> Size:
        """Height and width of :meth:`reduced` of an image."""
        return reduced_size(height, width, self.cache_side, self.region)

    def reduced(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 (3, H, W) -> uint8 (3, h, w), the whole image with no more pixels than are needed."""
        return resize(image, self.reduced_size(*image.shape[-2:]))

    def _region_of(self, image: torch.Tensor, rng: random.Random, size: Size) -> torch.Tensor:
        height, width = image.shape[-2:]
        if self.crop == "resized":
            box = random_resized_box(*size, self.region, self.scale, self.ratio, rng)
            top, left, box_h, box_w = box_in_reduced(box, size, (height, width))
            return resize(image[:, top : top + box_h, left : left + box_w], self.region)
        whole = resized_size(height, width, self.shorter_side, self.region)
        if self.crop == "anywhere":
            top, left = rng.randint(0, whole[0] - self.region[0]), rng.randint(0, whole[1] - self.region[1])
        else:
            position = rng.choice(POSITIONS) if self.crop == "five" else "center"
            top, left = offset_at(position, whole, self.region)
        return cut(image, whole, top, left, self.region)


class EvalTransform:
    """The central region, once the shorter side is ``shorter_side`` pixels (``None``: 256 for 224)."""

    def __init__(self, region: Size, shorter_side: int | None = None) -> None:
        self.region = region
        self.shorter_side = _checked_shorter_side(shorter_side, region)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 (3, H, W) -> uint8 (3, *region)."""
        whole = resized_size(image.shape[-2], image.shape[-1], self.shorter_side, self.region)
        return cut(image, whole, *offset_at("center", whole, self.region), self.region)

    @property
    def reduction(self) -> str:
        """What :meth:`reduced` does, in words; equal words, equal pixels."""
        return f"centre {self.region} of {self.shorter_side}"

    def reduced_size(self, height: int, width: int) -> Size:
        """Height and width of :meth:`reduced` of an image."""
        return self.region

    def reduced(self, image: torch.Tensor) -> torch.Tensor:
        """The region itself: nothing about it is random."""
        return self(image)


def _checked_shorter_side(shorter_side: int | None, region: Size) -> int:
    if shorter_side is None:
        return default_shorter_side(region)
    if shorter_side < min(region):
        raise ConfigError(
            f"augment.shorter_side={shorter_side}: at least the region's {min(region)} pixels are needed"
        )
    return shorter_side


_FEW = 4


def prepare_batch(
    image: torch.Tensor,
    size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    lighting: torch.Tensor | None = None,
) -> torch.Tensor:
    """Turn a batch of regions into network input, on the device that holds it.

    A region of another aspect than ``size`` is first cut to it, centrally; one of the same aspect is used
    whole. Then it is resized (as uint8, antialiased), lighting is added and the result normalised.

    Args:
        image: uint8 (N, 3, H, W).
        size: (h, w) to resize to, in pixels.
        mean, std: three numbers each, of RGB in units of 0..1.
        lighting: float32 (N, 3), RGB offsets in units of 0..1.

    Returns:
        float32 (N, 3, h, w) in channels_last memory format.
    """
    image = _cut_to_aspect(image, size).contiguous(memory_format=torch.channels_last)
    if tuple(image.shape[-2:]) != size:
        image = F.resize(image, list(size), antialias=True)
    scale = 1 / _on_device(tuple(std), image.device)
    shift = -_on_device(tuple(mean), image.device).view(1, 1, 3)
    if lighting is not None:
        shift = shift + lighting.to(image.device, torch.float32).view(-1, 1, 3)
    result = _empty_like(image)
    # Whole rows of RGB triples at a time: with the three channels innermost, broadcasting over them is slow.
    source, rows = (each.permute(0, 2, 3, 1).flatten(2) for each in (image, result))
    scale_row, shift_row = (scale / 255).repeat(size[1]), (shift * scale).repeat(1, 1, size[1])
    # A few images at a time, which stay in the processor's cache.
    few = _FEW if image.device.type == "cpu" else max(1, len(image))
    shifts = shift_row.expand(len(image), -1, -1).split(few)
    for part, values, moved in zip(source.split(few), rows.split(few), shifts, strict=True):
        values.copy_(part).mul_(scale_row).add_(moved)
    return result


def _empty_like(image: torch.Tensor) -> torch.Tensor:
    """Uninitialised float32 of the shape and layout of a channels_last batch."""
    if image.device.type != "cpu":
        return torch.empty_like(image, dtype=torch.float32, memory_format=torch.channels_last)
    # NumPy asks the kernel for large pages: torch's own take twice as long as all of the arithmetic to come by.
    rows = np.empty(tuple(image.permute(0, 2, 3, 1).shape), np.float32)
    return torch.from_numpy(rows).permute(0, 3, 1, 2)


def _cut_to_aspect(image: torch.Tensor, size: Size) -> torch.Tensor:
    height, width = image.shape[-2:]
    if height * size[1] > width * size[0]:
        keep = max(1, round(width * size[0] / size[1]))
        return image[..., (height - keep) // 2 :, :][..., :keep, :]
    keep = max(1, round(height * size[1] / size[0]))
    return image[..., (width - keep) // 2 :][..., :keep]


@cache
def _on_device(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    # Kept, because every copy to a GPU waits for it.
    return torch.tensor(values, dtype=torch.float32, device=device)
