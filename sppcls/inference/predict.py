"""Classes of images of any size, one image after the other: :func:`predict`."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from sppcls._util.figures import THRESHOLD
from sppcls._util.threads import Later, OnDemand, one_core_each
from sppcls.data import EvalTransform, PixelRange, prepare_batch, read_image, trained_pixel_range
from sppcls.data.geometry import default_shorter_side
from sppcls.data.sizes import Size
from sppcls.data.stream import (
    CHUNK_BYTES,
    CHUNK_ITEMS,
    MAX_RESIZED_PIXELS,
    Loaded,
    load_each,
    resize_whole,
    same_shape_batches,
)
from sppcls.errors import ConfigError, ImageError
from sppcls.inference.images import Given, given_images, pixels_of
from sppcls.nn import SPPClassifier
from sppcls.nn.model_info import is_multi_label, model_info_of, probabilities
from sppcls.nn.spp import repeats_expected

_FEW = 8
"""Images for which beginning processes and threads takes longer than it saves."""

ShorterSide = int | Literal["native"] | None
"""Pixels; or the image's own; or None for the checkpoint's: 256 for a network of 224."""


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, or why there are none.

    Of a network of several labels, all classes from the threshold on, none perhaps.

    Attributes:
        path: the image file; ``image 1``, ``image 2``, ... for images in memory, by their position in the list.
        classes: names, the most probable class first; empty if there is an error.
        probabilities: softmax of the logits for each of these, or sigmoid with several labels, in 0..1.
        error: why the image could not be classified; None if it was.
    """

    path: Path
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None


def predict(
    net: SPPClassifier,
    images: Any,
    *,
    top: int | None = None,
    threshold: float | None = None,
    shorter_side: ShorterSide = None,
    batch_size: int = 32,
    workers: int = 0,
) -> Iterator[Prediction]:
    """Classify images and all images in and below folders, in that order, as they are read.

    A network of any image size sees the whole image, aspect kept. One without a pyramid that takes a single size
    sees the centre, as in validation. The result depends neither on the batch nor on the other images.

    On a CPU, more than a few images go through the network in several threads at a time (``torch.get_num_threads()``), each
    with a core of its own; hooks on the network are called in them.

    Args:
        net: from :func:`sppcls.load_classifier`, on any device.
        images: an image or several: paths of files and folders, PIL images, numpy arrays (H, W, 3) or (H, W) and torch
            tensors (3, H, W), both uint8 or floating point in 0..1, bytes of image files, and open files.
        top: most classes per image; None: 5, or of a network of several labels all from the threshold on.
        threshold: the lowest probability of a class that is given; None: any, or 0.5 of a network of several labels where
            ``top`` is None, too.
        shorter_side: of the resized image in pixels, ``"native"`` for the image's own size, None for the
            checkpoint's (256 for a network of 224). Images are resized to ``MAX_RESIZED_PIXELS`` at most.
        batch_size: images at once, where their resized shapes agree.
        workers: processes that read images; 0: this one.

    Returns:
        an iterator of one :class:`Prediction` per image; a bad image is one with an ``error``.

    Raises:
        ConfigError: an argument that the network cannot work with, or an image of another shape, type or range.
        DataError: a file or folder that does not exist, or a folder without an image.

    Examples:
        >>> for p in sppcls.predict(net, ["photo.jpg", "folder"], top=2):
        ...     print(p.path, p.error or list(zip(p.classes, p.probabilities)))
    """
    return predict_files(
        net,
        given_images(images, trained_pixel_range(model_info_of(net))),
        top=top,
        threshold=threshold,
        shorter_side=shorter_side,
        batch_size=batch_size,
        workers=workers,
    )


def predict_files(
    net: SPPClassifier,
    files: Sequence[Given],
    *,
    top: int | None = None,
    threshold: float | None = None,
    shorter_side: ShorterSide = None,
    batch_size: int = 32,
    workers: int = 0,
) -> Iterator[Prediction]:
    """:func:`predict` for images that :func:`~sppcls.inference.images.given_images` has listed."""
    answer = answers_of(net, top, threshold)
    for name, value, least in (
        ("top", answer.top, 1),
        ("batch_size", batch_size, 1),
        ("workers", workers, 0),
    ):
        if value < least:
            raise ConfigError(f"{name}={value}: must be at least {least}")
    if not 0 <= answer.threshold <= 1:
        raise ConfigError(f"threshold={threshold}: must be a probability, 0 to 1")
    if net.training:
        raise ConfigError("the network is in training mode; call net.eval() first")
    reader = _Reader(files, _transform(net, shorter_side), trained_pixel_range(model_info_of(net)))
    # Each worker takes eight images at a time.
    workers = min(workers, math.ceil(len(files) / 8)) if len(files) > _FEW else 0
    loaded = load_each(reader, len(files), workers)
    return _predictions(net, files, loaded, answer, batch_size)


