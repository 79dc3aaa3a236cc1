"""Doctor's look at pixel values, on files whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sppcls.cli.doctor.pixels import pixels
from sppcls.data import build_sources, set_pixel_range


def photos(root, high, dtype, suffix):
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number in range(5):
            values = np.linspace(0, high, 64).astype(dtype).reshape(8, 8)
            Image.fromarray(values).save(root / name / f"{number}{suffix}")
    return build_sources("folder", root).train


def found(train):
    return [(finding.level, finding.text, finding.do) for finding in pixels(train)]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(
    ("high", "levels", "asked"), [(4095, 16, 4095), (3000, 12, 4095), (1023, 4, 1023), (255, 1, 255)]
)
def test_few_bits_in_16_are_noted(high, levels, asked, suffix, tmp_path):
    train = photos(tmp_path, high, np.uint16, suffix)
    ((level, text, do),) = found(train)
    assert level == "note"
    assert f"values from 0 to {high}: {levels} of 255 levels are used" in text
    assert do == f"data.pixel_range=[0,{asked}]"
    set_pixel_range((0, asked), train)
    ((level, text, _),) = found(train)
    assert level == "ok"
    assert f"data.pixel_range=[0,{asked}]" in text


def test_all_16_bits_are_fine(tmp_path):
    ((level, *_),) = found(photos(tmp_path, 65535, np.uint16, ".png"))
    assert level == "ok"


def test_shares_are_suggested_as_such(tmp_path):
    ((level, text, do),) = found(photos(tmp_path, 1, np.float32, ".tif"))
    assert (level, do) == ("note", "data.pixel_range=[0,1] if those are black and white")
    assert "values from 0 to 1" in text


def test_label_images_are_noted_and_photos_are_not(tmp_path):
    ((level, text, _),) = found(photos(tmp_path / "labels", 3, np.uint8, ".png"))
    assert level == "note"
    assert "brightest value is 3 of 255" in text
    assert found(photos(tmp_path / "photos", 250, np.uint8, ".png")) == []
    assert found(build_sources("shapes", num_train=20, num_val=20).train) == []
