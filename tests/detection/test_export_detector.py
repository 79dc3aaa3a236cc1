"""A detector as an ONNX file: onnxruntime's scores and boxes against pooled crops of the map, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from region_nets import make_net
from torch.nn.functional import adaptive_max_pool2d

from sppcls.cli.main import main
from sppcls.detection.boxes import nms
from sppcls.detection.detector import Choice, Detector
from sppcls.detection.export import exact_level, export_detector
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.detection.proposals import Proposer
from sppcls.detection.regression import BoxRegression
from sppcls.detection.svm import Scorer
from sppcls.detection.tuning import with_background
from sppcls.errors import ConfigError

CLASSES = ("cat", "dog", "owl")
SCALE = 150


def make_detector(
    folder: Path,
    layer: str = "fc7",
    rule: str = "appendix",
    svm: bool = True,
    regression: bool = True,
    loud: bool = False,
    scales: tuple[int, ...] = (SCALE,),
    **net_settings: Any,
) -> Detector:
    """A detector of random weights; ``loud``: with maps beyond float16."""
    net = with_background(make_net(folder, **net_settings), CLASSES)
    rng = np.random.default_rng(0)
    if loud:
        last = [part for part in net.backbone.modules() if isinstance(part, torch.nn.Conv2d)][-1]
        with torch.no_grad():
            last.weight *= 1e9
    regions = Regions(net, RegionRules(scales, window_rule=rule, region=96))
    width = regions.layer(torch.zeros(1, regions.pooled_length), layer).shape[1]

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    scorer = Scorer(normal(3, width), normal(3)) if svm else None
    moves = BoxRegression(0.02 * normal(3, 4, regions.pooled_length), 0.1 * normal(3, 4))
    choice = Choice(-1.5 if svm else 0.01, 0.3, 100, (0.1, 0.2, 0.3))
    return Detector(
        regions, CLASSES, layer, scorer, moves if regression else None, Proposer("grid", 200), choice, {}
    )


def photo(height: int, width: int) -> torch.Tensor:
    rng = np.random.default_rng(height)
    coarse = torch.from_numpy(rng.random((1, 3, 9, 7), np.float32))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]
    return (200 * smooth + torch.from_numpy(55 * rng.random((3, height, width), np.float32))).to(torch.uint8)


def border_windows(height: int, width: int) -> np.ndarray:
    """Every window with edges at the photo's borders, on multiples of the stride and just beside them."""
    rows, columns = (
        sorted({0, 1, 15.5, 16, 17, 33, length - 17, length - 16, length - 1, length})
        for length in (height, width)
    )
    found = [
        [left, top, right, bottom]
        for top in rows
        for bottom in rows
        for left in columns[::3]
        for right in columns
        if top < bottom and left < right
    ]
    return np.array([*found, [0, 0, width, height]], np.float64)


def run(
    file: Path, image: torch.Tensor, windows: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    fed = {"image": image[None].numpy(), "windows": windows, "size": np.array(size)}
    scores, boxes = session.run(["scores", "boxes"], fed)
    return scores, boxes


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    """A detector, and the folder in which the command wrote its file."""
    folder = tmp_path_factory.mktemp("exported")
    detector = make_detector(folder, hidden=(64, 48))
    detector.save(folder / "det.ckpt")
    assert main(["detect", "export", str(folder / "det.ckpt"), "--opset", "21"]) == 0
    return detector, folder


def check(file: Path, detector: Detector, size: tuple[int, int]) -> None:
    """Scores and boxes of the file beside the detector's."""
    image, windows, regions = photo(*size), border_windows(*size), detector.regions
    scores, boxes = run(file, regions.resized(image, SCALE), windows, size)
    pooled = regions.pool(regions.maps(image), regions.cells(windows, size))
    expected = detector.scores(pooled)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=5e-4 * np.abs(expected).max())
    assert np.abs(expected - expected[0]).max() > 0.01 * np.abs(expected).max()  # windows do differ
    for label in range(3):
        moved = windows
        if detector.regression is not None:
            moved = detector.regression(label, pooled.numpy(), windows, size)
        np.testing.assert_allclose(boxes[:, label], moved, rtol=0, atol=0.05)


@pytest.mark.parametrize("size", [(150, 211), (97, 75)])
def test_scores_and_boxes_are_the_detectors(exported: tuple[Detector, Path], size: tuple[int, int]) -> None:
    detector, folder = exported
    check(folder / "det.onnx", detector, size)
    small = torch.zeros(3, 150, 160, dtype=torch.uint8)
    scores, boxes = run(folder / "det.onnx", small, np.empty((0, 4)), (150, 160))
    assert (scores.shape, boxes.shape) == ((0, 3), (0, 3, 4))


@pytest.mark.parametrize(
    "settings",
    [
        {"layer": "spp", "rule": "released", "loud": True},
        {"rule": "report", "svm": False, "regression": False, "levels": (6, 3, (2, 4), 1)},
    ],
)
def test_other_rules_layers_and_scores(settings: dict[str, Any], tmp_path: Path) -> None:
    detector = make_detector(tmp_path, **settings)
    size = (97, 131)
    dtype = detector.regions.maps(photo(*size))[0].dtype
    assert dtype == (torch.float32 if settings.get("loud") else torch.float16)
    export_detector(detector, tmp_path / "det.onnx")
    check(tmp_path / "det.onnx", detector, size)


