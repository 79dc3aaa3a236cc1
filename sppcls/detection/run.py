"""A detector as a run of a config: trained, judged, and kept in a run folder that sweeps and comparisons read."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from sppcls._util.files import replacing
from sppcls._version import __version__
from sppcls.config.schema import Config, as_dict
from sppcls.detection.ap import MEASURES, Result, judge
from sppcls.detection.predict import detect_set
from sppcls.detection.progress import Progress, no_progress
from sppcls.detection.proposals import make_proposer
from sppcls.detection.sets import read_set
from sppcls.detection.settings import Settings, check_settings
from sppcls.detection.store import Store, default_cache
from sppcls.detection.svm import SVMRules
from sppcls.detection.train import train_detector
from sppcls.detection.truth import DetectionSet
from sppcls.detection.tuning import TuningRules
from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier
from sppcls.runs.checkpoint import load_classifier
from sppcls.runs.folder import base_folder, is_same_run, numbered_folders
from sppcls.runs.names import CONFIG, JUDGED
from sppcls.runs.result import write_result

_LAYER = {"pool5": "spp"}


def settings_of(config: Config) -> Settings:
    """The settings of a detector that a config means."""
    found = config.detection
    tuned = found.features.startswith("ft")
    layer = found.features.removeprefix("ft")
    same = (
        "scales",
        "scale_rule",
        "window_rule",
        "proposals",
        "limit",
        "k",
        "scorer",
        "regression",
        "ridge",
        "nms",
    )
    return Settings(
        **{name: getattr(found, name) for name in same},
        tuning=TuningRules(
            found.tuning_steps if tuned else 0,
            found.tuning_lr,
            seed=config.seed,
            convolutions=found.convolution_steps,
            convolutions_lr=found.convolution_lr,
        ),
        layer=_LAYER.get(layer, layer),
        svm=SVMRules(duplicates=found.duplicates, passes=found.passes),
        seed=config.seed,
    )


def check_run(config: Config, here: bool = True) -> tuple[SPPClassifier, DetectionSet, DetectionSet]:
    """The network, the images to train on and those to judge on.

    Args:
        config: with a ``detection.checkpoint``.
        here: whether the run will be on this machine, so that its devices are what it will have.

    Raises:
        SppclsError: one of them cannot be read, or the settings do not fit; nothing has been written.
    """
    found = config.detection
    assert found.checkpoint is not None
    assert found.data is not None
    settings = settings_of(config)
    scenes = found.scenes or 0
    images = read_set(found.data, found.split, count=scenes)
    judged = read_set(found.data, found.test_split, purpose="test", count=-(-scenes // 3))
    net = load_classifier(Path(found.checkpoint), _device(config.trainer.accelerator) if here else "cpu")
    check_settings(net, images, settings)
    return net, images, judged.as_classes(images.classes)


def _device(accelerator: str) -> str:
    there = torch.cuda.is_available()
    if accelerator == "gpu" and not there:
        raise ConfigError("trainer.accelerator=gpu: torch sees no GPU here; choose cpu or auto")
    return "cuda" if there and accelerator != "cpu" else "cpu"


def run_detector(
    config: Config, *, say: Callable[[str], None] = lambda line: None, progress: Progress = no_progress
) -> Path:
    """Train and judge the detector of a config, or go on where the same one was stopped; its folder.

    Raises:
        SppclsError: as :func:`check_run`, before anything is written; or the folder cannot be written.
    """
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    net, images, judged = check_run(config)
    folder = _folder(config)
    cache = default_cache() if config.detection.maps_dir is None else Path(config.detection.maps_dir)
    begun = time.monotonic()
    say(f"{images.name}: {len(images):,} images to train on, {len(judged):,} to judge on; folder {folder}")
    with SummaryWriter(str(folder)) as writer:
        with replacing(folder / CONFIG) as temporary:
            temporary.write_text(yaml.safe_dump(as_dict(config), sort_keys=False), encoding="utf-8")

        def log(step: int, figures: dict[str, float]) -> None:
            for name, value in figures.items():
                writer.add_scalar(f"fine-tuning/{name}", value, step)

        settings = settings_of(config)
        detector = train_detector(
            net, images, folder, settings, cache=cache, workers=config.data.workers, say=say, progress=progress, log=log
        )  # fmt: skip
        proposer = make_proposer(settings.proposals, settings.limit, settings.k)
        found = detect_set(detector, judged, proposer, cache, workers=config.data.workers, progress=progress)
        result = judge(judged, found)
        for measure in MEASURES:
            writer.add_scalar(f"detection/mAP_{measure}", result.mean[measure], 0)
        _keep(folder, judged, result, time.monotonic() - begun, net)
    figures = ", ".join(f"{measure} {result.mean[measure]:.1f} %" for measure in MEASURES)
    say(f"mAP on {len(judged):,} images: {figures}")
    return folder


def _folder(config: Config) -> Path:
    """That of the same run before, or a new one."""
    base = base_folder(config)
    for folder, new in numbered_folders(base, f"runs_dir={config.runs_dir}", "choose another run_name"):
        # One that was made and died before it wrote anything is as good as new.
        if new or is_same_run(folder, config) or not any(p for p in folder.iterdir() if p.name[0] != "."):
            return folder
    raise ConfigError(f"{base}: no free folder")


def _keep(folder: Path, judged: DetectionSet, result: Result, seconds: float, net: SPPClassifier) -> None:
    """What comparisons and sweeps read. The means of resampled images are kept, so intervals can be paired."""
    digest = hashlib.sha256(json.dumps([judged.classes, judged.names]).encode())
    for truth in judged.truths:
        for array in (truth.boxes, truth.labels, truth.difficult):
            digest.update(array.tobytes())
    Store(folder).put(
        JUDGED,
        measures=np.array(MEASURES),
        means=np.array([result.mean[measure] for measure in MEASURES]),
        draws=result.draws,
        images=np.array(digest.hexdigest()),
        count=np.array(len(judged)),
    )
    write_result(
        folder,
        {
            "map": result.mean,
            "classes": {one.name: {"objects": one.objects, **one.ap} for one in result.classes},
            "images": len(judged),
            "train_seconds": seconds,
            "parameters": sum(parameter.numel() for parameter in net.parameters()),
            "device": str(next(net.parameters()).device),
            "sppcls": __version__,
        },
    )
