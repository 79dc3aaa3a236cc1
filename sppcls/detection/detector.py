"""A trained detector: the network, scores of classes, box regression and how windows are made, in one file."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sppcls._util.files import replacing
from sppcls._util.reason import reason_of
from sppcls.data.decode import read_image
from sppcls.data.pixel_range import PixelRange, trained_pixel_range
from sppcls.data.sizes import Size
from sppcls.detection.ap import Detections
from sppcls.detection.boxes import nms
from sppcls.detection.compress import Outputs, compress_fc
from sppcls.detection.pooled import RegionRules, Regions, unique_cells
from sppcls.detection.proposals import Proposer
from sppcls.detection.regression import BoxRegression
from sppcls.detection.svm import Scorer
from sppcls.detection.tuning import BACKGROUND
from sppcls.errors import CheckpointError, ConfigError
from sppcls.inference.images import Given, given_images, pixels_of
from sppcls.nn import SPPClassifier
from sppcls.runs.checkpoint import load_classifier, read_checkpoint

FORMAT = 1


@dataclass(frozen=True)
class Choice:
    """What becomes of scores.

    Attributes:
        min_score: boxes below are dropped.
        nms: a box that overlaps a better one of its class by more (IoU) is dropped.
        per_class: the most boxes of a class in an image.
        shown: the score of each class from which on a box is worth showing; those below rank in average precision.
    """

    min_score: float = -1.5
    nms: float = 0.3
    per_class: int = 100
    shown: tuple[float, ...] = ()


@dataclass
class Detector:
    """Finds objects in photos of any size.

    Attributes:
        regions: the network and how windows are mapped to its maps.
        classes: names.
        layer: whose output is scored.
        scorer: linear scores; None: the softmax of the network, whose last class is the background.
        regression: moves boxes; None: they stay.
        proposer: how windows are proposed.
        choice: what becomes of scores.
        about: how it was trained, in plain values.
        outputs: of the hidden layers; see :func:`~sppcls.detection.compress.compress_fc`.
        seconds: spent in each stage since it was loaded.
    """

    regions: Regions
    classes: tuple[str, ...]
    layer: str
    scorer: Scorer | None
    regression: BoxRegression | None
    proposer: Proposer
    choice: Choice
    about: dict[str, Any]
    outputs: dict[str, Outputs] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)

    def detect(self, image: Any, windows: np.ndarray | None = None) -> Detections:
        """Objects of one image.

        Args:
            image: a path, a PIL image, an array (H, W, 3), a tensor (3, H, W) or the bytes of a file, as of
                :func:`sppcls.predict`. Boxes are in the photo as it is seen: EXIF rotation is applied.
            windows: (N, 4); None: as the detector proposes them.

        Raises:
            ConfigError, DataError, ImageError: it is no image, or cannot be read.
        """
        pixel_range = trained_pixel_range(self.regions.net.model_info)
        given = given_images(image, pixel_range)
        if len(given) != 1:
            raise ConfigError(f"detect takes one image at a time, not {len(given)}")
        pixels = read_pixels(given[0], pixel_range)
        if windows is None:
            with self.timed("windows"):
                windows = self.proposer(pixels)
        with self.timed("maps"):
            maps = self.regions.maps(pixels)
        return self.detect_on(maps, windows, (pixels.shape[1], pixels.shape[2]))

    def detect_on(self, maps: Sequence[Tensor], windows: np.ndarray, size: Size) -> Detections:
        """Objects of an image of (height, width) with its maps."""
        with self.timed("pooling"):
            cells, places = unique_cells(self.regions.cells(windows, size))
            pooled = self.regions.pool(maps, cells)
        with self.timed("fc"):
            scores = self.scores(pooled)
        with self.timed("boxes"):
            return self._choose(scores[places].astype(np.float64), windows, pooled, places, size)

    def scores(self, pooled: Tensor) -> np.ndarray:
        """Scores of pooled vectors (N, length), before any box is dropped: float32 (N, classes)."""
        if self.scorer is None:
            return self.regions.probabilities(pooled)[:, :-1].cpu().numpy()
        return self.scorer(self.regions.layer(pooled, self.layer).cpu().numpy())

    def _choose(
        self, scores: np.ndarray, windows: np.ndarray, pooled: Tensor, places: np.ndarray, size: Size
    ) -> Detections:
        parts = []
        for label in range(len(self.classes)):
            mine = np.flatnonzero(scores[:, label] > self.choice.min_score)
            mine = mine[nms(windows[mine], scores[mine, label], self.choice.nms)[: self.choice.per_class]]
            found = Detections(windows[mine], np.full(len(mine), label), scores[mine, label])
            if self.regression is not None and len(mine):
                rows = pooled[torch.from_numpy(places[mine]).to(pooled.device)].cpu().numpy()
                moved = self.regression(label, rows, found.boxes, size)
                found = Detections(moved, found.labels, found.scores)[(moved[:, 2:] > moved[:, :2]).all(1)]
                # Boxes that were apart may meet.
                found = found[nms(found.boxes, found.scores, self.choice.nms)]
            parts.append(found)
        return Detections.joined(parts)

    def worth_showing(self, found: Detections, least: float | None = None) -> Detections:
        """Detections from a score on; None: from the score of their class that gave the best F1 on training images."""
        scores = np.array(self.choice.shown)[found.labels] if least is None else least
        return found[found.scores >= scores]

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """A block whose time counts for a stage of :attr:`seconds`."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - begin  # type: ignore[assignment]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the detector; :func:`load_detector` needs nothing else, and ``weights_only=True`` reads it.

        The file is also a checkpoint of the network: :func:`sppcls.load_classifier` gives that.

        Raises:
            ConfigError: the file cannot be written, or the layers were compressed.
        """
        net = self.regions.net
        if any(isinstance(block[0], nn.Sequential) for block in net.head.hidden.children()):  # type: ignore[index]
            raise ConfigError(
                f"{path}: a detector whose layers are compressed is not saved; save it without svd"
            )
        parts: dict[str, Any] = {
            "format": FORMAT,
            "classes": list(self.classes),
            "layer": self.layer,
            "rules": dataclasses.asdict(self.regions.rules),
            "proposer": dataclasses.asdict(self.proposer),
            "choice": dataclasses.asdict(self.choice),
            "scorer": self.scorer and {k: torch.from_numpy(array) for k, array in vars(self.scorer).items()},
            "regression": self.regression
            and {k: torch.from_numpy(array) for k, array in vars(self.regression).items()},
            "about": self.about,
            "outputs": {name: dataclasses.asdict(one) for name, one in self.outputs.items()},
        }
        state = {f"net.{name}": value.cpu() for name, value in net.state_dict().items()}
        with replacing(path) as temporary:
            torch.save({"sppcls": net.model_info, "state_dict": state, "detector": parts}, temporary)


def read_pixels(given: Given, pixel_range: PixelRange) -> Tensor:
    """uint8 (3, H, W) of a file or of an image in memory."""
    if isinstance(given, Path):
        return read_image(given, pixel_range=pixel_range)
    return pixels_of(given, pixel_range)


def load_detector(
    path: str | os.PathLike[str], map_location: Any = "cpu", svd: float | None = None
) -> Detector:
    """A detector from its file.

    Args:
        path: the file.
        map_location: device of the network.
        svd: rank that fully-connected layers are reduced to, or below 1 the share of their energy that they keep; None:
            as they are. See :func:`~sppcls.detection.compress.compress_fc`.

    Raises:
        CheckpointError: the file is missing, damaged or no detector.
        ConfigError: no such rank, or none that is quicker.
    """
    checkpoint = read_checkpoint(Path(path))
    parts = checkpoint.get("detector")
    if parts is None:
        raise CheckpointError(
            f"{path}: a classifier, no detector; `sppcls detect train {path} --data SET` makes one of it"
        )
    net = load_classifier(Path(path), map_location)
    try:
        detector = _detector(net, parts)
    except ConfigError:
        raise
    except Exception as error:  # a file may hold anything
        raise CheckpointError(f"{path}: damaged: its detector cannot be used ({reason_of(error)})") from None
    if svd is not None:
        detector.about["svd"] = [str(layer) for layer in compress_fc(net, svd, detector.outputs)]
    return detector


def _detector(net: SPPClassifier, parts: Mapping[str, Any]) -> Detector:
    if parts["format"] != FORMAT:
        raise CheckpointError(f"a detector of format {parts['format']}; this sppcls reads {FORMAT}")
    rules = RegionRules(**{**parts["rules"], "scales": tuple(parts["rules"]["scales"])})
    regions = Regions(net, rules)
    classes = tuple(map(str, parts["classes"]))
    layer = str(parts["layer"])
    regions.check_layer(layer)
    length = regions.layer(torch.zeros(1, regions.pooled_length, device=regions.device), layer).shape[1]
    scorer = _linear(Scorer, parts["scorer"], (len(classes), length))
    if scorer is None and tuple(net.model_info["classes"]) != (*classes, BACKGROUND):
        raise ValueError("neither scores nor a background class")
    regression = _linear(BoxRegression, parts["regression"], (len(classes), 4, regions.pooled_length))
    proposer = Proposer(**parts["proposer"])
    choice = Choice(**{**parts["choice"], "shown": tuple(map(float, parts["choice"]["shown"]))})
    if len(choice.shown) != len(classes):
        raise ValueError("a score to show for each class is needed")
    # Files of before have no outputs.
    outputs = {str(name): Outputs(**one) for name, one in parts.get("outputs", {}).items()}
    for name, one in outputs.items():
        width = net.head.hidden.get_submodule(name)[0].out_features  # type: ignore[index]
        _array(one.mean, (width,)), _array(one.covariance, (width, width))
    about = dict(parts["about"])
    return Detector(regions, classes, layer, scorer, regression, proposer, choice, about, outputs)


def _linear(kind: Callable[..., Any], saved: Mapping[str, Tensor] | None, shape: tuple[int, ...]) -> Any:
    """Linear scores or moves, whose weights have that shape; None if none were saved."""
    if saved is None:
        return None
    return kind(_array(saved["weight"], shape), _array(saved["bias"], shape[:-1]))


def _array(saved: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    array = saved.numpy()
    if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
        raise ValueError(f"weights {array.shape} where {shape} finite numbers are needed")
    return array
