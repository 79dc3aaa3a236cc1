"""Feature maps of a set's images, made once per image and scale and kept on disk (He et al. 2015, sec. 4.1).

A file holds one map, so that one more scale costs no more than its own maps, and a run that was killed goes on with the
next map. Files are told apart by the backbone's weights, the image's content and the scale.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sppcls.data.cache import amount
from sppcls.detection.pooled import Regions
from sppcls.detection.progress import Wrap, unseen
from sppcls.detection.store import Store
from sppcls.detection.truth import DetectionSet
from sppcls.errors import ConfigError, ImageError


class KeptMaps:
    """The maps of a set's images.

    Args:
        regions: the network and the scales.
        images: the set.
        cache: folder to keep them in.
    """

    def __init__(self, regions: Regions, images: DetectionSet, cache: Path) -> None:
        self.regions, self.images = regions, images
        self.store = Store(cache / "maps" / regions.backbone_key())
        self._digests = [images.digest(index) for index in range(len(images))]

    def bytes(self) -> int:
        """What all maps take on disk."""
        channels = self.regions.net.backbone.out_channels
        return sum(
            2 * channels * h * w for size in self.images.sizes for h, w in self.regions.map_sizes(size)
        )

    def make(self, say: Callable[[str], None] = print, progress: Wrap = unseen) -> None:
        """Make those that are not there yet.

        Raises:
            ConfigError: they do not fit on the disk, or cannot be written.
            ImageError: an image cannot be read.
        """
        missing = [i for i in range(len(self.images)) if not all(map(self.store.has, self._names(i)))]
        if not missing:
            return
        needed = self.bytes() * len(missing) // len(self.images)
        folder = next(p for p in (self.store.folder, *self.store.folder.parents) if p.exists())
        free = shutil.disk_usage(folder).free
        scales = ", ".join(map(str, self.regions.rules.scales))
        say(f"maps of {len(missing):,} images at {scales}: {amount(needed)} in {self.store.folder}")
        if needed > free:
            raise ConfigError(
                f"--cache {self.store.folder}: maps need about {amount(needed)} and {amount(free)} are free; name another "
                "folder, or take fewer scales"
            )
        for index in progress(missing, len(missing)):
            self[index]

    def __getitem__(self, index: int) -> list[Tensor]:
        """The maps of image number ``index``; made and kept if they are not there, or damaged."""
        found: list[Tensor] = []
        image: Tensor | None = None
        for scale, name in zip(self.regions.rules.scales, self._names(index), strict=True):
            kept = self.store.get(name)
            if kept is None:
                image = self.images.image(index) if image is None else image
                try:
                    found.append(self.regions.map_at(image, scale))
                except ImageError as error:
                    raise ImageError(f"{self.images.names[index]}: {error}") from None
                self.store.put(name, map=found[-1].numpy())
            else:
                found.append(torch.from_numpy(kept["map"]))
        return found

    def _names(self, index: int) -> list[str]:
        return [f"{self._digests[index]}-{scale}" for scale in self.regions.rules.scales]