class Answers(NamedTuple):
    """Which classes of an image are given: at most ``top``, from the probability ``threshold`` on."""

    top: int
    threshold: float


def answers_of(net: SPPClassifier, top: int | None, threshold: float | None) -> Answers:
    """What ``top`` and ``threshold`` of :func:`predict` stand for."""
    model_info = model_info_of(net)
    several = is_multi_label(model_info)
    if threshold is None:
        threshold = THRESHOLD if several and top is None else 0.0
    if top is None:
        top = len(model_info["classes"]) if several else 5
    return Answers(top, threshold)


def _transform(net: SPPClassifier, shorter_side: ShorterSide) -> Callable[[torch.Tensor], torch.Tensor]:
    """What is done to an image, uint8 (3, H, W), before the network; impossible sizes are refused."""
    if net.fixed_size is not None:
        if shorter_side is not None:
            raise ConfigError(
                f"shorter side {shorter_side}: this network has no pyramid and takes the central "
                f"{net.fixed_size[0]}x{net.fixed_size[1]} of an image only; leave the shorter side out"
            )
        return EvalTransform(net.fixed_size)
    if shorter_side == "native":
        return partial(resize_whole, shorter_side=None)
    if shorter_side is None:
        height, width = model_info_of(net)["val_sizes"][0]
        return partial(resize_whole, shorter_side=default_shorter_side((height, width)))
    least, most = net.min_input_size, int(MAX_RESIZED_PIXELS**0.5)
    if not least <= shorter_side <= most:
        raise ConfigError(
            f"shorter side {shorter_side}: this network takes {least} to {most} pixels, or 'native'"
        )
    return partial(resize_whole, shorter_side=shorter_side)


class _Reader:
    """Image number i, ready for a batch: uint8 (h, w, 3), which load_each passes on as bytes."""

    def __init__(
        self,
        images: Sequence[Given],
        transform: Callable[[torch.Tensor], torch.Tensor],
        pixel_range: PixelRange,
    ) -> None:
        # Text takes a fifth of the memory of a path, and every worker has a copy.
        self.images = [str(image) if isinstance(image, Path) else image for image in images]
        self.transform, self.pixel_range = transform, pixel_range

    def __call__(self, index: int) -> np.ndarray:
        given = self.images[index]
        try:
            if isinstance(given, str):
                pixels = read_image(given, pixel_range=self.pixel_range)
            else:
                pixels = pixels_of(given, self.pixel_range)
            image = self.transform(pixels)
        except ImageError as error:
            raise ImageError(
                str(error).removeprefix(f"{given}: ") if isinstance(given, str) else str(error)
            ) from None
        except MemoryError:
            raise ImageError("too large for the memory that is left") from None
        return image.permute(1, 2, 0).contiguous().numpy()


def _shape(item: Loaded[np.ndarray]) -> Size:
    assert item.value is not None
    return item.value.shape[0], item.value.shape[1]


def _chunks(loaded: Iterable[Loaded[np.ndarray]]) -> Iterator[list[Loaded[np.ndarray]] | None]:
    """Lists to find equal shapes in, and None after every other image.

    Each list is as long as all before it: the first results come soon.
    """
    chunk: list[Loaded[np.ndarray]] = []
    length, held = 16, 0
    for count, item in enumerate(loaded, 1):
        chunk.append(item)
        held += 0 if item.value is None else item.value.nbytes
        if len(chunk) < length and held < CHUNK_BYTES:
            yield None
        else:
            yield chunk
            chunk, length, held = [], min(count, CHUNK_ITEMS), 0
    if chunk:
        yield chunk


def _predictions(
    net: SPPClassifier,
    files: Sequence[Given],
    loaded: Iterable[Loaded[np.ndarray]],
    answer: Answers,
    batch_size: int,
) -> Iterator[Prediction]:
    """The answers, in order; a chunk is read while the network has the one before."""
    smallest = net.min_input_size
    names = [file if isinstance(file, Path) else Path(f"image {n}") for n, file in enumerate(files, 1)]
    done: dict[int, Prediction] = {}
    asked: deque[_Asked] = deque()
    following = 0
    with ExitStack() as stack:
        threads: ThreadPoolExecutor | None = None
        for chunk in itertools.chain(_chunks(loaded), [[]]):
            if threads is None and chunk and len(files) > _FEW and _gains_from_threads(net):
                threads = stack.enter_context(one_core_each())  # the processes that read have begun
            of_earlier = 0 if chunk is None else len(asked)
            fit: list[Loaded[np.ndarray]] = []
            for item in chunk or ():
                reason = item.error if item.value is None else _misfit(net, _shape(item), smallest)
                if reason:
                    done[item.index] = Prediction(names[item.index], error=reason)
                else:
                    fit.append(item)
            asked.extend(_ask(net, fit, answer, batch_size, threads))
            while True:
                while following in done:
                    yield done.pop(following)
                    following += 1
                if not asked or not (of_earlier > 0 or asked[0][1].done()):
                    break
                batch, later = asked.popleft()
                of_earlier -= 1
                for item, (classes, values, error) in zip(batch, later.result(), strict=True):
                    done[item.index] = Prediction(names[item.index], classes, values, error)


