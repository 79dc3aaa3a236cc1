"""The four convolutional networks of the paper, and the contract that every backbone keeps."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sppcls._util.near import choose_from
from sppcls._util.reason import own_line, reason_of, reason_with_line
from sppcls.nn.lrn import LRNAcrossChannels, LRNWithinChannel
from sppcls.nn.segments import run_segments
from sppcls.registry import INITS, NORMS, PAPER_BACKBONES


class Backbone(nn.Module):
    """Convolutional layers up to the last pooling, which spatial pyramid pooling replaces.

    Attributes:
        name: what to call it in messages.
        layers: image batch (N, 3, H, W) to feature map (N, out_channels, h, w).
        out_channels: channels of the feature map.
        stride: image pixels per cell of the map.
        last_pool: the pooling that follows the map in the original network; not part of ``forward``.
        weights: one line on what was taken from a file of weights and what was left; empty without one.
        restarts: values of ``init`` for which sppcls initialises the layers; for others they keep their own start.
        segments: modules whose inputs alone are kept in training; none unless
            :func:`~sppcls.nn.recompute.recompute_backbone` has been called.
        convolutions: names of numbered convolutions, such as ``conv5``; a layer ``relu5`` follows each.
    """

    def __init__(
        self, name: str, layers: nn.Module, out_channels: int, stride: int, last_pool: nn.Module
    ) -> None:
        super().__init__()
        self.name = name
        self.layers = layers
        self.out_channels = out_channels
        self.stride = stride
        self.last_pool = last_pool
        self.weights = ""
        self.restarts: tuple[str, ...] = ()
        self.convolutions: tuple[str, ...] = ()
        self.segments: list[list[nn.Module]] = []
        self._feature_sizes: dict[tuple[int, int], tuple[int, int]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, out_channels, h, w)."""
        if self.segments and self.training and torch.is_grad_enabled():
            return run_segments(self.segments, x)
        return self.layers(x)

    def feature_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the feature map of a height x width image; (0, 0) if the image is too small."""
        size = (height, width)
        if min(size) < 1:
            return (0, 0)
        if size not in self._feature_sizes:
            try:
                shape = output_shape(self, size)
                self._feature_sizes[size] = (shape[2], shape[3])
            except RuntimeError:
                # Torch's way to say that a kernel is larger than its input.
                self._feature_sizes[size] = (0, 0)
        return self._feature_sizes[size]

    def pooled_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) after ``last_pool`` for a height x width image; (0, 0) if the image is too small."""
        feature_size = self.feature_size(height, width)
        if min(feature_size) < 1:
            return (0, 0)
        try:
            pooled = self.last_pool(torch.empty(1, self.out_channels, *feature_size, device="meta"))
        except RuntimeError:
            return (0, 0)
        return (pooled.shape[2], pooled.shape[3])


