"""A detector as one ONNX file: maps, pooling of windows, scores and moved boxes (He et al. 2015, sec. 4.1).

The graph takes the whole photo once and any number of windows. What stays outside is what ONNX has no operators for, or
what needs the photo at its own size: proposing windows, resizing the photo to the detector's scale, and suppression.

Every bin of every window is pooled by ``MaxRoiPool``, an operator of ONNX. It computes the edges of bins in float32. Of most
levels these are exactly ours whatever the window; a level of which they are not is refused.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import roi_pool

from sppcls._version import __version__
from sppcls.data.pixel_range import trained_pixel_range
from sppcls.data.sizes import Size
from sppcls.data.stream import MAX_RESIZED_PIXELS
from sppcls.detection.detector import Detector
from sppcls.detection.pooled import LARGEST_HALF, POOLED, Regions, pixels_between
from sppcls.detection.regression import apply_offsets
from sppcls.errors import ConfigError
from sppcls.evaluation.mapping import first_and_last
from sppcls.inference.export.export import both_or_none, check_request, facts_of
from sppcls.inference.export.graph import padding_by_size, reason, trace_module
from sppcls.nn.model_info import model_info_of

TOLERANCE = 1e-3
"""Largest difference of a score that is accepted, relative to the largest score. Maps are rounded to float16, which makes
5e-4 of a cell's value of a difference of 1e-7."""

BOX_TOLERANCE = 0.25
"""Largest difference of an edge of a box that is accepted, in pixels."""

_COMPARED = ("max_abs_score", "max_abs_difference", "max_box_difference")


