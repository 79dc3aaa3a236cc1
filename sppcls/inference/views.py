"""What a network sees of an image when its features are taken: all of it, or the central crop."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sppcls._util.near import choose_from
from sppcls.data.geometry import default_shorter_side
from sppcls.data.sizes import Size
from sppcls.data.stream import resize_to_be_seen
from sppcls.data.transforms import EvalTransform
from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import model_info_of

VIEWS = ("full", "crop")


@dataclass(frozen=True)
class View:
    """What the network sees of an image, whose shorter side is first made ``shorter_side`` pixels.

    Attributes:
        kind: ``full``: the whole image, its aspect kept; ``crop``: the central ``region``.
        shorter_side: in pixels.
        region: (height, width) of a crop in pixels.
        smallest: shorter side of the smallest image that the network takes.
    """

    kind: str
    shorter_side: int
    region: Size
    smallest: int

    @property
    def example(self) -> Size:
        """(height, width) of what the network sees of a square image."""
        return self.region if self.kind == "crop" else (self.shorter_side, self.shorter_side)

    def __str__(self) -> str:
        size = "" if self.kind == "full" else f" {self.region[0]}x{self.region[1]}"
        return f"{self.kind}{size}, shorter side {self.shorter_side}"

    def __call__(self, image: Tensor) -> Tensor:
        """uint8 (3, H, W) to uint8 (3, h, w); raises ImageError if too little is left of a very long image."""
        if self.kind == "crop":
            return EvalTransform(self.region, self.shorter_side)(image)
        return resize_to_be_seen(image, self.shorter_side, self.smallest)


def choose_view(net: SPPClassifier, kind: str | None = None, shorter_side: int | None = None) -> View:
    """Check a view against a network.

    Args:
        net: from :func:`sppcls.load_classifier`.
        kind: one of :data:`VIEWS`; None: ``full``, or ``crop`` for a network that takes images of one size only.
        shorter_side: in pixels; None: that of the validation in training, 256 for 224.

    Raises:
        ConfigError: an unknown view, whole images for a network of one size, or a side that is too small.
    """
    model_info = model_info_of(net)
    region: Size = tuple(model_info["val_sizes"][0])
    kind = kind or ("full" if net.fixed_size is None else "crop")
    if kind not in VIEWS:
        raise ConfigError(f"view {kind!r}: {choose_from(kind, VIEWS)}")
    if kind == "full" and net.fixed_size is not None:
        raise ConfigError(
            f"view 'full': this network has no pyramid and takes images of {region[0]}x{region[1]} only; "
            "take view crop"
        )
    side = default_shorter_side(region) if shorter_side is None else shorter_side
    smallest = net.min_input_size if kind == "full" else 1
    least = min(region) if kind == "crop" else smallest
    if side < least:
        what = f"the {region[0]}x{region[1]} crop" if kind == "crop" else "this network"
        raise ConfigError(f"shorter side {side}: {what} needs at least {least} pixels")
    return View(kind, side, region, smallest)
