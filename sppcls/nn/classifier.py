"""Backbone, pooling and head as one network that takes images of any size (He et al. 2015, Figure 1)."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from sppcls.nn.backbones import as_backbone
from sppcls.nn.heads import ConvHead, Head, OwnHead
from sppcls.nn.pool.windows import pool_windows
from sppcls.nn.spp import SpatialPyramidPooling2d

_LARGEST_SIDE = 1 << 20  # pixels; where the search for an image that is large enough ends


class SPPClassifier(nn.Module):
    """Images to logits: ``forward_head(forward_pool(forward_features(x)))``.

    Args:
        backbone: images to feature maps; a module that is no :class:`Backbone` is made one by
            :func:`~sppcls.nn.backbones.as_backbone`.
        pool: maps to what the head takes: a :class:`SpatialPyramidPooling2d`, or another pooling that ends in
            vectors, or ``nn.Identity()`` before a :class:`ConvHead`.
        head: vectors (or maps) to logits; a module that is no :class:`Head` becomes an :class:`OwnHead`.
        fixed_size: the only (height, width) of images that the head can take, for a network without a pyramid
            whose pooling gives vectors of varying length; None if any size will do.

    Examples:
        >>> trunk = zf5()
        >>> pool = SpatialPyramidPooling2d([3, 2, 1])
        >>> net = SPPClassifier(trunk, pool, FCHead(pool.output_length(trunk.out_channels), [64], 10))
        >>> tuple(net(torch.randn(2, 3, 180, 224)).shape)
        (2, 10)
    """

    model_info: dict[str, Any]
    """What a checkpoint says of the network it holds; set by whoever loads one."""

    def __init__(
        self,
        backbone: nn.Module,
        pool: nn.Module,
        head: nn.Module,
        fixed_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = as_backbone(backbone)
        self.pool = pool
        self.head = head if isinstance(head, Head) else OwnHead(head)
        self.fixed_size = fixed_size

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W), float, to logits (N, classes).

        Raises:
            ValueError: not a batch of images, or images of a size that the network cannot take (see
                :meth:`check_input_size`).
        """
        return self.forward_head(self.forward_pool(self.forward_features(x)))

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) to feature maps (N, C, h, w)."""
        if x.dim() != 4:
            raise ValueError(f"expected a batch of images (N, 3, H, W), got {tuple(x.shape)}")
        if self.fixed_size is not None:
            self.check_input_size(x.shape[2], x.shape[3])
        try:
            return self.backbone(x)
        except RuntimeError:
            # Torch speaks of kernels; say which image sizes would do, if that is the reason.
            self.check_input_size(x.shape[2], x.shape[3])
            raise

    def forward_pool(self, feature_map: Tensor) -> Tensor:
        """Maps (N, C, h, w) to vectors (N, length), or to themselves before a fully-convolutional head."""
        return self.pool(feature_map)

    def forward_head(self, pooled: Tensor) -> Tensor:
        """What :meth:`forward_pool` gives, to logits (N, classes)."""
        return self.head(pooled)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Layer outputs by name: ``map``, ``spp`` (the pooled vector), ``fc6``, ``fc7``, ..., ``logits``.

        Hidden layers are taken after ReLU, and after dropout while training. With a fully-convolutional head
        they are maps, and there is no ``spp``.
        """
        feature_map = self.forward_features(x)
        pooled = self.forward_pool(feature_map)
        vector = {} if self.head.takes_maps else {"spp": pooled}
        return {"map": feature_map, **vector, **self.head.activations(pooled)}

    def forward_windows(self, feature_map: Tensor, windows: Tensor) -> Tensor:
        """Logits (K, classes) of windows of feature maps (He et al. 2015, sec. 3.1.5).

        Args:
            feature_map: (N, C, h, w), from :meth:`forward_features`.
            windows: integers (K, 5): map index, top, left, bottom, right in cells; see
                :func:`~sppcls.nn.pool.windows.pool_windows`.

        Raises:
            ValueError: bad windows, or a network that has neither a pyramid nor a fully-convolutional head.
        """
        if self.head.takes_maps:
            logits_map = cast(ConvHead, self.head).logits_map(feature_map)
            return pool_windows(logits_map, windows, [1], "avg")
        if not isinstance(self.pool, SpatialPyramidPooling2d):
            raise ValueError("windows of any size need a pyramid; this network pools whole maps only")
        return self.forward_head(
            pool_windows(feature_map, windows, self.pool.pyramid, self.pool.mode, self.pool.bin_rule)
        )

    @property
    def takes_windows(self) -> bool:
        """Whether :meth:`forward_windows` can be asked: with a pyramid, or a fully-convolutional head."""
        return self.head.takes_maps or isinstance(self.pool, SpatialPyramidPooling2d)

    @property
    def min_input_size(self) -> int:
        """Side of the smallest square image that :meth:`check_input_size` accepts.

        Raises:
            ValueError: it accepts no square image, as the only size that it takes is not square.
        """
        smallest = self._smallest_square()
        if smallest is None:
            raise ValueError(f"no square image can be classified; {self._allowed()}")
        return smallest

    def check_input_size(self, height: int, width: int) -> None:
        """Raise ValueError, naming what is allowed, if a height x width image cannot be classified."""
        problem = self._problem(height, width)
        if problem is not None:
            raise ValueError(f"input_size={height}x{width}: {problem}; {self._allowed()}")

    def _allowed(self) -> str:
        if self.fixed_size is not None:
            return f"this network takes {self.fixed_size[0]}x{self.fixed_size[1]} only, as it has no pyramid"
        side = self._smallest_square()
        return "no square will do" if side is None else f"the smallest square is {side}x{side}"

    def _smallest_square(self) -> int | None:
        if self.fixed_size is not None:
            height, width = self.fixed_size
            return height if height == width else None
        high = 32
        while self._problem(high, high) is not None:
            if high >= _LARGEST_SIDE:
                return None
            high *= 2
        low = 1
        while low < high:
            middle = (low + high) // 2
            if self._problem(middle, middle) is None:
                high = middle
            else:
                low = middle + 1
        return low

    def _problem(self, height: int, width: int) -> str | None:
        """Why a height x width image cannot be classified; None if it can."""
        if self.fixed_size is not None and (height, width) != self.fixed_size:
            return "not the size that the head was built for"
        feature_size = self.backbone.feature_size(height, width)
        if min(feature_size) < 1:
            return f"too small for {self.backbone.name}, its feature map would be empty"
        if isinstance(self.pool, SpatialPyramidPooling2d):
            try:
                self.pool.pyramid.check_map_size(feature_size, self.pool.bin_rule)
            except ValueError as error:
                return str(error)
        return None