@pytest.mark.parametrize("size", [(97, 131), (210, 160)])
def test_every_window_is_pooled_from_the_cells_inside_it(
    exported: tuple[Detector, Path], size: tuple[int, int]
) -> None:
    """The appendix by hand: centres strictly inside the window, in fractions; then each bin of the crop."""
    detector, folder = exported
    regions, image, windows = detector.regions, photo(*size), border_windows(*size)
    resized = regions.resized(image, SCALE)
    whole = regions.maps(image)[0].float()
    stride, center = regions.stride, Fraction(regions.center)

    def cells(begin: float, end: float, axis: int) -> tuple[int, int]:
        factor = Fraction(resized.shape[1 + axis], size[axis])
        first, last = Fraction(begin) * factor - center, Fraction(end) * factor - 1 - center
        inside = [i for i in range(-9, 99) if first < i * stride < last]
        if not inside:  # the cell in the middle
            low, high = first // stride + 1, ceil(last / stride) - 1
            inside = [int((low + high) // 2)]
        top = whole.shape[1 + axis] - 1
        return min(max(inside[0], 0), top), min(max(inside[-1], 0), top) + 1

    rows = []
    for left, top, right, bottom in windows:
        (y0, y1), (x0, x1) = cells(top, bottom, 0), cells(left, right, 1)
        crop = whole[:, y0:y1, x0:x1]
        rows.append(torch.cat([adaptive_max_pool2d(crop, n).flatten() for n in (3, 2, 1)]))
    expected = detector.scores(torch.stack(rows))
    scores, _ = run(folder / "det.onnx", resized, windows, size)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=5e-4 * np.abs(expected).max())


def test_the_metadata_is_all_that_is_needed(exported: tuple[Detector, Path]) -> None:
    detector, folder = exported
    session = onnxruntime.InferenceSession(str(folder / "det.onnx"))
    about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    image, rules = photo(180, 240), about["suppression"]
    assert (about["opset"], about["preprocessing"]["shorter_side"]) == (21, SCALE)
    assert rules["worth_showing"] == {"cat": 0.1, "dog": 0.2, "owl": 0.3}
    windows = detector.proposer(image)
    scores, boxes = run(folder / "det.onnx", detector.regions.resized(image, SCALE), windows, (180, 240))
    found = []
    for label in range(3):
        kept = np.flatnonzero(scores[:, label] > rules["min_score"])
        kept = kept[nms(windows[kept], scores[kept, label], rules["iou"])[: rules["per_class"]]]
        moved = boxes[kept, label]
        again = nms(moved, scores[kept, label], rules["iou"])
        found += [(label, *moved[place], scores[kept[place], label]) for place in again]
    expected = detector.detect(image.permute(1, 2, 0).numpy())
    assert [row[0] for row in found] == expected.labels.tolist()
    np.testing.assert_allclose([row[1:5] for row in found], expected.boxes, atol=0.05)
    np.testing.assert_allclose([row[5] for row in found], expected.scores, atol=5e-4 * np.abs(scores).max())


def test_what_the_command_says(exported: tuple[Detector, Path], capsys: pytest.CaptureFixture[str]) -> None:
    _, folder = exported
    words = ["detect", "export", str(folder / "det.ckpt"), "--svd", "4"]
    assert main(words) == 1
    assert "det.onnx" in capsys.readouterr().err  # is there already
    assert main([*words, "--out", str(folder / "thin.onnx")]) == 0
    said = capsys.readouterr().out
    assert "opset 18; takes photos with a shorter side of 150 and any number of windows" in said
    report = json.loads((folder / "thin.onnx.parity.json").read_text())
    assert report["max_abs_difference"] <= report["tolerance"] * report["max_abs_score"]
    assert report["windows"] > 900
    # Layers that became thin stay thin.
    assert report["bytes"] < 0.7 * (folder / "det.onnx").stat().st_size


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"scales": (120, 200)}, "a detector of 2 scales (120, 200) is not exported"),
        ({"mode": "avg"}, "pyramid.mode=avg, pyramid.bin_rule=adaptive: ONNX pools windows with mode=max"),
        ({"levels": (7, 1)}, "pyramid.levels: 7 bins have edges that ONNX rounds to another cell"),
    ],
)
def test_what_would_not_be_exact_is_refused(settings: dict[str, Any], line: str, tmp_path: Path) -> None:
    detector = make_detector(tmp_path, **settings)
    with pytest.raises(ConfigError) as caught:
        export_detector(detector, tmp_path / "det.onnx")
    assert line in str(caught.value)
    assert not list(tmp_path.glob("*onnx*"))


def test_a_file_that_differs_is_not_kept(tmp_path: Path) -> None:
    detector = make_detector(tmp_path)
    assert detector.scorer is not None
    detector.scorer.weight[0, 0] = np.nan
    with pytest.raises(
        ConfigError, match="gives other scores or boxes than the detector.*nothing was written"
    ):
        export_detector(detector, tmp_path / "det.onnx")
    assert not list(tmp_path.glob("*onnx*"))


def test_the_levels_that_are_refused_are_those_of_which_the_runtime_is_wrong() -> None:
    """A row of cells, each higher than the one before: the maximum of a bin is its last cell."""
    lengths = range(1, 130)
    for bins in range(1, 17):
        node = onnx.helper.make_node("MaxRoiPool", ["x", "rois"], ["y"], pooled_shape=[1, bins])
        graph = onnx.helper.make_graph(
            [node],
            "row",
            [
                onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 1, 300]),
                onnx.helper.make_tensor_value_info("rois", onnx.TensorProto.FLOAT, ["n", 5]),
            ],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 1, 1, bins])],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        rois = np.array([[0, 0, 0, length - 1, 0] for length in lengths], np.float32)
        x = np.arange(300, dtype=np.float32).reshape(1, 1, 1, 300)
        last = session.run(None, {"x": x, "rois": rois})[0][:, 0, 0].astype(int)
        right = [[-(-(i + 1) * length // bins) - 1 for i in range(bins)] for length in lengths]
        assert exact_level(bins, 129) == bool((last == right).all()), bins
    assert not exact_level(15, 300)
