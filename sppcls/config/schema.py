"""The configuration: every key, its type, what it means, what it may be, and its value where nothing else is said.

The files in ``conf/`` hold what differs from the defaults here, which Hydra composes first
(:mod:`sppcls.config.defaults`); a key without a default needs a value. :mod:`sppcls.config.checks` turns any values
into a :class:`Config`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import re
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from sppcls._util.figures import FIGURES
from sppcls.registry import (
    BACKBONES,
    BIN_RULES,
    CROPS,
    HEADS,
    INITS,
    LOSSES,
    NORMS,
    OPTIMIZERS,
    POOL_MODES,
    SCHEDULERS,
    SCHEDULES,
    SOURCES,
)

# OmegaConf's word for a missing value; what compares runs needs this schema without OmegaConf.
_MISSING: Any = "???"

# What another value of a key changes; see :mod:`sppcls.config.same_run`.
Change = Literal["state", "weights", "length", "validation", "tests", "name", "speed", "place", "log"]


def literal(text: str) -> str:
    """A text of which OmegaConf looks nothing up: ``${`` is escaped."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def in_quotes(text: str) -> str:
    """A text in double quotes of Hydra's grammar; what it says in ``${...}`` is still looked up."""
    # A backslash is one, unless it stands before a quote.
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text) + '"'


def hydra_word(key: str, value: object) -> str:
    """``key=value`` with the quotes that Hydra's grammar asks for."""
    text = str(value)
    if not isinstance(value, str | os.PathLike) or _PLAIN.fullmatch(text):
        return f"{key}={text}"
    return f"{key}={in_quotes(literal(text))}"


# Text that Hydra takes for nothing else, and that no reader takes for a home folder or a variable.
_PLAIN = re.compile(
    r"(?!(?:null|true|false|nan|inf)\Z)(?:\.{0,2}/|[a-z_])[\w./@%+-]*", re.ASCII | re.IGNORECASE
)


