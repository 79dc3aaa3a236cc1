"""Exported files run without sppcls, at sizes that neither training nor tracing has seen, and are the same network."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from forked import Loaded
from torch import nn
from torchvision.models.convnext import LayerNorm2d

from sppcls.cli.main import main
from sppcls.data.transforms import prepare_batch
from sppcls.errors import ConfigError
from sppcls.inference.export.export import export
from sppcls.inference.export.graph import ExportedClassifier
from sppcls.nn import (
    Backbone,
    ConvHead,
    FCHead,
    LRNAcrossChannels,
    SpatialPyramidPooling2d,
    SPPClassifier,
    build_classifier,
)
from sppcls.runs.checkpoint import load_classifier, make_model_info

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
ort = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["daisy", "Gänseblümchen", "rose", "tulip"]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
SIZES = [(96, 96), (72, 72)]


def checkpoint(path: Path, pyramid: dict[str, Any]) -> Path:
    """A small ZF-5 with random weights, never trained, as a checkpoint."""
    architecture = {
        "backbone": {"name": "zf5", "width": 1 / 16},
        "pyramid": pyramid,
        "head": {"name": "fc", "hidden": [12], "dropout": 0.5},
        "num_classes": len(CLASSES),
        "input_size": list(SIZES[0]),
    }
    torch.manual_seed(0)
    net = build_classifier(**{**architecture, "input_size": SIZES[0]})  # type: ignore[arg-type]
    model_info = make_model_info(
        architecture=architecture,
        classes=CLASSES,
        mean=MEAN,
        std=STD,
        train_sizes=SIZES,
        val_sizes=SIZES,
        config={},
    )
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"sppcls": model_info, "state_dict": state}, path)
    return path


def small_net(*layers: nn.Module, channels: int = 4, pool: nn.Module | None = None) -> SPPClassifier:
    """One convolution, then ``layers``: what can be exported in a second."""
    torch.manual_seed(0)
    trunk = Backbone(
        "trunk", nn.Sequential(nn.Conv2d(3, channels, 3, 2), *layers), channels, 2, nn.Identity()
    )
    pool = SpatialPyramidPooling2d([3, 1]) if pool is None else pool
    head: nn.Module
    if isinstance(pool, SpatialPyramidPooling2d):
        head = FCHead(pool.output_length(channels), [], len(CLASSES))
    else:
        head = ConvHead(channels, [], len(CLASSES))
    net = SPPClassifier(trunk, pool, head).eval()  # type: ignore[arg-type]
    model_info: dict[str, Any] = {"classes": CLASSES, "mean": MEAN, "std": STD}
    net.model_info = {**model_info, "train_sizes": [[40, 40]], "val_sizes": [[40, 40]]}
    return net


def pixels(batch: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng([batch, height, width])
    return rng.integers(0, 256, (batch, 3, height, width), dtype=np.uint8)


def logits_of(net: SPPClassifier, images: np.ndarray) -> np.ndarray:
    """The network itself, fed as in validation."""
    height, width = images.shape[-2:]
    with torch.inference_mode():
        return net(prepare_batch(torch.from_numpy(images), (height, width), MEAN, STD)).numpy()


class Exported(NamedTuple):
    checkpoint: Path
    net: SPPClassifier
    file: Path
    done: subprocess.CompletedProcess[str]
    report: dict[str, Any]


@pytest.fixture(scope="module")
def exported(loaded: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The command itself with all its defaults, in a process of its own."""
    path = checkpoint(tmp_path_factory.mktemp("export") / "best.ckpt", {"levels": [6, 3, 2, 1]})
    done = loaded.run(["-m", "sppcls.cli.main", "export", str(path)], timeout=300)
    assert done.returncode == 0, done.stderr
    report = json.loads((path.parent / "best.onnx.parity.json").read_text())
    return Exported(path, load_classifier(path), path.parent / "best.onnx", done, report)


def test_the_command_says_what_it_wrote_and_nothing_else(exported: Exported) -> None:
    assert exported.done.stderr == ""
    first, second = exported.done.stdout.splitlines()
    assert first.startswith(f"{exported.file}: 0.1 MB, ONNX, opset 18; images from 23x23 on")
    assert first.endswith("; needs ONNX Runtime 1.14 or newer (IR version 8)")
    assert second.startswith(f"{exported.file}.parity.json: logits differ from the network's by ")
    assert sorted(p.name for p in exported.file.parent.iterdir()) == [
        "best.ckpt",
        "best.onnx",
        "best.onnx.parity.json",
    ]