class ExportedDetector(nn.Module):
    """A resized photo and windows to ``{"scores", "boxes"}``.

    Args:
        detector: of one scale, on the CPU.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        regions, net = detector.regions, detector.regions.net
        self.rules, self.stride, self.center = regions.rules, regions.stride, regions.center
        self.levels = regions.pool_layer.levels
        self.backbone, self.head, self.softmax = net.backbone, net.head, detector.scorer is None
        names = regions.layer_names()[1:]
        self.layers = names[: names.index(detector.layer) + 1] if detector.layer != POOLED else []
        mean, std = (torch.tensor(model_info_of(net)[name]).view(3, 1, 1) for name in ("mean", "std"))
        tensors = {"scale": 1 / std / 255, "shift": -mean / std}
        if detector.scorer is not None:
            tensors |= {
                "weight": torch.from_numpy(detector.scorer.weight),
                "bias": torch.from_numpy(detector.scorer.bias),
            }
        self.moved, self.classes = detector.regression is not None, len(detector.classes)
        if detector.regression is not None:
            tensors |= {
                "moves": torch.from_numpy(detector.regression.weight).flatten(0, 1),
                "at_rest": torch.from_numpy(detector.regression.bias).flatten(),
            }
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, image: Tensor, windows: Tensor, size: Tensor) -> dict[str, Tensor]:
        """As :func:`export_detector` says."""
        x = self.backbone(image.float() * self.get_buffer("scale") + self.get_buffer("shift"))
        # Maps are float16, unless they hold values beyond it.
        x = torch.where(x.abs().max() > LARGEST_HALF, x, x.half().float())
        resized = (image.shape[2], image.shape[3])
        pooled = self._pooled(x, self._cells(windows, size.double(), resized, (x.shape[2], x.shape[3])))
        return {"scores": self._scores(pooled), "boxes": self._boxes(pooled, windows, size.double())}

    def _cells(
        self, windows: Tensor, size: Tensor, resized: tuple[Any, Any], cells: tuple[Any, Any]
    ) -> Tensor:
        """What MaxRoiPool takes: number of the map, first and last column and row, float32 (N, 5)."""
        edges: dict[int, tuple[Tensor, Tensor]] = {}
        for axis in (0, 1):  # rows, then columns
            pixels = pixels_between(
                windows[:, 1 - axis], windows[:, 3 - axis], size[axis], resized[axis], self.rules, torch
            )
            edges[axis] = first_and_last(
                *pixels, cells[axis], self.stride, self.center, self.rules.window_rule, torch
            )
        (top, bottom), (left, right) = edges[0], edges[1]
        return torch.stack([torch.zeros_like(top), left, top, right, bottom], 1).float()

    def _pooled(self, x: Tensor, cells: Tensor) -> Tensor:
        return torch.cat([roi_pool(x, cells, level).flatten(1) for level in self.levels], 1)

    def _scores(self, pooled: Tensor) -> Tensor:
        if self.softmax:
            return self.head(pooled).softmax(1)[:, :-1]
        x = pooled
        if self.layers:
            x = x * self.head.input_scale
            for name in self.layers:
                x = self.head.hidden.get_submodule(name)(x)
        return nn.functional.linear(x, self.get_buffer("weight"), self.get_buffer("bias"))

    def _boxes(self, pooled: Tensor, windows: Tensor, size: Tensor) -> Tensor:
        if not self.moved:
            return windows[:, None].expand(-1, self.classes, -1)
        moves = nn.functional.linear(pooled, self.get_buffer("moves"), self.get_buffer("at_rest"))
        boxes = apply_offsets(windows[:, None], moves.unflatten(1, (self.classes, 4)), torch)
        limits = size.flip(0).repeat(2)  # width, height, width, height
        return torch.minimum(boxes.clamp(min=0), limits)


def export_detector(
    detector: Detector, out: str | os.PathLike[str], *, opset: int | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write a detector of one scale as one ONNX file, and beside it ``OUT.parity.json``, the proof that it is the same one.

    The graph takes ``image``, uint8 (1, 3, h, w): the RGB photo resized as the metadata's ``preprocessing`` says;
    ``windows``, float64 (N, 4): [left, top, right, bottom) in pixels of the photo *before* it was resized; and
    ``size``, int64 (2,): its height and width before. It gives ``scores``, float32 (N, classes), and ``boxes``, float64 (N,
    classes, 4): the windows as each class moves them, cut to the photo. The metadata's ``suppression`` says what is left:
    of each class drop scores of ``min_score`` and below, then windows that overlap a better one by more than ``iou``,
    and of the boxes of those that stay do the same once more.

    Returns:
        what ``OUT.parity.json`` holds.

    Raises:
        ConfigError: several scales, a pooling or a level that ONNX cannot express exactly, a file that may not be written,
            missing packages, or a file that would give other scores or boxes. Then nothing is written.
    """
    path, report_path = check_request(out, "onnx", overwrite, opset)
    from sppcls.inference.export import onnx_file

    _check(detector)
    opset = opset or onnx_file.OPSET
    with both_or_none(path, report_path) as (temporary, temporary_report):
        alone = _on_cpu(detector)
        about = {**describe(alone), "opset": opset}
        onnx_file.write(
            _trace(alone), temporary, about, {torch.ops.torchvision.roi_pool.default: _max_roi_pool}
        )
        compared = compare(alone, onnx_file.open_session(temporary))
        report = {
            **facts_of(path, temporary, "onnx", opset),
            "tolerance": TOLERANCE,
            "box_tolerance": BOX_TOLERANCE,
            **{name: max(entry[name] for entry in compared) for name in _COMPARED},
            "windows": sum(entry["windows"] for entry in compared),
            "images": compared,
        }
        if not (
            report["max_abs_difference"] <= TOLERANCE * report["max_abs_score"]
            and report["max_box_difference"] <= BOX_TOLERANCE
        ):
            raise ConfigError(
                f"the file gives other scores or boxes than the detector: by {report['max_abs_difference']:.2g}, where scores are "
                f"up to {report['max_abs_score']:.2g}, and by {report['max_box_difference']:.2g} pixels; nothing was written"
            )
        temporary_report.write_text(json.dumps(report, indent=1) + "\n")
    return report