def key(
    help: str,
    *,
    default: Any = _MISSING,
    choices: tuple[Any, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    changes: Change = "weights",
) -> Any:
    """A config key: what it means, and which values it takes (``low <= value <= high``, ``value > above``).

    Args:
        default: its value where no file and no word gives it one; none: it has to be given.
        changes: what another value changes in a run, which decides whether it is still the same one:
            :mod:`sppcls.config.same_run`.
    """
    return field(
        default=_MISSING,
        metadata={
            "help": help,
            "default": default,
            "choices": choices,
            "low": low,
            "high": high,
            "above": above,
            "changes": changes,
        },
    )


@dataclass
class DataConfig:
    """Where images come from and how they are read."""

    name: str = key("source of images", choices=SOURCES)
    root: str | None = key("folder of the data set (not used by shapes)", default=None)
    download: bool = key(
        "fetch a torchvision data set into root if it is not there", default=False, changes="place"
    )
    val_fraction: float = key(
        "share of each class held out where there is no validation split", default=0.2, above=0, high=0.9
    )
    folds: int | None = key(
        "cross-validation: so many folds of all images but the test split's; null: none",
        default=None,
        low=2,
        changes="state",
    )
    fold: int | None = key(
        "the fold that is validated on, from 0; the others are trained on",
        default=None,
        low=0,
        changes="state",
    )
    labels: str | None = key(
        "CSV or JSON-lines file of labels, in root (folder); null: class folders, or found", default=None
    )
    multi_label: Any = key(
        "several labels an image: true (between | or ;), comma, space, or false; null: what the file of labels shows",
        default=None,
        choices=(None, True, False, "comma", "space"),
    )
    train_dir: str | None = key(
        "folder of training classes, in root (folder); null: recognised by its name", default=None
    )
    val_dir: str | None = key(
        "folder of validation classes, in root (folder); null: recognised, or held out", default=None
    )
    test_dir: str | None = key(
        "folder of test classes, in root (folder); null: recognised, if there is one", default=None
    )
    num_train: int | None = key("number of training images (shapes only)", default=None, low=1)
    num_val: int | None = key("number of validation images (shapes only)", default=None, low=1)
    batch_size: int = key("training images per step and device, at the largest size", default=32, low=1)
    val_batch_size: int | None = key(
        "validation images per step and device; null: batch_size", default=None, low=1, changes="speed"
    )
    workers: int = key("loader processes per device", default=4, low=0, changes="speed")
    drop_last: bool = key(
        "full batches only; false spreads the images evenly over the steps, none left out", default=False
    )
    sampler: Any = key(
        "plain: each image once per epoch; balanced: all classes equally often; or how often, as {class: number}",
        default="plain",
    )
    balance: float = key(
        "of sampler=balanced: from 0, all images equally often, to 1, all classes", default=1.0, low=0, high=1
    )
    check: bool = key("look at the header of every image file before training", default=True, changes="place")
    on_error: str = key(
        "an image that cannot be decoded in training", default="skip", choices=("skip", "raise")
    )
    # Pillow's own limit for a decompression bomb.
    max_pixels: int = key("largest image accepted, in pixels", default=178956970, low=1)
    pixel_range: Any = key(
        "grey of more than 8 bits: full (white is the depth's largest value), image (each its own), [black,white]",
        default="full",
    )
    cache: str = key(
        "disk: decode and reduce the images once, before training", default="none", choices=("none", "disk")
    )
    cache_dir: str | None = key(
        "folder of the cache; null: .sppcls-cache in root, or ~/.cache/sppcls", default=None, changes="place"
    )
    cache_shorter_side: int | None = key(
        "shorter side of cached training images (augment.crop=resized); null: no detail is lost",
        default=None,
        low=1,
    )
    # ImageNet's statistics.
    mean: list[float] = key("RGB mean, in 0..1", default=[0.485, 0.456, 0.406])
    std: list[float] = key("RGB standard deviation, in 0..1", default=[0.229, 0.224, 0.225])


@dataclass
class SizesConfig:
    """Which input size is trained on when (He et al. 2015, sec. 2.3)."""

    kind: str = key("schedule of the input size", choices=SCHEDULES)
    sizes: list[Any] = key(
        "single: [size]; alternate: any list; random and progressive: [low, high]; N or [h, w]"
    )
    period: int = key("epochs at one size before the next (alternate)", default=1, low=1)
    step: int = key("spacing of the sizes between low and high (random and progressive)", default=1, low=1)
    pixel_budget: bool = key(
        "larger batches at smaller sizes: the same number of pixels per step", default=False
    )
    val_sizes: list[Any] | None = key(
        "sizes validated at; null: all training sizes (both ends of a range)",
        default=None,
        changes="validation",
    )


@dataclass
class AugmentConfig:
    """From image to training region (He et al. 2015, sec. 3.1)."""

    crop: str = key(
        "five: centre and corners of the whole image; anywhere; center; resized: random area and aspect",
        choices=CROPS,
    )
    shorter_side: int | None = key(
        "shorter side of the image before cropping; null: 256/224 of the region's", default=None, low=1
    )
    flip: bool = key("mirror half of the images", default=True)
    lighting: float = key("standard deviation of PCA colour lighting; 0 switches it off", default=0.0, low=0)
    scale: list[float] = key("share of the image's area, low and high (crop=resized)", default=[0.08, 1.0])
    ratio: list[float] = key("width over height, low and high (crop=resized)", default=[0.75, 1.3333333])
    trivial_augment: bool = key("torchvision's TrivialAugmentWide", default=False)
    rand_augment: int = key(
        "magnitude of torchvision's RandAugment; 0 switches it off", default=0, low=0, high=30
    )
    augmix: int = key("severity of torchvision's AugMix; 0 switches it off", default=0, low=0, high=10)
    erasing: float = key("probability of random erasing", default=0.0, low=0, high=1)
    repeats: int = key(
        "times that a step has each of its images, augmented in different ways", default=1, low=1
    )


@dataclass
class MixConfig:
    """Losses and targets that mix images."""

    label_smoothing: float = key("share of the target spread over all classes", default=0.0, low=0, high=0.99)
    mixup: float = key("alpha of mixup; 0 switches it off", default=0.0, low=0)
    cutmix: float = key(
        "alpha of cutmix; 0 switches it off; with mixup, each step takes one of the two", default=0.0, low=0
    )


@dataclass
class BackboneConfig:
    """Convolutional layers up to the last one before pooling."""

    name: str = key("network", choices=BACKBONES, changes="state")
    width: float | None = key(
        "multiplier of the number of channels (paper's networks)", default=None, above=0, changes="state"
    )
    norm: str | None = key(
        "normalisation (paper's networks)", default=None, choices=(*NORMS, None), changes="state"
    )
    weights: str | None = key(
        "null, DEFAULT (torchvision's or timm's own) or the path of a state_dict or .ckpt", default=None
    )
    model: str | None = key("timm model name (backbone=timm)", default=None, changes="state")
    drop_path_rate: float | None = key(
        "stochastic depth at the last block (convnext, efficientnet, timm); null: the network's own",
        default=None,
        low=0,
        high=0.99,
    )


@dataclass
class PyramidConfig:
    """The spatial pyramid pooling layer (He et al. 2015, sec. 2.2)."""

    levels: list[Any] | None = key(
        "bins per side of each level, N or [h, w]; null: no SPP, the net's own last pooling", changes="state"
    )
    mode: str = key("what a bin keeps", default="max", choices=POOL_MODES, changes="state")
    bin_rule: str = key(
        "rule that divides the map into bins", default="adaptive", choices=BIN_RULES, changes="state"
    )


@dataclass
class HeadConfig:
    """From pooled vector to class scores."""

    name: str = key("classifier", choices=HEADS, changes="state")
    hidden: list[int] = key("widths of the hidden layers (fc6, fc7)", default=[], changes="state")
    dropout: float = key("dropout on every hidden layer", default=0.0, low=0, high=0.99)


@dataclass
class LossConfig:
    """From class scores and targets to the loss of each image."""

    name: str = key("loss", choices=LOSSES)
    class_weights: Any = key(
        "null, balanced, numbers in the order of the classes, or {class: number} (cross_entropy)",
        default=None,
    )


@dataclass
class OptimizerConfig:
    """Weight update."""

    name: str = key("update rule", choices=OPTIMIZERS, changes="state")
    lr: float = key("base learning rate", above=0)
    weight_decay: float = key("L2 penalty (sgd) or decoupled decay (adamw)", default=0.0, low=0)
    momentum: float = key("momentum (sgd)", default=0.0, low=0, high=0.9999)
    nesterov: bool = key("Nesterov momentum (sgd)", default=False)
    betas: list[float] = key("running average coefficients (adamw)", default=[0.9, 0.999])
    decay_norm_and_bias: bool = key("apply weight decay to biases and normalisation too", default=False)
    bias_lr_factor: float = key("learning rate of biases over that of weights", default=1.0, low=0)
    lr_factors: dict[str, float] = key(
        "learning rate of parts over the base rate, such as {backbone: 0.1}", default={}, changes="state"
    )
    layer_decay: float | None = key(
        "learning rate of each layer of the backbone over that of the one above; null: 1",
        default=None,
        above=0,
        high=1,
        changes="state",
    )


@dataclass
class SchedulerConfig:
    """Learning rate over time."""

    name: str = key("rule", choices=SCHEDULERS)
    factor: float = key(
        "what the rate is multiplied by at each drop (paper, step)", default=0.1, above=0, high=1
    )
    patience: int = key("epochs without a better val/top1_error before a drop (paper)", default=5, low=0)
    max_drops: int = key("number of drops (paper: two)", default=2, low=0)
    milestones: list[float] = key(
        "drops at these shares of the training (step), in 0..1", default=[0.5, 0.75]
    )
    warmup_epochs: float = key("linear warm-up", default=0, low=0)
    final_factor: float = key("rate at the end over the base rate (cosine)", default=0.0, low=0, high=1)


@dataclass
class EmaConfig:
    """Exponential moving average of the weights; evaluated and kept in place of the raw weights."""

    enabled: bool = key("keep the average", default=False, changes="state")
    decay: float = key("decay per optimiser step", default=0.999, low=0, high=0.999999)


@dataclass
class SwaConfig:
    """Stochastic weight averaging: the mean of the weights after each of the last epochs, evaluated and kept."""

    enabled: bool = key("keep the mean", default=False, changes="state")
    start: float = key("share of the epochs after which it begins", default=0.75, low=0, high=0.99)


@dataclass
class EvaluationConfig:
    """Test protocols (He et al. 2015, sec. 3.1 and 3.1.5), besides the validation after every epoch."""

    protocols: list[str] | None = key(
        "run at the end of training, such as [full,ten_view]; null: none; see sppcls evaluate --help",
        default=None,
        changes="tests",
    )
    every: int | None = key(
        "epochs between runs of them; null: at the end only", default=None, low=1, changes="tests"
    )


@dataclass
class TrainerConfig:
    """How long and on what."""

    max_epochs: int = key("epochs", default=8, low=1, changes="length")
    accelerator: str = key("device kind", default="auto", choices=("auto", "cpu", "gpu"), changes="speed")
    devices: Any = key("how many devices, or auto", default=1)
    num_nodes: int = key("machines", default=1, low=1)
    strategy: str = key(
        "auto, or ddp: a process for every device", default="auto", choices=("auto", "ddp"), changes="speed"
    )
    precision: str = key("arithmetic", default="32-true", choices=("32-true", "bf16-mixed", "16-mixed"))
    accumulate_grad_batches: int = key("steps per optimiser update", default=1, low=1)
    gradient_clip_norm: float | None = key("largest norm of the gradient; null: none", default=None, above=0)
    deterministic: bool = key(
        "only deterministic kernels (CPU runs are reproducible without it)", default=False, changes="speed"
    )
    compile: bool = key("torch.compile, one graph per size", default=False, changes="speed")
    gradient_checkpointing: bool = key(
        "less memory: keep the inputs of the backbone's blocks only, and compute the rest twice",
        default=False,
        changes="speed",
    )
    sync_batchnorm: bool = key("batch norm over all devices", default=False)
    limit_train_batches: int | None = key("at most this many steps per epoch", default=None, low=1)
    limit_val_batches: int | None = key(
        "at most as many validation images as this many batches hold, spread over the classes",
        default=None,
        low=1,
    )
    val_every: int = key("epochs between validations", default=1, low=1)
    threads: int | None = key("CPU threads; null: torch's choice", default=None, low=1, changes="speed")


@dataclass
class LogConfig:
    """What is written beside the checkpoints."""

    every_n_steps: int = key("steps between points of the training curves", default=20, low=1, changes="log")
    images: bool = key(
        "inputs, confusion matrix, worst mistakes and what the pyramid saw in TensorBoard",
        default=True,
        changes="log",
    )
    progress: str = key(
        "bar on a terminal, lines elsewhere (auto), or always one of them",
        default="auto",
        choices=("auto", "bar", "lines"),
        changes="log",
    )
    save_every_minutes: float | None = key(
        "also save last.ckpt within an epoch; null: only at its end", default=15, above=0, changes="log"
    )


@dataclass
class DetectionConfig:
    """A detector made of a classifier, instead of a classifier (He et al. 2015, sec. 4)."""

    checkpoint: str | None = key(
        "classifier with a pyramid that a detector is made of; null: a classifier is trained", default=None
    )
    data: str | None = key(
        "images with boxes: a VOC folder, COCO JSON, a YOLO folder; shapes: generated scenes", default=None
    )
    split: str | None = key("its split to train on; null: found", default=None)
    test_split: str | None = key("its split to judge on; null: test, or else val", default=None)
    scenes: int | None = key(
        "generated scenes to train on; a third as many to judge (shapes)", default=None, low=3
    )
    features: str = key(
        "what is scored: pool5, the pooled vector; fc6, fc7; ftfc6, ftfc7: after fine-tuning", default="ftfc7"
    )
    scorer: str = key(
        "SVMs, or the fine-tuned network's own classes", default="svm", choices=("svm", "softmax")
    )
    regression: bool = key("box regression", default=True)
    scales: str = key(
        "shorter sides of the image: one (688), five (480 to 1200), five_released, or numbers with commas",
        default="one",
    )
    scale_rule: str = key(
        "scale of a window: by area (paper), or as the authors' code",
        default="area",
        choices=("area", "released"),
    )
    window_rule: str = key(
        "window to cells: v4's appendix, the first report, or the authors' code",
        default="appendix",
        choices=("appendix", "report", "released"),
    )
    proposals: str = key(
        "windows: selective_search, grid, or a file (.npz, .mat, .json)", default="selective_search"
    )
    limit: int = key("most windows of an image", default=2000, low=1)
    k: int = key("of selective search; larger: fewer, coarser windows", default=50, low=1)
    tuning_steps: int = key("mini-batches of fine-tuning (ftfc6, ftfc7)", default=1000, low=1)
    tuning_lr: float = key("learning rate of fine-tuning, a tenth in the last sixth", default=0.01, above=0)
    convolution_steps: int = key(
        "mini-batches after these that train the convolutions too, as Fast R-CNN does", default=0, low=0
    )
    convolution_lr: float = key("their learning rate", default=0.001, above=0)
    duplicates: str = key(
        "negatives left out: near others (iou, paper), or of equal cells (the authors' code)",
        default="iou",
        choices=("iou", "cells"),
    )
    passes: int = key("most passes of hard-negative mining", default=10, low=1)
    ridge: float = key(
        "lambda of box regression; the paper's 1000, the authors' code 4000", default=1000.0, above=0
    )
    nms: float = key("a box that overlaps a better one by more goes", default=0.3, above=0, high=1)
    maps_dir: str | None = key(
        "folder of windows and maps; null: ~/.cache/sppcls/detect", default=None, changes="place"
    )


@dataclass
class Config:
    """One training run."""

    name: str = key("first folder below runs_dir: the experiment or the data set", changes="name")
    run_name: str | None = key(
        "second folder; null: made of sizes, pyramid, backbone and seed", default=None, changes="name"
    )
    runs_dir: str = key("where runs are written", default="runs", changes="place")
    seed: int = key("seed of everything random", default=0, low=0, high=2**31 - 1)
    ckpt_path: str | None = key(
        "checkpoint or run folder to resume; auto: this run's own last one, if any",
        default=None,
        changes="place",
    )
    best_by: str = key(
        "figure of the main validation size that best.ckpt is the best epoch by",
        default="top1_error",
        choices=tuple(FIGURES),
        changes="validation",
    )
    init: str = key("initialisation of new layers", default="modern", choices=INITS)
    init_from: str | None = key(
        "checkpoint, run folder or file of weights that all layers which fit start from", default=None
    )
    freeze: list[str] = key("parts that are not trained, such as [backbone] or [head.fc6]", default=[])
    freeze_epochs: int | None = key("epochs for which they are not; null: the whole run", default=None, low=1)
    plugins: list[str] = key(
        "packages with parts of one's own, which configs may then name; only typed, never in a file",
        default=[],
        changes="place",
    )
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
    callbacks: dict[str, Any] = key("Lightning's callbacks, and one's own, by any name", default={})
    logger: dict[str, Any] = key(
        "where figures are logged besides metrics.csv, by any name", default={}, changes="log"
    )


@functools.lru_cache(64)  # each part of one's own makes a schema
def all_keys(schema: Any = Config, prefix: str = "") -> dict[str, dataclasses.Field[Any]]:
    """The fields of every key by its full name, such as ``optimizer.lr``, those without a group first."""
    plain: dict[str, dataclasses.Field[Any]] = {}
    nested: dict[str, dataclasses.Field[Any]] = {}
    for spec in dataclasses.fields(schema):
        group = spec.default_factory
        if dataclasses.is_dataclass(group):
            nested |= all_keys(cast(Any, group), f"{prefix}{spec.name}.")
        else:
            plain[prefix + spec.name] = spec
    return plain | nested


def default_values(schema: Any = Config) -> dict[str, Any]:
    """The keys of a dataclass of :func:`key` fields that have a default, with their values, nested."""
    values: dict[str, Any] = {}
    for spec in dataclasses.fields(schema):
        if dataclasses.is_dataclass(spec.default_factory):
            values[spec.name] = default_values(spec.default_factory)
        elif spec.metadata["default"] is not _MISSING:
            values[spec.name] = copy.deepcopy(spec.metadata["default"])
    return values


def as_dict(config: Config) -> dict[str, Any]:
    """The config as plain dicts and lists, as it is kept in checkpoints and ``config.yaml``."""
    return dataclasses.asdict(config)
