"""The configuration: every key, its type, what it means, what it may be, and its value where nothing else is said.

The files in ``conf/`` hold what differs from the defaults here, which Hydra composes first
(:mod:`sppcls.config.defaults`); a key without a default needs a value. :mod:`sppcls.config.checks` turns any values
into a :class:`Config`.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from sppcls._util.figures import FIGURES
from sppcls.config.key import MISSING, documented, key
from sppcls.config.schema_detection import DetectionConfig
from sppcls.config.schema_network import BackboneConfig, HeadConfig, PyramidConfig
from sppcls.config.schema_training import (
    EmaConfig,
    EvaluationConfig,
    LogConfig,
    LossConfig,
    OptimizerConfig,
    SchedulerConfig,
    SwaConfig,
    TrainerConfig,
)
from sppcls.registry import CROPS, INITS, SCHEDULES, SOURCES


@documented
@dataclass
class DataConfig:
    """Where images come from and how they are read.

    Args:
        name: source of images
        root: folder of the data set (not used by shapes)
        download: fetch a torchvision data set into root if it is not there
        val_fraction: share of each class held out where there is no validation split
        folds: cross-validation: so many folds of all images but the test split's; null: none
        fold: the fold that is validated on, from 0; the others are trained on
        labels: CSV or JSON-lines file of labels, in root (folder); null: class folders, or found
        multi_label: several labels an image: true (between | or ;), comma, space, or false; null: what the file of
            labels shows
        train_dir: folder of training classes, in root (folder); null: recognised by its name
        val_dir: folder of validation classes, in root (folder); null: recognised, or held out
        test_dir: folder of test classes, in root (folder); null: recognised, if there is one
        num_train: number of training images (shapes only)
        num_val: number of validation images (shapes only)
        batch_size: training images per step and device, at the largest size
        val_batch_size: validation images per step and device; null: batch_size
        workers: loader processes per device
        drop_last: full batches only; false spreads the images evenly over the steps, none left out
        sampler: plain: each image once per epoch; balanced: all classes equally often; or how often, as {class: number}
        balance: of sampler=balanced: from 0, all images equally often, to 1, all classes
        check: look at the header of every image file before training
        on_error: an image that cannot be decoded in training
        max_pixels: largest image accepted, in pixels
        pixel_range: grey of more than 8 bits: full (white is the depth's largest value), image (each its own),
            [black,white]
        cache: disk: decode and reduce the images once, before training
        cache_dir: folder of the cache; null: .sppcls-cache in root, or ~/.cache/sppcls
        cache_shorter_side: shorter side of cached training images (augment.crop=resized); null: no detail is lost
        mean: RGB mean, in 0..1
        std: RGB standard deviation, in 0..1
    """

    name: str = key(choices=SOURCES)
    root: str | None = key(None)
    download: bool = key(False, changes="place")
    val_fraction: float = key(0.2, above=0, high=0.9)
    folds: int | None = key(None, low=2, changes="state")
    fold: int | None = key(None, low=0, changes="state")
    labels: str | None = key(None)
    multi_label: Any = key(None, choices=(None, True, False, "comma", "space"))
    train_dir: str | None = key(None)
    val_dir: str | None = key(None)
    test_dir: str | None = key(None)
    num_train: int | None = key(None, low=1)
    num_val: int | None = key(None, low=1)
    batch_size: int = key(32, low=1)
    val_batch_size: int | None = key(None, low=1, changes="speed")
    workers: int = key(4, low=0, changes="speed")
    drop_last: bool = key(False)
    sampler: Any = key("plain")
    balance: float = key(1.0, low=0, high=1)
    check: bool = key(True, changes="place")
    on_error: str = key("skip", choices=("skip", "raise"))
    # Pillow's own limit for a decompression bomb.
    max_pixels: int = key(178956970, low=1)
    pixel_range: Any = key("full")
    cache: str = key("none", choices=("none", "disk"))
    cache_dir: str | None = key(None, changes="place")
    cache_shorter_side: int | None = key(None, low=1)
    # ImageNet's statistics.
    mean: list[float] = key([0.485, 0.456, 0.406])
    std: list[float] = key([0.229, 0.224, 0.225])


@documented
@dataclass
class SizesConfig:
    """Which input size is trained on when (He et al. 2015, sec. 2.3).

    Args:
        kind: schedule of the input size
        sizes: single: [size]; alternate: any list; random, progressive: [low, high]; N or [h, w]
        period: epochs at one size before the next (alternate)
        step: spacing of the sizes between low and high (random and progressive)
        pixel_budget: larger batches at smaller sizes: the same number of pixels per step
        val_sizes: sizes validated at; null: all training sizes (both ends of a range)
    """

    kind: str = key(choices=SCHEDULES)
    sizes: list[Any] = key()
    period: int = key(1, low=1)
    step: int = key(1, low=1)
    pixel_budget: bool = key(False)
    val_sizes: list[Any] | None = key(None, changes="validation")


@documented
@dataclass
class AugmentConfig:
    """From image to training region (He et al. 2015, sec. 3.1).

    Args:
        crop: five: centre and corners of the whole image; anywhere; center; resized: random area and aspect
        shorter_side: shorter side of the image before cropping; null: 256/224 of the region's
        flip: mirror half of the images
        lighting: standard deviation of PCA colour lighting; 0 switches it off
        scale: share of the image's area, low and high (crop=resized)
        ratio: width over height, low and high (crop=resized)
        trivial_augment: torchvision's TrivialAugmentWide
        rand_augment: magnitude of torchvision's RandAugment; 0 switches it off
        augmix: severity of torchvision's AugMix; 0 switches it off
        erasing: probability of random erasing
        repeats: times that a step has each of its images, augmented in different ways
    """

    crop: str = key(choices=CROPS)
    shorter_side: int | None = key(None, low=1)
    flip: bool = key(True)
    lighting: float = key(0.0, low=0)
    scale: list[float] = key([0.08, 1.0])
    ratio: list[float] = key([0.75, 1.3333333])
    trivial_augment: bool = key(False)
    rand_augment: int = key(0, low=0, high=30)
    augmix: int = key(0, low=0, high=10)
    erasing: float = key(0.0, low=0, high=1)
    repeats: int = key(1, low=1)


@documented
@dataclass
class MixConfig:
    """Losses and targets that mix images.

    Args:
        label_smoothing: share of the target spread over all classes
        mixup: alpha of mixup; 0 switches it off
        cutmix: alpha of cutmix; 0 switches it off; with mixup, each step takes one of the two
    """

    label_smoothing: float = key(0.0, low=0, high=0.99)
    mixup: float = key(0.0, low=0)
    cutmix: float = key(0.0, low=0)


@documented
@dataclass
class Config:
    """One training run.

    Args:
        name: first folder below runs_dir: the experiment or the data set
        run_name: second folder; null: made of sizes, pyramid, backbone and seed
        runs_dir: where runs are written
        seed: seed of everything random
        ckpt_path: checkpoint or run folder to resume; auto: this run's own last one, if any
        best_by: figure of the main validation size that best.ckpt is the best epoch by
        init: initialisation of new layers
        init_from: checkpoint, run folder or file of weights that all layers which fit start from
        freeze: parts that are not trained, such as [backbone] or [head.fc6]
        freeze_epochs: epochs for which they are not; null: the whole run
        plugins: packages with parts of one's own, which configs may then name; only typed, never in a file
        callbacks: Lightning's callbacks, and one's own, by any name
        logger: where figures are logged besides metrics.csv, by any name
    """

    name: str = key(changes="name")
    run_name: str | None = key(None, changes="name")
    runs_dir: str = key("runs", changes="place")
    seed: int = key(0, low=0, high=2**31 - 1)
    ckpt_path: str | None = key(None, changes="place")
    best_by: str = key("top1_error", choices=tuple(FIGURES), changes="validation")
    init: str = key("modern", choices=INITS)
    init_from: str | None = key(None)
    freeze: list[str] = key([])
    freeze_epochs: int | None = key(None, low=1)
    plugins: list[str] = key([], changes="place")
    data: DataConfig = field(default_factory=DataConfig)
    sizes: SizesConfig = field(default_factory=SizesConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    swa: SwaConfig = field(default_factory=SwaConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    log: LogConfig = field(default_factory=LogConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    callbacks: dict[str, Any] = key({})
    logger: dict[str, Any] = key({}, changes="log")


def default_values(schema: Any = Config) -> dict[str, Any]:
    """The keys of a dataclass of :func:`key` fields that have a default, with their values, nested."""
    values: dict[str, Any] = {}
    for spec in dataclasses.fields(schema):
        if dataclasses.is_dataclass(spec.default_factory):
            values[spec.name] = default_values(spec.default_factory)
        elif spec.metadata["default"] is not MISSING:
            values[spec.name] = copy.deepcopy(spec.metadata["default"])
    return values


def as_dict(config: Config) -> dict[str, Any]:
    """The config as plain dicts and lists, as it is kept in checkpoints and ``config.yaml``."""
    return dataclasses.asdict(config)