def on_meta(layers: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, without values, floating-point ones as float32."""
    return {
        name: torch.empty_like(
            tensor, device="meta", dtype=torch.float32 if tensor.is_floating_point() else None
        )
        for name, tensor in chain(layers.named_parameters(), layers.named_buffers())
    }


class _AsBeforeNorm(TorchFunctionMode):
    """Batch normalisation keeps the shape; of tensors without values torch takes two milliseconds to say so."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm and args:
            x, *of_channels = args[:5]
            if all(values is None or values.shape == x.shape[1:2] for values in of_channels):
                return x
        return func(*args, **(kwargs or {}))


def output_shape(layers: nn.Module, size: tuple[int, int]) -> torch.Size:
    """Shape of what ``layers`` make of two (height, width) images, without computing values.

    Raises:
        RuntimeError: the images are too small.
        TypeError: the layers give something else than a tensor.
    """
    with torch.no_grad(), _AsBeforeNorm():
        # Two images, so that batch normalisation in training mode accepts a map of one cell.
        images = torch.empty(2, 3, *size, device="meta")
        output = torch.func.functional_call(layers, on_meta(layers), (images,))
    if not isinstance(output, Tensor):
        raise TypeError(f"gives a {type(output).__name__} instead of one tensor")
    return output.shape


STRIDE_SIZES = ((256, 256), (1024, 1024))


def measured(trunk: Backbone, what: str, sizes: Sequence[tuple[int, int]] = STRIDE_SIZES) -> Backbone:
    """Set ``out_channels`` and ``stride`` of a trunk from the maps that it gives of images of these sizes.

    The second size must be larger than the first. ``what`` begins the messages.

    Raises:
        ValueError: it gives no map, or takes only some sizes of images.
    """
    shapes: list[torch.Size] = []
    for height, width in sizes:
        try:
            shape = output_shape(trunk, (height, width))
        except Exception as error:  # networks have many ways to refuse a size
            if own_line(error)[0]:
                raise ValueError(
                    f"{what}: fails on an image of {height}x{width}: {reason_with_line(error)}"
                ) from error
            if isinstance(error, TypeError):
                raise ValueError(f"{what}: {reason_of(error, first_line=True)}") from error
            raise ValueError(
                f"{what}: takes only some sizes of images, not {height}x{width} "
                f"({reason_of(error, first_line=True)})"
            ) from error
        shapes.append(shape)
        if len(shape) != 4 or shape[1] != shapes[0][1]:
            raise ValueError(
                f"{what}: gives {tuple(shape)} for two images of {height}x{width}, not a map (N, C, h, w)"
            )
    small, large = shapes[:2]
    if small[2] >= large[2]:
        raise ValueError(
            f"{what}: gives a map of {large[2]}x{large[3]} for every image, not one that grows with it"
        )
    trunk.out_channels = small[1]
    trunk.stride = round((sizes[1][0] - sizes[0][0]) / (large[2] - small[2]))
    return trunk


def as_backbone(module: nn.Module) -> Backbone:
    """Any module that maps images (N, 3, H, W) of any size to feature maps (N, C, h, w) as a backbone.

    Its name is that of its class, its ``last_pool`` a global average.

    Raises:
        ValueError: it gives no such map, or takes only some sizes of images.
    """
    if isinstance(module, Backbone):
        return module
    name = type(module).__name__
    return measured(Backbone(name, module, 0, 0, nn.AdaptiveAvgPool2d(1)), f"backbone {name}")


class _Conv(NamedTuple):
    channels: int
    kernel: int
    stride: int = 1
    padding: int = 1
    lrn: bool = False


class _Pool(NamedTuple):
    kernel: int
    stride: int
    ceil: bool = False
    lrn: bool = False


class _Plan(NamedTuple):
    """One column of Table 1. ``lrn`` marks the layers that are followed by local response normalisation."""

    layers: tuple[_Conv | _Pool, ...]
    last_pool: _Pool
    norm: str


# The paper "adjusts" paddings without giving them. These reach its map sizes: 13x13 (ZF-5, Convnet*) and
# 18x18 (Overfeat) at 224, and 10x10 and 14x14 at 180. LRN comes after ReLU and before the pooling, except in
# the Overfeat nets, whose conv1 is pooled first.
_ZF5 = _Plan(
    (
        _Conv(96, 7, stride=2, padding=1, lrn=True),
        _Pool(3, 2, ceil=True),
        _Conv(256, 5, stride=2, padding=1, lrn=True),
        _Pool(3, 2, ceil=True),
        _Conv(384, 3),
        _Conv(384, 3),
        _Conv(256, 3),
    ),
    last_pool=_Pool(3, 2, ceil=True),
    norm="lrn_within",  # as in the authors' released model
)
_CONVNET_STAR5 = _Plan(
    (
        _Conv(96, 11, stride=4, padding=2, lrn=True),
        _Conv(256, 5, padding=2, lrn=True),
        _Pool(3, 2),
        _Conv(384, 3),
        _Pool(3, 2),
        _Conv(384, 3),
        _Conv(256, 3),
    ),
    last_pool=_Pool(3, 2),
    norm="lrn_across",  # as in AlexNet
)


def _overfeat(convs_of_512: int) -> _Plan:
    return _Plan(
        (
            _Conv(96, 7, stride=2, padding=0),
            _Pool(3, 3, lrn=True),
            _Conv(256, 5, padding=2),
            _Pool(2, 2),
            *[_Conv(512, 3)] * convs_of_512,
        ),
        last_pool=_Pool(3, 3),
        norm="lrn_across",
    )


_PLANS = {
    "zf5": _ZF5,
    "convnet_star5": _CONVNET_STAR5,
    "overfeat5": _overfeat(3),
    "overfeat7": _overfeat(5),
}


def paper_backbone(name: str, width: float = 1.0, norm: str | None = None) -> Backbone:
    """One of the networks of Table 1, up to its last convolution and ReLU (He et al. 2015).

    Args:
        name: ``zf5``, ``convnet_star5``, ``overfeat5`` or ``overfeat7``.
        width: multiplies the number of channels of every layer, rounded to multiples of 8.
        norm: ``lrn_within`` (3x3 cells of a channel), ``lrn_across`` (5 channels), ``batch`` (after every
            convolution, which then has no bias) or ``none``. None takes the LRN that the network was trained
            with.

    Raises:
        ValueError: an unknown name or norm, or a width that is not a finite number above 0.
    """
    if name not in _PLANS:
        raise ValueError(f"name={name!r}: {choose_from(name, PAPER_BACKBONES)}")
    if isinstance(width, bool) or not isinstance(width, Real):
        raise ValueError(f"width={width!r}: must be a number greater than 0")
    if not 0 < width < math.inf:
        raise ValueError(f"width={width!r}: must be greater than 0 and finite")
    plan = _PLANS[name]
    norm = plan.norm if norm is None else norm
    if norm not in NORMS:
        raise ValueError(f"norm={norm!r}: {choose_from(norm, NORMS)}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, stride, number = 3, 1, 0
    for layer in plan.layers:
        if isinstance(layer, _Conv):
            number += 1
            out = max(8, round(layer.channels * width / 8) * 8)
            layers[f"conv{number}"] = nn.Conv2d(
                channels, out, layer.kernel, layer.stride, layer.padding, bias=norm != "batch"
            )
            if norm == "batch":
                layers[f"norm{number}"] = nn.BatchNorm2d(out)
            layers[f"relu{number}"] = nn.ReLU(inplace=True)
            channels = out
        else:
            layers[f"pool{number}"] = _max_pool(layer)
        if layer.lrn and norm == "lrn_within":
            layers[f"norm{number}"] = LRNWithinChannel()
        elif layer.lrn and norm == "lrn_across":
            layers[f"norm{number}"] = LRNAcrossChannels()
        stride *= layer.stride
    backbone = Backbone(name, nn.Sequential(layers), channels, stride, _max_pool(plan.last_pool))
    backbone.restarts = INITS
    backbone.convolutions = tuple(name for name in layers if name.startswith("conv"))
    return backbone


def _max_pool(pool: _Pool) -> nn.MaxPool2d:
    return nn.MaxPool2d(pool.kernel, pool.stride, ceil_mode=pool.ceil)


def zf5(width: float = 1.0, norm: str | None = None) -> Backbone:
    """ZF-5: stride 16, 256 channels, 13x13 at 224. See :func:`paper_backbone`."""
    return paper_backbone("zf5", width, norm)


def convnet_star5(width: float = 1.0, norm: str | None = None) -> Backbone:
    """Convnet*-5 (AlexNet with its inner poolings moved): stride 16, 256 channels, 13x13 at 224."""
    return paper_backbone("convnet_star5", width, norm)


def overfeat5(width: float = 1.0, norm: str | None = None) -> Backbone:
    """Overfeat-5: stride 12, 512 channels, 18x18 at 224. See :func:`paper_backbone`."""
    return paper_backbone("overfeat5", width, norm)


def overfeat7(width: float = 1.0, norm: str | None = None) -> Backbone:
    """Overfeat-7: stride 12, 512 channels, 18x18 at 224. See :func:`paper_backbone`."""
    return paper_backbone("overfeat7", width, norm)
