"""Outputs of several layers for many images, in one pass and in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sppcls.data.decode import read_image
from sppcls.data.pixel_range import PixelRange, trained_pixel_range
from sppcls.data.sizes import Size
from sppcls.data.stream import in_chunks, load_each, readable, same_shape_batches
from sppcls.data.transforms import prepare_batch
from sppcls.errors import ImageError
from sppcls.inference.layers import layer_lengths, read_layers
from sppcls.inference.views import View
from sppcls.nn import SPPClassifier
from sppcls.nn.spp import repeats_expected


class RowFile:
    """A temporary file of float32 rows of one length, for more rows than fit into memory."""

    def __init__(self, path: Path) -> None:
        self._path, self._shape = path, (0, 0)

    def __enter__(self) -> RowFile:
        self._file = open(self._path, "wb")
        return self

    def append(self, rows: np.ndarray) -> None:
        """Add rows (n, length)."""
        self._file.write(np.ascontiguousarray(rows, np.float32).data)
        self._file.flush()  # a full disk raises here
        self._shape = (self._shape[0] + len(rows), rows.shape[1])

    def array(self) -> np.ndarray:
        """All rows (N, length), mapped from the file, while it is open."""
        return np.memmap(self._path, np.float32, "r", shape=self._shape)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what did not fit would be tried again
            self._file.close()
        self._path.unlink(missing_ok=True)


class _ImagesOnDemand:
    """Image number -> what the network sees of it."""

    def __init__(self, paths: Sequence[Path], view: View, pixel_range: PixelRange) -> None:
        self.paths, self.view, self.pixel_range = paths, view, pixel_range

    def __call__(self, index: int) -> Tensor:
        image = read_image(self.paths[index], pixel_range=self.pixel_range)
        try:
            return self.view(image)
        except ImageError as error:
            raise ImageError(f"{self.paths[index]}: {error}") from None


def stream_features(
    net: SPPClassifier,
    paths: Sequence[Path],
    layers: Sequence[str],
    view: View,
    *,
    bad: list[str],
    batch_size: int = 32,
    workers: int = 0,
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """Outputs of several layers in one pass over the images, some hundred images at a time.

    Args:
        net: its device is used; it is in evaluation mode while images are read.
        paths: of the images.
        layers, view: checked by :func:`check_layers` and :func:`choose_view`.
        bad: takes a line for each image that cannot be read.
        batch_size: images at once, where shapes agree.
        workers: processes that read images.

    Yields:
        Numbers of the images, in order, and by layer their rows, float32 (n, length).
    """
    reading = _ImagesOnDemand(paths, view, trained_pixel_range(net.model_info))
    training = net.training
    net.eval()
    try:
        # A warning for every shape of images would be too many; see layers.repeated_levels.
        with repeats_expected():
            lengths = layer_lengths(net, layers, view.example)
        row_bytes = 4 * sum(lengths.values())
        loaded = load_each(reading, len(paths), workers)
        shown = tqdm(loaded, total=len(paths), disable=None, leave=False, unit="image", desc=view.kind)
        for chunk in in_chunks(readable(shown, bad), lambda one: one[1].numel() + row_bytes):
            rows = {layer: np.empty((len(chunk), length), np.float32) for layer, length in lengths.items()}
            _fill(net, rows, [image for _, image in chunk], batch_size)
            yield [index for index, _ in chunk], rows
    finally:
        net.train(training)


def _fill(net: SPPClassifier, rows: dict[str, np.ndarray], images: Sequence[Tensor], batch_size: int) -> None:
    """Compute the rows of ``images``."""
    model_info = net.model_info
    device = next(net.parameters()).device
    for batch in same_shape_batches(range(len(images)), lambda i: _shape(images[i]), batch_size):
        with torch.inference_mode(), repeats_expected():
            stacked = torch.stack([images[i] for i in batch]).to(device)
            x = prepare_batch(stacked, _shape(stacked[0]), model_info["mean"], model_info["std"])
            for layer, output in read_layers(net, x, list(rows)).items():
                rows[layer][batch] = output.float().cpu().numpy()


def _shape(image: Tensor) -> Size:
    return image.shape[1], image.shape[2]