def _ask(
    net: SPPClassifier,
    images: list[Loaded[np.ndarray]],
    answer: Answers,
    batch_size: int,
    threads: ThreadPoolExecutor | None,
) -> list[_Asked]:
    """Batches of equal shape and what the network will say of them.

    In the order of their first images: then all that come before it are done when a batch is.
    """
    if threads is not None:  # enough batches to keep all of them at work
        batch_size = max(1, min(batch_size, len(images) // (2 * torch.get_num_threads())))
    asked: list[_Asked] = []
    batches = same_shape_batches(images, _shape, batch_size)
    for batch in sorted(batches, key=lambda batch: batch[0].index):
        work = partial(_classify, net, [item.value for item in batch if item.value is not None], answer)
        height, width = _shape(batch[0])
        # The maps of larger images would be in memory as many times as there are threads.
        alone = threads is None or height * width > _CPU_PIXELS
        asked.append((batch, OnDemand(work) if alone or threads is None else threads.submit(work)))
    return asked


def _gains_from_threads(net: SPPClassifier) -> bool:
    """Whether several threads with a core each answer sooner than one with all; in them, a caller's autocast is not in force."""
    on_cpu = next(net.parameters()).device.type == "cpu"
    return on_cpu and torch.get_num_threads() > 1 and not torch.is_autocast_enabled("cpu")


def _misfit(net: SPPClassifier, shape: Size, smallest: int) -> str:
    """Why the network cannot take a resized image; an empty text if it can."""
    if min(shape) >= smallest:
        return ""
    try:
        net.check_input_size(*shape)
    except ValueError:
        height, width = shape
        if 2 * height * width > MAX_RESIZED_PIXELS:  # made smaller than asked for, to be seen whole
            return (
                f"too elongated: resized to {height}x{width} it is too long to be seen whole, as this network needs "
                f"{smallest} pixels"
            )
        return f"too small: {shape[0]}x{shape[1]} for the network, which takes {smallest}x{smallest} at least"
    return ""


_CPU_PIXELS = 2 * 256 * 384
"""In the convolutions at once, on a CPU: for the feature maps of more, the system must find new memory every time,
which takes as long as a third of the work. The head takes the whole batch: its weights are then read once."""

_Found = tuple[tuple[str, ...], tuple[float, ...], str | None]
_Asked = tuple[list[Loaded[np.ndarray]], Later[list[_Found]]]


def _classify(net: SPPClassifier, images: list[np.ndarray], answer: Answers) -> list[_Found]:
    """Classes, probabilities and error of images uint8 (h, w, 3) of one shape."""
    if not images:
        return []
    # What follows is outside the block, as the exception holds on to the tensors.
    with contextlib.suppress(torch.OutOfMemoryError):
        return _forward(net, images, answer)
    if len(images) == 1:
        height, width = images[0].shape[:2]
        return [((), (), f"too large: {height}x{width} for the network, beyond the memory of the device")]
    half = len(images) // 2
    return [*_classify(net, images[:half], answer), *_classify(net, images[half:], answer)]


@torch.inference_mode()
def _forward(net: SPPClassifier, images: list[np.ndarray], answer: Answers) -> list[_Found]:
    model_info, device = model_info_of(net), next(net.parameters()).device
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)
    size = (pixels.shape[2], pixels.shape[3])
    part = max(1, _CPU_PIXELS // (size[0] * size[1])) if device.type == "cpu" else len(images)
    with repeats_expected():  # by nearly every shape of small images
        pooled = [
            net.forward_pool(
                net.forward_features(prepare_batch(x, size, model_info["mean"], model_info["std"]))
            )
            for x in pixels.split(part)
        ]
        logits = net.forward_head(torch.cat(pooled)).cpu().double()
    # A stable sort: equal logits are in the order of the classes, whatever the batch.
    order = logits.argsort(dim=1, descending=True, stable=True)[:, : answer.top]
    found = probabilities(logits, is_multi_label(model_info)).gather(1, order)
    names = model_info["classes"]
    results: list[_Found] = []
    for numbers, values in zip(order.tolist(), found.tolist(), strict=True):
        if not np.isfinite(values).all():
            results.append(
                ((), (), "the network's output is not finite; its weights are damaged, or training diverged")
            )
            continue
        count = sum(value >= answer.threshold for value in values)  # the most probable come first
        results.append((tuple(names[i] for i in numbers[:count]), tuple(values[:count]), None))
    return results
