"""Small untrained networks for tests of detection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sppcls.nn import SPPClassifier, build_classifier
from sppcls.runs.checkpoint import load_classifier, make_model_info


def save_net(path: Path, *, backbone: str = "zf5", levels: Any = (3, 2, 1), mode: str = "max",
             bin_rule: str = "adaptive", head: str = "fc", hidden: tuple[int, ...] = (16, 12)) -> Path:  # fmt: skip
    """A checkpoint of a network with random weights for images of 96 pixels."""
    architecture = {
        "backbone": {"name": backbone, "width": 0.0625 if backbone == "zf5" else None},
        "pyramid": {"levels": levels and list(levels), "mode": mode, "bin_rule": bin_rule},
        "head": {"name": head, "hidden": list(hidden), "dropout": 0.5},
        "num_classes": 4,
        "input_size": [96, 96],
    }
    torch.manual_seed(0)
    net = build_classifier(**{**architecture, "input_size": (96, 96)})
    info = make_model_info(
        architecture=architecture,
        classes=["a", "b", "c", "d"],
        mean=[0.4, 0.5, 0.6],
        std=[0.2, 0.25, 0.3],
        train_sizes=[(96, 96)],
        val_sizes=[(96, 96)],
        config={},
    )
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"sppcls": info, "state_dict": state}, path)
    return path


def make_net(folder: Path, **settings: Any) -> SPPClassifier:
    return load_classifier(save_net(folder / "net.ckpt", **settings))