def exact_level(bins: int, longest: int) -> bool:
    """Whether float32 gives the edges of so many bins exactly, of windows of every length up to ``longest`` cells."""
    lengths, numbers = np.arange(1, longest + 1)[:, None], np.arange(bins)
    size = lengths.astype(np.float32) / np.float32(bins)
    first = np.floor(numbers.astype(np.float32) * size)
    stop = np.ceil((numbers + 1).astype(np.float32) * size)
    return bool(
        (first == numbers * lengths // bins).all() and (stop == -(-(numbers + 1) * lengths // bins)).all()
    )


def _check(detector: Detector) -> None:
    regions = detector.regions
    scales, pool = regions.rules.scales, regions.pool_layer
    if len(scales) > 1:
        raise ConfigError(
            f"a detector of {len(scales)} scales ({', '.join(map(str, scales))}) is not exported: the file takes the photo at "
            "one; train it with --scales one"
        )
    if (pool.mode, pool.bin_rule) != ("max", "adaptive"):
        raise ConfigError(
            f"pyramid.mode={pool.mode}, pyramid.bin_rule={pool.bin_rule}: ONNX pools windows with mode=max and "
            "bin_rule=adaptive only"
        )
    same = padding_by_size(regions.net)
    if same is not None:
        raise ConfigError(
            f"{regions.net.backbone.name} pads by the size of its images ({same}), which cannot be exported for photos of "
            "any size"
        )
    longest = max(regions.net.backbone.feature_size(scales[0], MAX_RESIZED_PIXELS // scales[0]))
    for level in pool.levels:
        for bins in level:
            if not exact_level(bins, longest):
                raise ConfigError(
                    f"pyramid.levels: {bins} bins have edges that ONNX rounds to another cell in some windows; 1 to 6, 8, 9, 10, "
                    "12 and 16 do not"
                )


def _on_cpu(detector: Detector) -> Detector:
    """A copy of it on the CPU, in the usual memory format."""
    net = copy.deepcopy(detector.regions.net).cpu().float()
    return dataclasses.replace(detector, regions=Regions(net, detector.regions.rules))


def _trace(detector: Detector) -> torch.export.ExportedProgram:
    net, dynamic = detector.regions.net, torch.export.Dim.DYNAMIC
    side, stride = net.min_input_size, net.backbone.stride
    # Large enough that no side of any map is 0 or 1, which a tracer would take for constants; of an odd aspect.
    height, width = side + 12 * stride + 1, side + 15 * stride + 3
    module = copy.deepcopy(ExportedDetector(detector)).eval().to(memory_format=torch.contiguous_format)
    inputs = {
        "image": torch.zeros(1, 3, height, width, dtype=torch.uint8),
        "windows": torch.tensor([[0.0, 0, 40, 40], [3, 5, 60, 50], [9, 9, 90, 80]], dtype=torch.float64),
        "size": torch.tensor([height - 7, width + 5]),
    }
    free: dict[str, dict[int, Any]] = {"image": {2: dynamic, 3: dynamic}, "windows": {0: dynamic}, "size": {}}
    try:
        return trace_module(module, inputs, free)
    except Exception as error:  # torch.export raises nearly any type
        raise ConfigError(
            f"{net.backbone.name} cannot be exported for photos of any size ({reason(error)})"
        ) from error


def _max_roi_pool(x: Any, cells: Any, scale: float, height: int, width: int) -> tuple[Any, Any]:
    """torchvision's roi_pool in ONNX; its second output, the places of the maximums, is not used."""
    from onnxscript import opset18

    pooled = opset18.MaxRoiPool(x, cells, pooled_shape=[height, width], spatial_scale=scale)
    return pooled, pooled


def describe(detector: Detector) -> dict[str, Any]:
    """What a user of the file must know, in plain values; in the file each of these is a JSON string in ``metadata_props``."""
    regions, info = detector.regions, model_info_of(detector.regions.net)
    classes, choice = len(detector.classes), detector.choice
    scale = regions.rules.scales[0]
    scorer = "SVM" if detector.scorer is not None else "softmax"
    return {
        "sppcls_version": __version__,
        "network": f"{regions.net.backbone.name}, pyramid {regions.pool_layer.pyramid.label}, detector: {detector.layer}, {scorer}",
        "classes": list(detector.classes),
        "inputs": [
            {"name": "image", "type": "uint8", "shape": [1, 3, "height", "width"], "color": "RGB"},
            {"name": "windows", "type": "float64", "shape": ["windows", 4]},
            {"name": "size", "type": "int64", "shape": [2]},
        ],
        "outputs": [
            {"name": "scores", "type": "float32", "shape": ["windows", classes]},
            {"name": "boxes", "type": "float64", "shape": ["windows", classes, 4]},
        ],
        "preprocessing": {
            "shorter_side": scale,
            "max_pixels": MAX_RESIZED_PIXELS,
            "interpolation": "bilinear, antialiased",
            "min_size": [regions.net.min_input_size] * 2,
            "pixel_range": trained_pixel_range(info),
            "normalised_in_graph": True,
        },
        "suppression": {
            "min_score": choice.min_score,
            "iou": choice.nms,
            "per_class": choice.per_class,
            "worth_showing": dict(zip(detector.classes, choice.shown, strict=True)),
        },
    }


def compare(detector: Detector, session: Any) -> list[dict[str, Any]]:
    """Scores and boxes of the file beside the detector's own, on photos of several sizes: one entry for each."""
    regions, entries = detector.regions, []
    scale = regions.rules.scales[0]
    rng = np.random.default_rng(0)
    for height, width in ((scale, scale), (scale // 2 + 3, scale - 5), (scale + 90, scale // 3 + 41)):
        photo = torch.from_numpy(_photo(rng, (height, width)))
        windows = _windows(rng, (height, width))
        cells = regions.cells(windows, (height, width))
        pooled = regions.pool(regions.maps(photo), cells)
        scores = detector.scores(pooled)
        boxes = np.repeat(windows[:, None], len(detector.classes), 1)
        if detector.regression is not None:
            for label in range(len(detector.classes)):
                boxes[:, label] = detector.regression(label, pooled.numpy(), windows, (height, width))
        image = regions.resized(photo, scale)[None].numpy()
        fed = {"image": image, "windows": windows, "size": np.array([height, width])}
        found_scores, found_boxes = session.run(["scores", "boxes"], fed)
        largest = [float(np.abs(one).max()) for one in (scores, found_scores - scores, found_boxes - boxes)]
        about = {"height": height, "width": width, "windows": len(windows)}
        entries.append(about | dict(zip(_COMPARED, largest, strict=True)))
    return entries


def _photo(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Coarse colours with noise, uint8 (3, H, W): structure at every scale, as photos have."""
    coarse = torch.from_numpy(rng.random((1, 3, 8, 8), np.float32))
    smooth = nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)[0].numpy()
    return (190 * smooth + 65 * rng.random((3, *size), np.float32)).astype(np.uint8)


def _windows(rng: np.random.Generator, size: Size, count: int = 300) -> np.ndarray:
    """Windows of all sizes: the whole photo, single pixels in its corners, at its borders, between pixels, anywhere."""
    height, width = size
    some = rng.random((count, 4)) * [width, height, width, height]
    some = np.concatenate([np.minimum(some[:, :2], some[:, 2:]), np.maximum(some[:, :2], some[:, 2:]) + 1], 1)
    some[::2] = some[::2].round()
    some[: count // 6, 0] = 0
    some[count // 6 : count // 3, 3] = height
    corners = [[x, y, x + 1, y + 1] for x in (0, width - 1) for y in (0, height - 1)]
    borders = [[0, 0, width, height], [0, 0, width, 1], [0, 0, 1, height]]
    return np.minimum(np.vstack([corners, borders, some]), [width, height, width, height]).astype(np.float64)
