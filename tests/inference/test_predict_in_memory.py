"""predict() of images in memory: the same classes as for the same pixels in a file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sppcls
from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier, build_classifier


@pytest.fixture(scope="module")
def net() -> SPPClassifier:
    torch.manual_seed(0)
    made = build_classifier(
        backbone={"name": "zf5", "width": 0.0625, "norm": "batch", "weights": None, "model": None},
        pyramid={"levels": [2, 1], "mode": "max", "bin_rule": "adaptive"},
        head={"name": "linear", "hidden": [], "dropout": 0.0},
        num_classes=3,
        input_size=(96, 96),
        init="modern",
    )
    made.model_info = {
        "classes": ["a", "b", "c"],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "val_sizes": [[96, 96]],
        "config": {},
    }
    return made.eval()


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    smooth = np.random.default_rng(0).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((150, 120), Image.Resampling.BICUBIC))


def figures(net: SPPClassifier, images: object) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    found = list(sppcls.predict(net, images))
    assert all(p.error is None for p in found)
    return [(p.classes, p.probabilities) for p in found]


def test_every_kind_is_what_its_file_is(net: SPPClassifier, pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = figures(net, tmp_path / "a.png")
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    alpha = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    kinds = [
        Image.open(tmp_path / "a.png"),
        pixels,
        pixels / 255,
        (pixels / 255).astype(np.float32),
        alpha,
        tensor,
        tensor / 255,
        (tmp_path / "a.png").read_bytes(),
        bytearray((tmp_path / "a.png").read_bytes()),
        io.BytesIO((tmp_path / "a.png").read_bytes()),
    ]
    for kind in kinds:
        if hasattr(kind, "seek"):
            kind.seek(0)
        assert figures(net, kind) == wanted, type(kind)
    mixed = [pixels, str(tmp_path / "a.png"), tensor]
    for classes, probabilities in figures(net, mixed):  # in one batch, so but for the last bits
        assert classes == wanted[0][0]
        assert probabilities == pytest.approx(wanted[0][1], abs=1e-6)
    assert [str(p.path) for p in sppcls.predict(net, mixed)] == [
        "image 1",
        str(tmp_path / "a.png"),
        "image 3",
    ]
    with open(tmp_path / "a.png", "rb") as file:
        assert figures(net, file) == wanted


def test_grey_and_turned_images(net: SPPClassifier, pixels: np.ndarray, tmp_path: Path) -> None:
    grey = pixels[:, :, 0]
    wanted = figures(net, np.stack([grey] * 3, axis=2))
    assert figures(net, grey) == figures(net, grey[:, :, None]) == wanted
    assert figures(net, torch.from_numpy(grey.copy())[None]) == wanted
    turned = Image.fromarray(pixels)
    turned.getexif()[0x0112] = 6  # to be turned by 90 degrees, clockwise
    turned.save(tmp_path / "t.png", exif=turned.getexif())
    with Image.open(tmp_path / "t.png") as image:
        assert figures(net, image) == figures(net, np.rot90(pixels, -1))
        assert image.size == (150, 120)  # what was handed over is as it was


def test_bytes_that_are_no_image_are_one_bad_image(net: SPPClassifier, pixels: np.ndarray) -> None:
    found = list(sppcls.predict(net, [b"", b"<html>", pixels]))
    assert [p.error is None for p in found] == [False, False, True]
    assert found[0].error == "empty file (0 bytes)"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 20, 30), np.uint8), "must be (H, W, 3) or (H, W); use array.transpose(1, 2, 0)"),
        (np.zeros((2, 20, 30, 3), np.uint8), "give a list of its images"),
        (np.zeros((20, 30), np.int64), "values of type int64: must be uint8, or floating point in 0..1"),
        (np.full((20, 30, 3), 200.0), "float64 values from 200 to 200: must be in 0..1, not normalised"),
        (np.full((20, 30, 3), np.nan), "must be in 0..1"),
        (np.zeros((0, 30, 3), np.uint8), "an array of shape (0, 30, 3)"),
        (torch.zeros(20, 30, 3), "a tensor of shape (20, 30, 3): must be (3, H, W) or (1, H, W); use tensor.permute"),
        (torch.zeros(2, 3, 20, 30), "give a list of its images"),
        (7, "int: give a path, a PIL image, "),
        (None, "NoneType: give a path, "),
        ("https://x.org/a.jpg", "https://x.org/a.jpg: is a URL; sppcls predicts image files"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_image_is_one_line(net: SPPClassifier, image: object, message: str) -> None:
    for images in (image, [image]):
        if isinstance(image, np.ndarray | torch.Tensor) and image.ndim == 4 and images is image:
            continue
        with pytest.raises(ConfigError) as caught:
            sppcls.predict(net, images)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
