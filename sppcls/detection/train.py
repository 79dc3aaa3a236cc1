"""From a classifier and images with boxes to a detector, stage by stage (He et al. 2015, sec. 4.1).

Windows, maps, fine-tuning of the fc layers, SVMs, box regression. What a stage has made is kept, and the same call goes on
after it: a run that was killed ends with the same detector.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sppcls._util.files import one_at_a_time, read_json, replacing
from sppcls.data.pixel_range import trained_pixel_range
from sppcls.detection.ap import rank
from sppcls.detection.compress import Outputs, outputs_of
from sppcls.detection.convolutions import tune_convolutions
from sppcls.detection.detector import Choice, Detector
from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import POOLED, Regions
from sppcls.detection.progress import Progress, no_progress
from sppcls.detection.proposals import Proposer, propose
from sppcls.detection.regression import BoxRegression, train_regression
from sppcls.detection.sets import read_set
from sppcls.detection.settings import Settings, check_settings
from sppcls.detection.store import Store, default_cache
from sppcls.detection.svm import Scorer, train_svms
from sppcls.detection.truth import DetectionSet
from sppcls.detection.tuning import tune, with_background
from sppcls.detection.window_files import read_windows
from sppcls.detection.window_set import WindowSet, norm_factor
from sppcls.errors import ConfigError
from sppcls.nn import SPPClassifier
from sppcls.runs.checkpoint import load_classifier
from sppcls.runs.names import DETECTOR

_JUDGED = 100  # training images that the scores worth showing are chosen on


def train_detector(
    net: SPPClassifier | str | os.PathLike[str],
    data: str | DetectionSet,
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    split: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    workers: int = 0,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
    progress: Progress = no_progress,
    log: Callable[[int, dict[str, float]], None] = lambda step, figures: None,
) -> Detector:
    """Train a detector, or go on where a run with the same arguments was stopped.

    Args:
        net: from :func:`sppcls.load_classifier`, or a checkpoint; it must have a pyramid.
        data: as of :func:`~sppcls.detection.sets.read_set`, or what that gives.
        out: folder for the detector and what the stages make.
        settings: None: the defaults.
        split: of the set; None: the one to train on.
        cache: folder of windows and maps; None: ``~/.cache/sppcls/detect``.
        workers: processes that propose windows.
        overwrite: replace a detector of other settings in ``out``.
        say: takes a line for each stage.
        progress: gives a wrapper for the items of a stage.
        log: takes the step and the figures of fine-tuning.

    Raises:
        ConfigError: settings that the network cannot work with, a package is missing, or ``out`` holds another
            detector.
        DataError: the set is unusable, or a class of it has no object that is not difficult.
    """
    settings = settings or Settings()
    net = net if isinstance(net, SPPClassifier) else load_classifier(Path(net))
    images = read_set(data, split) if isinstance(data, str) else data
    images = images.seen_as(trained_pixel_range(net.model_info))
    proposer, regions, layer = check_settings(net, images, settings)
    folder = _claim(Path(out), _key(net, images, settings, proposer), overwrite)
    cache = default_cache() if cache is None else Path(cache)
    with one_at_a_time(folder / ".lock", lambda: say(f"waiting for another process in {folder}")):
        stages = _Stages(folder / "stages", say)
        windows = propose(images, proposer, cache, workers=workers, progress=progress("windows"))
        stages.say(f"windows: {np.mean([len(boxes) for boxes in windows]):,.0f} per image")
        if settings.tuning.any:
            net = with_background(net, images.classes, settings.tuning.seed)
            regions = Regions(net, regions.rules)

        def learn_from(what: str) -> WindowSet:
            maps = KeptMaps(regions, images, cache)
            maps.make(say, progress("maps"))
            stages.say(f"{what}: there")
            return WindowSet(images, windows, regions, maps)

        learning = learn_from("maps")
        saved = 1 - sum(map(len, learning.cells)) / sum(map(len, learning.boxes))
        stages.say(f"cells: {100 * saved:.0f} % of the windows share theirs with another one")
        if settings.tuning.steps:
            state = folder / "stages" / "tuning.pt"
            tune(net, learning, settings.tuning, state, log=log, progress=progress("fine-tuning"))
            stages.say(f"fine-tuning: {settings.tuning.steps:,} steps")
        if settings.tuning.convolutions:
            state, before = folder / "stages" / "convolutions.pt", settings.tuning.steps
            wrap = progress("fine-tuning of the convolutions")
            tune_convolutions(
                regions,
                learning,
                settings.tuning,
                state,
                log=lambda step, f: log(before + step, f),
                progress=wrap,
            )
            stages.say(f"fine-tuning of the convolutions: {settings.tuning.convolutions:,} steps")
            learning = learn_from("maps of the new convolutions")
        scorer = regression = None
        if settings.scorer == "svm":
            scorer = Scorer(
                **stages.kept("svm", f"SVMs on {layer}", _svms, learning, layer, settings, progress)
            )
        if settings.regression:
            made = stages.kept("regression", "box regression", _regression, learning, settings, progress)
            regression = BoxRegression(**made)
        detector = Detector(
            regions,
            images.classes,
            layer,
            scorer,
            regression,
            proposer if isinstance(proposer, Proposer) else Proposer(limit=settings.limit, k=settings.k),
            Choice(-1.5 if scorer else 0.01, settings.nms, settings.per_class),
            _about(images, settings, proposer),
            _outputs(stages.kept("outputs", "", _sums, learning, layer, settings)),
        )
        shown = stages.kept("shown", "scores worth showing", _shown, detector, learning, windows, progress)
        detector.choice = dataclasses.replace(detector.choice, shown=tuple(map(float, shown["scores"])))
        detector.seconds.clear()
        detector.save(folder / DETECTOR)
    return detector


Made = tuple[dict[str, np.ndarray], str]  # what a stage has made, and what is said of it


class _Stages:
    """Keeps what stages have made in a folder, and says what they came to and how long they took."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._store, self._say, self._begun = Store(folder), say, time.monotonic()

    def say(self, text: str) -> None:
        now = time.monotonic()
        self._say(f"{text} ({now - self._begun:.1f} s)")
        self._begun = now

    def kept(self, name: str, what: str, make: Callable[..., Made], *given: Any) -> dict[str, np.ndarray]:
        """The arrays of a stage: those that an earlier run has made, or new ones; nothing is said of a stage ``""``."""
        arrays, note = self._store.get(name), ": there"
        if arrays is None:
            arrays, note = make(*given)
            self._store.put(name, **arrays)
        if what:
            self.say(what + note)
        return arrays


