"""Photos of odd shapes and depths through a network: seen as in training, or refused in one line."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from saved_nets import save_net

import sppcls
from sppcls.errors import ImageError
from sppcls.inference.explain.explanation import explain
from sppcls.inference.export.export import describe


@pytest.mark.parametrize(("height", "width"), [(30, 3000), (3000, 30)])
def test_a_very_long_photo_is_drawn_small_and_one_too_long_is_refused(
    height: int, width: int, tmp_path: Path
) -> None:
    net = sppcls.load_classifier(save_net(tmp_path / "net.ckpt", levels=[2, 1]))
    noise = np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)
    explanation = explain(net, torch.from_numpy(noise))
    assert max(explanation.image.shape[1:]) > 10_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layout that collapses is a warning
        figure = explanation.figure()
        figure.draw_without_rendering()
    pictures = [picture for axes in figure.axes for picture in axes.images]
    assert max(max(picture.get_size()) for picture in pictures) <= 1024
    shown = [axes.get_window_extent() for axes in figure.axes if axes.images]
    assert min(min(place.width, place.height) for place in shown) > 50
    file = tmp_path / "thread.png"
    Image.new("RGB", (30_000, 1) if width > height else (1, 30_000)).save(file)
    with pytest.raises(ImageError, match=r"thread\.png: .* is too elongated: resized to .* needs \d+ pixels"):
        explain(net, file)
    (prediction,) = sppcls.predict(net, file)
    assert "too elongated: resized to" in (prediction.error or "")


def with_range(path: Path, pixel_range: object) -> Path:
    """A checkpoint whose network was trained with a pixel range."""
    save_net(path, levels=[2, 1])
    saved = torch.load(path, weights_only=True)
    saved["sppcls"]["config"] = {"data": {"pixel_range": pixel_range}}
    torch.save(saved, path)
    return path


def test_12_bit_images_are_seen_as_in_training(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    values = np.random.default_rng(0).integers(0, 4096, (120, 150), np.uint16)
    Image.fromarray(values).save(photos / "x-ray.png")
    eight = np.rint(values / 4095 * 255).astype(np.uint8)
    dark = np.rint(values / 65535 * 255).astype(np.uint8)
    for name, pixels in (("eight", eight), ("dark", dark)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "x-ray.png")
    old = sppcls.load_classifier(save_net(tmp_path / "old.ckpt", levels=[2, 1]))
    new = sppcls.load_classifier(with_range(tmp_path / "new.ckpt", [0, 4095]))

    def seen(net: sppcls.nn.SPPClassifier, folder: Path) -> list[list[float]]:
        (prediction,) = sppcls.predict(net, folder)
        explanation = explain(net, folder / "x-ray.png")
        features = sppcls.extract_features(net, folder, layer="spp").features
        return [list(prediction.probabilities), [explanation.score], features[0].tolist()]

    as_eight, as_dark = seen(old, tmp_path / "eight"), seen(old, tmp_path / "dark")
    assert as_eight != as_dark
    assert seen(new, photos) == as_eight
    assert seen(old, photos) == as_dark


def test_an_export_says_how_deep_grey_became_8_bits(tmp_path: Path) -> None:
    for kept, said in (("image", "image"), ([0, 4095], [0.0, 4095.0])):
        net = sppcls.load_classifier(with_range(tmp_path / "net.ckpt", kept))
        about = json.loads(json.dumps(describe(net, None, (32, 32))))
        assert about["preprocessing"]["pixel_range"] == said
    net = sppcls.load_classifier(save_net(tmp_path / "old.ckpt", levels=[2, 1]))
    assert describe(net, None, (32, 32))["preprocessing"]["pixel_range"] == "full"