# Every residue of the heights modulo the stride of 16, maps with fewer cells than bins, every batch from 1 to 3.
UNSEEN = [(1 + i % 3, 90 + i, 61 + 7 * i) for i in range(17)] + [
    (2, 23, 23),
    (1, 23, 301),
    (3, 240, 24),
    (1, 37, 38),
]

ONNX_ALONE = """
import sys
sys.modules.update(torch=None, sppcls=None)
import json, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
images = numpy.load(sys.argv[2])
found = {}
for name in images.files:
    found["logits" + name], found["probabilities" + name] = session.run(
        ["logits", "probabilities"], {"images": images[name]}
    )
numpy.savez(sys.argv[3], about=json.dumps(about), shapes=str([v.shape for v in session.get_inputs()]), **found)
"""


@pytest.fixture(scope="module")
def alone(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What a program finds that has onnxruntime and numpy, but neither torch nor sppcls."""
    folder = tmp_path_factory.mktemp("alone")
    np.savez(folder / "in.npz", *[pixels(*shape) for shape in UNSEEN])
    words = [str(exported.file), str(folder / "in.npz"), str(folder / "out.npz")]
    subprocess.run([sys.executable, "-c", ONNX_ALONE, *words], check=True, cwd=folder, timeout=120)
    return dict(np.load(folder / "out.npz"))


def test_onnxruntime_alone_gives_the_networks_logits_at_any_size(
    exported: Exported, alone: dict[str, np.ndarray]
) -> None:
    assert str(alone["shapes"]) == "[['batch', 3, 'height', 'width']]"
    for number, shape in enumerate(UNSEEN):
        expected = logits_of(exported.net, pixels(*shape))
        logits, probabilities = alone[f"logitsarr_{number}"], alone[f"probabilitiesarr_{number}"]
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6, err_msg=str(shape))
        powers = np.exp(expected.astype(np.float64))
        np.testing.assert_allclose(probabilities, powers / powers.sum(1, keepdims=True), atol=1e-6)


def test_the_metadata_says_how_to_feed_it_and_what_comes_out(alone: dict[str, np.ndarray]) -> None:
    about = json.loads(str(alone["about"]))
    assert about["classes"] == CLASSES
    assert about["opset"] == 18
    assert about["network"] == "zf5, pyramid 6-3-2-1 (max, adaptive bins), FCHead"
    assert about["input"]["type"] == "uint8"
    assert about["input"]["color"] == "RGB"
    assert [output["name"] for output in about["outputs"]] == ["logits", "probabilities"]
    assert about["preprocessing"] == {
        "shorter_side": 110,  # 256 / 224 of 96
        "center_crop": None,
        "interpolation": "bilinear, antialiased",
        "min_size": [23, 23],
        "pixel_range": "full",
        "scale": 1 / 255,
        "mean": MEAN,
        "std": STD,
        "normalised_in_graph": True,
    }


def test_the_parity_file_is_of_this_file_and_of_unseen_sizes(exported: Exported) -> None:
    report = exported.report
    data = exported.file.read_bytes()
    assert (report["bytes"], report["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert report["versions"]["onnxruntime"] == ort.__version__
    sizes = [(entry["height"], entry["width"]) for entry in report["sizes"]]
    assert len(set(sizes)) >= 10
    assert not set(sizes) & {*SIZES, tuple(report["traced_at"])}
    assert (23, 23) in sizes
    assert any(2 * h < w for h, w in sizes)
    assert any(2 * w < h for h, w in sizes)
    assert {entry["batch"] for entry in report["sizes"]} == {1, 2, 3}
    assert 0 < report["max_abs_difference"] < 1e-5 * report["max_abs_logit"]
    assert_tells_nothing_of_this_machine(exported.file)


def assert_tells_nothing_of_this_machine(file: Path) -> None:
    data = file.read_bytes()
    assert not [word for word in (str(ROOT), "site-packages", ".py", "stack_trace") if word.encode() in data]


TORCH_ALONE = """
import sys
sys.modules.update(sppcls=None)
import json, numpy, torch
about = {"sppcls.json": ""}
net = torch.export.load(sys.argv[1], extra_files=about).module()
images = numpy.load(sys.argv[2])
found = {name: net(torch.from_numpy(images[name]))["logits"].detach().numpy() for name in images.files}
numpy.savez(sys.argv[3], classes=json.loads(about["sppcls.json"])["classes"], **found)
"""


def test_torch_alone_gives_the_networks_logits_at_any_size(exported: Exported, tmp_path: Path) -> None:
    report = export(exported.net, tmp_path / "net.pt2", format="torch")
    assert report["min_size"] == [23, 23]
    assert report["opset"] is None
    assert_tells_nothing_of_this_machine(tmp_path / "net.pt2")
    np.savez(tmp_path / "in.npz", *[pixels(*shape) for shape in UNSEEN])
    words = [str(tmp_path / name) for name in ("net.pt2", "in.npz", "out.npz")]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TORCH_ALONE, *words], check=True, cwd=tmp_path, timeout=120
    )
    found = np.load(tmp_path / "out.npz")
    assert found["classes"].tolist() == CLASSES
    for number, shape in enumerate(UNSEEN):
        expected = logits_of(exported.net, pixels(*shape))
        np.testing.assert_allclose(found[f"arr_{number}"], expected, rtol=1e-5, atol=1e-6, err_msg=str(shape))


def test_a_program_that_takes_larger_images_only_says_so(tmp_path: Path) -> None:
    # A tracer leaves out maps of one cell before some layers, of which ConvNeXt's normalisation is one.
    net = small_net(LayerNorm2d(4), nn.Conv2d(4, 4, 1))
    assert net.min_input_size == 3
    report = export(net, tmp_path / "net.pt2", format="torch")
    assert report["min_size"] == [5, 5]
    about = {"sppcls.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=about).module()
    assert json.loads(about["sppcls.json"])["preprocessing"]["min_size"] == [5, 5]
    np.testing.assert_allclose(
        program(torch.from_numpy(pixels(1, 5, 5)))["logits"].detach(),
        logits_of(net, pixels(1, 5, 5)),
        atol=1e-6,
    )
    with pytest.raises(RuntimeError, match=">= 5, but got 4"):
        program(torch.from_numpy(pixels(1, 4, 5)))


def brute_force(values: np.ndarray, levels: list[tuple[int, int]], mode: str) -> np.ndarray:
    """Appendix bins, cell by cell."""
    count, channels, height, width = values.shape
    reduce = {"max": np.max, "avg": np.mean, "sum": np.sum}[mode]
    columns = []
    for rows, cols in levels:
        for channel in range(channels):
            for i in range(rows):
                for j in range(cols):
                    ys = [
                        y
                        for y in range(height)
                        if y * rows < (i + 1) * height and (y + 1) * rows > i * height
                    ]
                    xs = [
                        x for x in range(width) if x * cols < (j + 1) * width and (x + 1) * cols > j * width
                    ]
                    part = values[:, channel, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
                    columns.append(reduce(part.reshape(count, -1), axis=1))
    return np.stack(columns, axis=1)


# Every mode and every rule, and every kind of normalisation that the paper's networks can have.
@pytest.mark.parametrize(
    ("mode", "rule", "norm"),
    [
        ("max", "adaptive", LRNAcrossChannels),
        ("avg", "padded", nn.BatchNorm2d),
        ("sum", "sliding", nn.Identity),
    ],
)
def test_every_pooling_at_every_size_of_map(
    mode: str, rule: str, norm: Callable[..., nn.Module], tmp_path: Path
) -> None:
    levels = [(15, 14), (2, 3), (1, 1)]  # 14 and 15: where float32 arithmetic of bins would be off by a cell
    layer = norm(4) if norm is nn.BatchNorm2d else norm()
    net = small_net(nn.ReLU(), layer, pool=SpatialPyramidPooling2d(levels, mode, rule))
    export(net, tmp_path / "net.onnx")
    session = ort.InferenceSession(tmp_path / "net.onnx")
    # (125, 125) gives the map of 62 x 62 cells of that float32 case; the small ones give fewer cells than bins.
    small = [] if rule == "sliding" else [(3, 3), (4, 99), (9, 12)]
    for height, width in [(125, 125), (61, 43), (42, 80), (44, 77), (130, 31), *small]:
        images = pixels(2, height, width)
        expected = logits_of(net, images)
        scale = np.abs(expected).max()
        if rule == "adaptive":
            with torch.inference_mode():
                map_ = net.forward_features(
                    prepare_batch(torch.from_numpy(images), (height, width), MEAN, STD)
                )
                pooled = brute_force(map_.numpy(), levels, mode)
                truth = net.head(torch.from_numpy(pooled)).numpy()
            np.testing.assert_allclose(expected, truth, rtol=0, atol=1e-5 * scale)
        found = session.run(["logits"], {"images": images})[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale, err_msg=f"{height}x{width}")


def test_a_fully_convolutional_network_takes_any_size(tmp_path: Path) -> None:
    net = small_net(nn.ReLU(), pool=nn.Identity())
    export(net, tmp_path / "net.onnx")
    session = ort.InferenceSession(tmp_path / "net.onnx")
    for shape in [(1, 3, 3), (2, 50, 31)]:
        found = session.run(["logits"], {"images": pixels(*shape)})[0]
        np.testing.assert_allclose(found, logits_of(net, pixels(*shape)), rtol=1e-5, atol=1e-6)


def refused(session: Any, shape: tuple[int, int, int], dtype: type = np.uint8) -> bool:
    try:
        session.run(None, {"images": pixels(*shape).astype(dtype)})
    except Exception as error:  # onnxruntime's own types
        return "INVALID_ARGUMENT" in str(error)
    return False


def test_one_fixed_size(exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "net.onnx"
    assert main(["export", str(exported.checkpoint), "--size", "72x100", "--out", str(out)]) == 0
    assert "images of 72x100 only" in capsys.readouterr().out
    session = ort.InferenceSession(out)
    assert session.get_inputs()[0].shape == ["batch", 3, 72, 100]
    found = session.run(["logits"], {"images": pixels(5, 72, 100)})[0]
    np.testing.assert_allclose(found, logits_of(exported.net, pixels(5, 72, 100)), rtol=1e-5, atol=1e-6)
    about = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    assert (about["center_crop"], about["shorter_side"]) == ([72, 100], 82)
    assert refused(session, (1, 100, 72))
    assert refused(session, (1, 72, 100), np.float32)  # normalised already, or 0..1: no silent nonsense


def test_a_network_without_pyramid_has_its_one_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint(tmp_path / "last.ckpt", {"levels": None})
    assert main(["export", str(path), "--size", "72"]) == 1
    message = "--size 72: not the size that the head was built for; this network takes 96x96 only, as it has no pyramid"
    assert capsys.readouterr().err == f"sppcls: error: {message}\n"
    assert main(["export", str(path)]) == 0
    assert "images of 96x96 only" in capsys.readouterr().out
    session = ort.InferenceSession(tmp_path / "last.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, 96, 96]
    found = session.run(["logits"], {"images": pixels(2, 96, 96)})[0]
    np.testing.assert_allclose(
        found, logits_of(load_classifier(path), pixels(2, 96, 96)), rtol=1e-5, atol=1e-6
    )


def test_the_network_is_left_as_it_is(tmp_path: Path) -> None:
    net = small_net(nn.BatchNorm2d(4), nn.ReLU()).to(memory_format=torch.channels_last).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    export(net, tmp_path / "net.pt2", format="torch", size=40)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.backbone.layers[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index, union-attr]
    found = torch.export.load(tmp_path / "net.pt2").module()(torch.from_numpy(pixels(1, 40, 40)))["logits"]
    np.testing.assert_allclose(found.detach(), logits_of(net.eval(), pixels(1, 40, 40)), rtol=1e-5, atol=1e-6)


class OtherWhenTraced(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1.01 if torch.compiler.is_compiling() else x


class OneBranch(nn.Module):
    """The tracer follows one branch only, here that of large maps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[2] > 12 else x


class RowByRow(nn.Module):
    """The tracer unrolls the loop, as often as there are rows when it looks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, :, row] for row in range(x.shape[2])], dim=2)


@pytest.mark.parametrize(
    ("layer", "format"), [(OtherWhenTraced(), "torch"), (OneBranch(), "onnx"), (RowByRow(), "torch")], ids=str
)
def test_a_file_that_differs_is_not_kept(layer: nn.Module, format: str, tmp_path: Path) -> None:
    out = tmp_path / ("net.onnx" if format == "onnx" else "net.pt2")
    out.write_text("older file")
    message = r"other logits than the network: by .* at .*x.*, where .* is allowed|would not run on \d+ x 3 x"
    with pytest.raises(ConfigError, match=message):
        export(small_net(layer), out, format=format, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "older file"


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = small_net()
    net.head.last.bias.data[0] = torch.nan  # type: ignore[operator, union-attr]
    with pytest.raises(ConfigError, match="logits that are not finite"):
        export(net, tmp_path / "net.pt2", format="torch", size=40)
    assert list(tmp_path.iterdir()) == []


class Conv2dSame(nn.Conv2d):
    """Called as timm's, whose export does not end."""


@pytest.mark.parametrize(
    ("place", "layer", "format", "message"),
    [
        (1, nn.AdaptiveMaxPool2d(7), "onnx", r": trunk, .*cannot be translated \(.*adaptive_max_pool2d"),
        (0, RowByRow(), "torch", r": trunk cannot be exported for images of any size \(.*--size may help"),
        (1, Conv2dSame(4, 4, 1), "torch", r": trunk pads by the size of its images \(Conv2dSame\)"),
    ],
)
def test_what_a_format_cannot_express_is_named(
    place: int, layer: nn.Module, format: str, message: str, tmp_path: Path
) -> None:
    net = small_net()
    net.backbone.layers.insert(place, layer)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=f"^--format {format}{message}") as caught:
        export(net, tmp_path / ("net.onnx" if format == "onnx" else "net.pt2"), format=format)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_gathered_form_is_the_pyramid(exported: Exported) -> None:
    images = torch.from_numpy(pixels(2, 75, 58))
    for gathered in (True, False):
        with torch.inference_mode():
            found = ExportedClassifier(exported.net, gathered)(images)["logits"]
        np.testing.assert_allclose(found, logits_of(exported.net, images.numpy()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "0"], "--size 0: give a side such as 224, or HEIGHTxWIDTH such as 256x384"),
        (["--size", "9"], "--size 9: too small for zf5"),
        (["--size", "9000"], "--size 9000: more than the 8,388,608 pixels allowed"),
        (["--opset", "17"], "--opset 17: choose from 18, 19, 20, 21"),
        (["--opset", "22"], "--opset 22: choose from 18, 19, 20, 21"),
        (["--format", "torch", "--opset", "18"], "--opset 18: --format torch has none; only onnx has"),
        (["--format", "tflite"], "--format tflite: choose from onnx, torch"),
        (["--out", "TMP/net.pt2"], "--format onnx writes files that end in .onnx"),
        (["--out", "TMP/none/net.onnx"], "there is no folder"),
        (["--out", "TMP"], "a folder; name a file"),
        (["--out", "TMP/old.onnx"], "exists already; name another file, or add --overwrite"),
        (["--out", "TMP/half.onnx"], "half.onnx.parity.json: exists already"),
    ],
)
def test_bad_requests_are_one_line(
    words: list[str], message: str, exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.onnx").touch()
    (tmp_path / "half.onnx.parity.json").touch()
    before = sorted(tmp_path.iterdir())
    out = [] if "--out" in words else ["--out", str(tmp_path / "new.onnx")]
    words = [word.replace("TMP", str(tmp_path)) for word in words]
    assert main(["export", str(exported.checkpoint), *words, *out]) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert sorted(tmp_path.iterdir()) == before


def test_bad_checkpoints_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    for name, message in (("none.ckpt", "no such checkpoint"), ("bad.ckpt", "bad.ckpt: ")):
        assert main(["export", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.ckpt"]


def test_a_network_without_card_is_refused(tmp_path: Path) -> None:
    net = small_net()
    del net.model_info
    with pytest.raises(ConfigError, match=r"has no model_info .* take it from sppcls\.load_classifier"):
        export(net, tmp_path / "net.onnx")


def test_missing_packages_are_named_with_the_extra(
    exported: Exported, loaded: Loaded, tmp_path: Path
) -> None:
    hidden = (
        "import sys; sys.modules.update(onnx=None, onnxscript=None, onnxruntime=None)\n"
        "from sppcls.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "net.onnx"
    done = loaded.run(["-c", hidden, "export", str(exported.checkpoint), "--out", str(out)])
    assert done.returncode == 1
    assert done.stderr == (
        'sppcls: error: --format onnx needs onnx, onnxscript, onnxruntime: pip install "sppcls[onnx]"\n'
    )
    assert not out.exists()
