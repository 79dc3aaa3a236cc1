"""A network as windows see it: maps of the whole image, the cells of each window, pooled vectors, fc layers."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sppcls.data.sizes import Size
from sppcls.data.stream import resize_to_be_seen, whole_size
from sppcls.data.transforms import prepare_batch
from sppcls.detection.range_max import pool_max
from sppcls.detection.scales import REGION, SCALE_RULES, choose_scale
from sppcls.errors import ConfigError
from sppcls.evaluation.mapping import WINDOW_RULES, cells_between, first_center
from sppcls.nn import ConvHead, LevelLargerThanMapWarning, SpatialPyramidPooling2d, SPPClassifier
from sppcls.nn.model_info import model_info_of
from sppcls.nn.pool.windows import pool_windows

POOLED = "spp"
LARGEST_HALF = 65_504.0
"""The largest number of float16."""


@dataclass(frozen=True)
class RegionRules:
    """How windows are mapped to feature maps.

    Attributes:
        scales: shorter sides in pixels, ascending.
        scale_rule: see :func:`~sppcls.detection.scales.choose_scale`.
        window_rule: one of :data:`~sppcls.evaluation.mapping.WINDOW_RULES`.
        region: side of the images that the network was trained on, in pixels.
    """

    scales: tuple[int, ...] = (688,)
    scale_rule: str = "area"
    window_rule: str = "appendix"
    region: int = REGION

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("scale rule", self.scale_rule, SCALE_RULES),
            ("window rule", self.window_rule, WINDOW_RULES),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} {value!r}: choose from {', '.join(allowed)}")


class Regions:
    """Features of windows of whole images.

    Args:
        net: a network with a pyramid, in evaluation mode; its device is used.
        rules: how windows are mapped.

    Attributes:
        pool_layer: the network's pyramid.

    Raises:
        ConfigError: a network without a pyramid, or one that is too large for the smallest scale.
    """

    def __init__(self, net: SPPClassifier, rules: RegionRules) -> None:
        info = model_info_of(net)
        if not isinstance(net.pool, SpatialPyramidPooling2d) or isinstance(net.head, ConvHead):
            raise ConfigError(
                "this network has no pyramid, so windows of different sizes give vectors of different lengths; train "
                "one with pyramid=l6321"
            )
        if min(rules.scales) < net.min_input_size:
            raise ConfigError(
                f"scale {min(rules.scales)}: this network needs {net.min_input_size} pixels at least"
            )
        # One memory format for all, as convolutions round differently in another.
        self.net = net.eval().to(memory_format=torch.channels_last)
        self.rules, self.pool_layer = rules, net.pool
        self._mean, self._std = info["mean"], info["std"]
        self.stride, self.center = net.backbone.stride, first_center(net.backbone)
        self.device = next(net.parameters()).device

    @property
    def pooled_length(self) -> int:
        """Length of a pooled vector."""
        return self.pool_layer.output_length(self.net.backbone.out_channels)

    def layer_names(self) -> list[str]:
        """``spp``, then the hidden layers: ``fc6``, ``fc7``."""
        return [POOLED, *(name for name, _ in self.net.head.hidden.named_children())]

    def check_layer(self, layer: str) -> None:
        """Raise ConfigError for a layer that the network has not."""
        if layer not in self.layer_names():
            raise ConfigError(f"layer {layer!r}: this network has {', '.join(self.layer_names())}")

    def backbone_key(self) -> str:
        """What tells maps of this backbone from those of all others."""
        digest = hashlib.blake2b(repr((self._mean, self._std)).encode(), digest_size=12)
        for name, value in self.net.backbone.state_dict().items():
            digest.update(f"{name}{tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def map_sizes(self, size: Size) -> list[Size]:
        """(h, w) of the maps of an image of (height, width), one for each scale."""
        return [self.net.backbone.feature_size(*whole_size(size, scale)) for scale in self.rules.scales]

    def resized(self, image: Tensor, scale: int) -> Tensor:
        """uint8 (3, H, W) at a scale: uint8 (3, h, w); raises ImageError as :meth:`map_at`."""
        return resize_to_be_seen(image, scale, self.net.min_input_size)

    def seen(self, image: Tensor, scale: int) -> Tensor:
        """uint8 (3, H, W) as the network takes it at a scale: (1, 3, h, w); raises ImageError as :meth:`map_at`."""
        resized = self.resized(image, scale)
        size = (resized.shape[1], resized.shape[2])
        return prepare_batch(resized[None].to(self.device), size, self._mean, self._std)

    @torch.inference_mode()
    def map_at(self, image: Tensor, scale: int) -> Tensor:
        """The map of uint8 (3, H, W) at a scale: (C, h, w) on the CPU, of float16, as maps are kept.

        A map with values beyond float16 is float32.

        Raises:
            ImageError: the image is so elongated that too little is left of its shorter side.
        """
        found = self.net.forward_features(self.seen(image, scale))[0].float().cpu().contiguous()
        return found if float(found.abs().max()) > LARGEST_HALF else found.half()

    def maps(self, image: Tensor) -> list[Tensor]:
        """The maps of an image at every scale."""
        return [self.map_at(image, scale) for scale in self.rules.scales]

    def cells(self, boxes: np.ndarray, size: Size) -> np.ndarray:
        """Where windows of an image of (height, width) lie on its maps.

        Returns:
            int64 (N, 5): number of the scale, top, left, bottom, right; the latter two one past the last cell.
        """
        rules = self.rules
        chosen = choose_scale(boxes, size, rules.scales, rules.scale_rule, rules.region)
        result = np.empty((len(boxes), 5), np.int64)
        for number, (scale, map_size) in enumerate(zip(rules.scales, self.map_sizes(size), strict=True)):
            of_scale = chosen == number
            resized = whole_size(size, scale)
            result[of_scale, 0] = number
            for axis in (0, 1):  # rows, then columns
                first, last = pixels_between(
                    boxes[of_scale, 1 - axis], boxes[of_scale, 3 - axis], size[axis], resized[axis], rules
                )
                begin, end = cells_between(
                    first, last, map_size[axis], self.stride, self.center, rules.window_rule
                )
                result[of_scale, 1 + axis], result[of_scale, 3 + axis] = begin, end
        return result

    @torch.inference_mode()
    def pool(self, maps: Sequence[Tensor], cells: np.ndarray) -> Tensor:
        """Pooled vectors (N, C * bins), float32 on the network's device, of windows given by :meth:`cells`."""
        pyramid = self.pool_layer.pyramid
        rows = torch.empty(len(cells), pyramid.output_length(maps[0].shape[0]), device=self.device)
        for number, one in enumerate(maps):
            of_scale = np.flatnonzero(cells[:, 0] == number)
            if not len(of_scale):
                continue
            x = one.to(self.device).float()
            if self.pool_layer.mode == "max" and self.pool_layer.bin_rule == "adaptive":
                pooled = pool_max(x, cells[of_scale, 1:], pyramid)
            else:
                pooled = self.pool_from(x[None], cells[of_scale, 1:])
            rows[torch.from_numpy(of_scale).to(self.device)] = pooled
        return rows

    def pool_from(self, one: Tensor, corners: np.ndarray) -> Tensor:
        """Pooled vectors of windows (N, 4) of one map (1, C, h, w), with a gradient where the map has one."""
        windows = torch.from_numpy(np.insert(corners, 0, 0, axis=1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LevelLargerThanMapWarning)
            return pool_windows(
                one, windows, self.pool_layer.pyramid, self.pool_layer.mode, self.pool_layer.bin_rule
            )

    @torch.inference_mode()
    def layer(self, pooled: Tensor, name: str) -> Tensor:
        """Pooled vectors (N, length) to a layer's output (N, width), after its ReLU and without dropout."""
        x = pooled
        if name != POOLED:
            x = x * self.net.head.input_scale
            for child, block in self.net.head.hidden.named_children():
                x = block(x)
                if child == name:
                    break
        return x

    @torch.inference_mode()
    def probabilities(self, pooled: Tensor) -> Tensor:
        """Softmax of the network's classes (N, classes)."""
        return self.net.forward_head(pooled).softmax(1)


def pixels_between(
    begin: Any, end: Any, length: Any, resized: Any, rules: RegionRules, library: Any = np
) -> tuple[Any, Any]:
    """The first and the last pixel of windows along an axis of the resized image; they may lie between pixels.

    Args:
        begin, end: edges of the windows in the image, the latter one past the last pixel.
        length, resized: of the axis in the image, and as the network sees it.
        rules: of which the rule for windows counts.
        library: ``numpy``, or ``torch`` for tensors.
    """
    if rules.window_rule == "released":  # whose code maps the first pixel to the first, the last to the last
        factor = (resized - 1) / library.clip(length - 1, 1, None)
        return begin * factor, (end - 1) * factor
    factor = resized / length
    return begin * factor, end * factor - 1


def unique_cells(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Windows of different cells, in order of their first appearance, and which of them each window is.

    Windows of equal cells have equal vectors: 8 to 22 per cent of those of selective search need no work at all.
    """
    _, first, inverse = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return cells[first[order]], rank[inverse.reshape(-1)]
