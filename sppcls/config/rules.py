"""Values that are fine alone and impossible together: what can be said before data is touched."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from sppcls._util.files import check_local
from sppcls.config.parts import values_of
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config
from sppcls.errors import ConfigError

DEVICES = "a number >= 1, a list of different GPU numbers >= 0, or auto"


def check_together(config: Config) -> None:
    """Refuse values that do not go together.

    Raises:
        ConfigError: one line naming the keys, their values and what to type.
    """
    size_schedule(config)  # raises on impossible sizes
    for rule in (_sizes_and_images, _learning, _trainer, _cache, _detection, _balance, _folds, _places):
        for problem in rule(config):
            raise ConfigError(problem)


def _sizes_and_images(config: Config) -> Iterator[str]:
    from sppcls.data import as_size
    from sppcls.data.pixel_range import as_pixel_range

    if config.sizes.val_sizes == []:
        yield "sizes.val_sizes=[]: name at least one size, or null for all training sizes"
    for size in config.sizes.val_sizes or []:
        as_size(size, "sizes.val_sizes")
    for name, low, high in (("scale", 0.0, 1.0), ("ratio", 0.0, math.inf)):
        pair = getattr(config.augment, name)
        if len(pair) != 2 or not low < pair[0] <= pair[1] <= high:
            yield f"augment.{name}={pair}: must be [low, high] with {low:g} < low <= high <= {high:g}"
    as_pixel_range(config.data.pixel_range)
    for name in ("mean", "std"):
        values = getattr(config.data, name)
        if len(values) != 3 or not all(0 <= v <= 1 for v in values) or (name == "std" and 0 in values):
            yield f"data.{name}={values}: must be three numbers in 0..1, for R, G and B"
    for name in ("mixup", "cutmix"):
        alpha = getattr(config.mix, name)
        if 0 < alpha < 1e-6:  # nothing in float32, of which the shares are drawn
            yield f"mix.{name}={alpha}: must be 0, for none, or >= 1e-06"


def _learning(config: Config) -> Iterator[str]:
    optimizer, milestones = config.optimizer, config.scheduler.milestones
    if len(optimizer.betas) != 2 or not all(0 <= b < 1 for b in optimizer.betas):
        yield f"optimizer.betas={optimizer.betas}: must be two numbers in [0, 1)"
    if optimizer.nesterov and optimizer.momentum == 0:
        yield "optimizer.nesterov=true: needs optimizer.momentum > 0, such as optimizer.momentum=0.9"
    for part, factor in optimizer.lr_factors.items():
        if not 0 < factor < math.inf:
            yield f"optimizer.lr_factors.{part}={factor}: must be above 0; freeze=[{part}] does not train it"
    if config.freeze_epochs is not None and not config.freeze:
        yield f"freeze_epochs={config.freeze_epochs}: nothing is frozen; add the parts: freeze=[backbone]"
    if config.ema.enabled and config.swa.enabled:
        yield "swa.enabled=true: also ema.enabled=true, another average of the weights; type one of them"
    if config.init_from is not None and config.backbone.weights is not None:
        yield (
            f"init_from={config.init_from}: also backbone.weights={config.backbone.weights}, which is the backbone's start, "
            "too; type one of them"
        )
    if not all(0 < m < 1 for m in milestones):
        yield f"scheduler.milestones={milestones}: must be shares of the training in 0..1"


def _trainer(config: Config) -> Iterator[str]:
    epochs, every = config.trainer.max_epochs, config.trainer.val_every
    if epochs % every:
        fitting = ", ".join(str(n) for n in range(1, min(epochs, 100) + 1) if epochs % n == 0)
        yield (
            f"trainer.val_every={every}: must divide trainer.max_epochs={epochs}, so that the last epoch is validated; "
            f"choose from {fitting}"
        )
    tests = config.evaluation.every
    if tests is not None and tests % every:
        yield (
            f"evaluation.every={tests}: must be a multiple of trainer.val_every={every}, such as "
            f"evaluation.every={tests + -tests % every}"
        )
    devices = config.trainer.devices
    number = type(devices) is int and devices >= 1
    numbers = isinstance(devices, list) and devices and all(type(d) is int and d >= 0 for d in devices)
    if not (devices == "auto" or number or (numbers and len(set(devices)) == len(devices))):
        yield f"trainer.devices={devices}: must be {DEVICES}"


def _cache(config: Config) -> Iterator[str]:
    data, side, crop = config.data, config.data.cache_shorter_side, config.augment.crop
    if data.cache == "none":
        for name in ("cache_dir", "cache_shorter_side"):
            if (value := getattr(data, name)) is not None:
                yield f"data.{name}={value}: there is no cache; add data.cache=disk"
        return
    if data.name in ("shapes", "cifar10"):
        yield f"data.cache={data.cache}: data={data.name} has no image files; type data.cache=none"
    if side is None:
        return
    if crop != "resized":
        yield (
            f"data.cache_shorter_side={side}: only for augment.crop=resized (add augment=resized); with crop={crop} "
            "the images are reduced to the side that it cuts from"
        )
    least = min(size_schedule(config).largest)
    if side < least:
        yield (
            f"data.cache_shorter_side={side}: must be at least the region's {least}; type data.cache_shorter_side={least}"
        )


def _detection(config: Config) -> Iterator[str]:
    detection = config.detection
    features, tuned = detection.features, detection.features.startswith("ft")
    if detection.checkpoint is None:
        if detection.data is not None:
            yield "detection.checkpoint: missing; a detector is made of a classifier: detection.checkpoint=CKPT"
        return
    if detection.data is None:
        yield "detection.data: missing; a detector learns from images with boxes: detection.data=SET, or shapes"
    if not re.fullmatch(r"pool5|(ft)?fc\d+", features):
        yield f"detection.features={features}: choose from pool5, fc6, fc7, ftfc6, ftfc7"
    if detection.scorer == "softmax" and not tuned:
        yield (
            "detection.scorer=softmax: the fine-tuned network's own classes; choose detection.features=ftfc7, "
            f"not {features}"
        )
    if detection.convolution_steps and not tuned:
        yield (
            f"detection.convolution_steps={detection.convolution_steps}: is fine-tuning; choose detection.features=ftfc7, "
            f"not {features}"
        )
    if detection.scenes is not None and detection.data != "shapes":
        yield f"detection.scenes={detection.scenes}: scenes are generated for detection.data=shapes only"
    if config.ckpt_path is not None:
        yield f"ckpt_path={config.ckpt_path}: the same command again resumes a detector, without ckpt_path"


def _balance(config: Config) -> Iterator[str]:
    """Weights of the classes, as far as they can be judged without them."""
    from sppcls.data.balance import BALANCED, PLAIN, check_weight

    sampler, balance = config.data.sampler, config.data.balance
    if balance != 1 and sampler != BALANCED:
        yield f"data.balance={balance:g}: only the balanced sampler has it; add data.sampler=balanced"
    for name, value, words in (
        ("data.sampler", sampler, (PLAIN, BALANCED)),
        ("loss.class_weights", config.loss.class_weights, (None, BALANCED)),
    ):
        if isinstance(value, dict | list) and value:
            for label, weight in value.items() if isinstance(value, dict) else enumerate(value):
                check_weight(name, str(label), weight)
        elif value not in words:
            allowed = " or ".join("null" if word is None else word for word in words)
            yield f"{name}={value}: must be {allowed}, or numbers > 0 such as {{roses: 3}}"


def _folds(config: Config) -> Iterator[str]:
    folds, fold = config.data.folds, config.data.fold
    if folds is None and fold is not None:
        yield f"data.fold={fold}: of how many? add data.folds=5"
    if folds is not None and fold is None:
        yield f"data.folds={folds}: which one is validated on? add data.fold=0, or train all: -m +sweep=kfold"
    if folds is not None and fold is not None and fold >= folds:
        yield f"data.fold={fold}: must be below data.folds={folds}; the first is 0; all: data.fold={_all_folds(folds)}"


def _places(config: Config) -> Iterator[str]:
    """Folders and files that this machine can have."""
    ours = values_of(config.data) is None  # another has the keys that its own signature says
    root, name = (config.data.root, config.data.name) if ours else (None, "shapes")
    for key, place in {
        "data.root": root,
        "data.cache_dir": config.data.cache_dir,
        "backbone.weights": config.backbone.weights,
        "init_from": config.init_from,
        "ckpt_path": config.ckpt_path,
        "detection.checkpoint": config.detection.checkpoint,
        "detection.data": config.detection.data,
        "runs_dir": config.runs_dir,
    }.items():
        if place is not None:
            check_local(place, f"{key} takes a path")
    if name == "shapes" and root:
        yield f"data.root={root}: data=shapes has no files; for photos add data=folder"
    if name != "shapes" and not root:
        yield f"data.root: missing; data={name} needs the folder of its images: data.root=FOLDER"


def _all_folds(folds: int) -> str:
    return ",".join(map(str, range(folds))) if folds <= 10 else f"0,1,...,{folds - 1}"
