"""Small untrained networks as checkpoints, and images for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sppcls.nn import build_classifier
from sppcls.runs.checkpoint import make_model_info

SIZE = 96
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def save_net(
    path: Path,
    *,
    backbone: str = "zf5",
    levels: list[Any] | None = None,
    head: str = "fc",
    hidden: tuple[int, ...] = (16, 12),
    size: int = SIZE,
    norm: str | None = None,
    seed: int = 0,
    **said: Any,
) -> Path:
    """A checkpoint of a network with random weights; without levels, one without a pyramid.

    What is ``said`` is put into its model_info.
    """
    width = 0.0625 if backbone in ("zf5", "convnet_star5", "overfeat5", "overfeat7") else None
    architecture = {
        "backbone": {"name": backbone, "width": width, "norm": norm, "weights": None, "model": None},
        "pyramid": {"levels": levels, "mode": "max", "bin_rule": "adaptive"},
        "head": {"name": head, "hidden": list(hidden), "dropout": 0.5},
        "num_classes": 4,
        "input_size": (size, size),
        "init": "modern",
    }
    torch.manual_seed(seed)
    net = build_classifier(**architecture)
    told = {"classes": ["a", "b", "c", "d"], "mean": MEAN, "std": STD, "config": {}}
    model_info = make_model_info(
        architecture={**architecture, "input_size": [size, size]},
        train_sizes=[(size, size)],
        val_sizes=[(size, size)],
        **{**told, **said},
    )
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"sppcls": model_info, "state_dict": state}, path)
    return path


def write_photo(path: Path, seed: int, colour: tuple[int, int, int] = (128, 128, 128)) -> Path:
    """A noisy image of about this colour; size and aspect vary with the seed."""
    rng = np.random.default_rng(seed)
    height, width = [(100, 130), (120, 100), (150, 150)][seed % 3]
    noise = rng.integers(-60, 60, (height // 10, width // 10, 3))
    pixels = np.kron(noise, np.ones((10, 10, 1))) + np.array(colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path