def _svms(windows: WindowSet, layer: str, settings: Settings, progress: Progress) -> Made:
    factor = norm_factor(windows, layer, settings.seed)
    scorer, mined = train_svms(windows, layer, factor, settings.svm, progress("SVMs"))
    counts = " to ".join(f"{count:,}" for count in sorted({min(mined.negatives), max(mined.negatives)}))
    unfinished = f"; {mined.unfinished} did not converge" if mined.unfinished else ""
    return vars(scorer), f": {mined.passes} passes, {counts} negatives{unfinished}"


def _regression(windows: WindowSet, settings: Settings, progress: Progress) -> Made:
    factor = norm_factor(windows, POOLED, settings.seed)
    return vars(train_regression(windows, factor, settings.ridge, progress("box regression"))), ""


def _sums(windows: WindowSet, layer: str, settings: Settings) -> Made:
    found = outputs_of(windows, layer, settings.seed)
    return {
        f"{name}.{part}": value.numpy() for name, one in found.items() for part, value in vars(one).items()
    }, ""


def _outputs(kept: dict[str, np.ndarray]) -> dict[str, Outputs]:
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, array in kept.items():
        name, _, part = key.rpartition(".")
        parts.setdefault(name, {})[part] = torch.from_numpy(array)
    return {name: Outputs(**one) for name, one in parts.items()}


def _shown(detector: Detector, learning: WindowSet, windows: list[np.ndarray], progress: Progress) -> Made:
    """The score of each class that gives the best F1 on training images, on 100 of them at most.

    An SVM's own boundary, 0, is far too strict where objects are few among thousands of windows and C is small.
    """
    images = learning.images
    count = min(len(images), _JUDGED)
    found = [
        detector.detect_on(learning.maps[index], windows[index], images.sizes[index])
        for index in progress("scores worth showing")(range(count), count)
    ]
    ranked = [rank(images.truths[:count], found, label) for label in range(len(images.classes))]
    return {"scores": np.array([one.best_score() for one in ranked])}, f", of {count} images"


def _key(net: SPPClassifier, images: DetectionSet, settings: Settings, proposer: Proposer | Path) -> str:
    """What tells a detector from all others: network, images, settings, and a file of windows."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(proposer, Path):
        for name, boxes in read_windows(proposer).items():
            digest.update(name.encode("utf-8", "surrogateescape"))
            digest.update(boxes.tobytes())
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    digest.update(json.dumps(dataclasses.asdict(settings), sort_keys=True).encode())
    digest.update("\0".join(images.classes).encode("utf-8", "surrogateescape"))
    for index, truth in enumerate(images.truths):
        digest.update(images.digest(index).encode())
        for array in (truth.boxes, truth.labels, truth.difficult):
            digest.update(array.tobytes())
    return digest.hexdigest()


def _claim(folder: Path, key: str, overwrite: bool) -> Path:
    """The folder of a detector; what lies there of another one is refused, or with ``overwrite`` removed."""
    note = folder / "detector.json"
    there = read_json(note)
    if there is not None and there.get("key") != key:
        if not overwrite:
            raise ConfigError(
                f"--out {folder}: holds a detector of another network, other images or settings; name another folder, or "
                "add --overwrite"
            )
        for path in (*(folder / "stages").glob("*"), folder / DETECTOR):
            path.unlink(missing_ok=True)
    try:
        (folder / "stages").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder}: cannot be made ({error.strerror})") from None
    with replacing(note) as temporary:
        temporary.write_text(json.dumps({"key": key}), encoding="utf-8")
    return folder


def _about(images: DetectionSet, settings: Settings, proposer: Proposer | Path) -> dict[str, Any]:
    plain = dataclasses.asdict(settings)
    return {
        "images": len(images),
        "split": images.split,
        "objects": dict(zip(images.classes, map(int, images.counts()), strict=True)),
        "settings": {**plain, "proposals": "file" if isinstance(proposer, Path) else plain["proposals"]},
        "torch": str(torch.__version__),
    }
