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
        sizes: single: [size]; alternate: any list; random and progressive: [low, high]; N or [h, w]
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
class BackboneConfig:
    """Convolutional layers up to the last one before pooling.

    Args:
        name: network
        width: multiplier of the number of channels (paper's networks)
        norm: normalisation (paper's networks)
        weights: null, DEFAULT (torchvision's or timm's own), or a state_dict or .ckpt file
        model: timm model name (backbone=timm)
        drop_path_rate: stochastic depth at the last block (convnext, efficientnet, timm); null: the network's own
    """

    name: str = key(choices=BACKBONES, changes="state")
    width: float | None = key(None, above=0, changes="state")
    norm: str | None = key(None, choices=(*NORMS, None), changes="state")
    weights: str | None = key(None)
    model: str | None = key(None, changes="state")
    drop_path_rate: float | None = key(None, low=0, high=0.99)


@documented
@dataclass
class PyramidConfig:
    """The spatial pyramid pooling layer (He et al. 2015, sec. 2.2).

    Args:
        levels: bins per side of each level, N or [h, w]; null: no SPP, the net's own last pooling
        mode: what a bin keeps
        bin_rule: rule that divides the map into bins
    """

    levels: list[Any] | None = key(changes="state")
    mode: str = key("max", choices=POOL_MODES, changes="state")
    bin_rule: str = key("adaptive", choices=BIN_RULES, changes="state")


@documented
@dataclass
class HeadConfig:
    """From pooled vector to class scores.

    Args:
        name: classifier
        hidden: widths of the hidden layers (fc6, fc7)
        dropout: dropout on every hidden layer
    """

    name: str = key(choices=HEADS, changes="state")
    hidden: list[int] = key([], changes="state")
    dropout: float = key(0.0, low=0, high=0.99)


@documented
@dataclass
class LossConfig:
    """From class scores and targets to the loss of each image.

    Args:
        name: loss
        class_weights: null, balanced, numbers in the order of the classes, or {class: number} (cross_entropy)
    """

    name: str = key(choices=LOSSES)
    class_weights: Any = key(None)


@documented
@dataclass
class OptimizerConfig:
    """Weight update.

    Args:
        name: update rule
        lr: base learning rate
        weight_decay: L2 penalty (sgd) or decoupled decay (adamw)
        momentum: momentum (sgd)
        nesterov: Nesterov momentum (sgd)
        betas: running average coefficients (adamw)
        decay_norm_and_bias: apply weight decay to biases and normalisation too
        bias_lr_factor: learning rate of biases over that of weights
        lr_factors: learning rate of parts over the base rate, such as {backbone: 0.1}
        layer_decay: learning rate of each layer of the backbone over that of the one above; null: 1
    """

    name: str = key(choices=OPTIMIZERS, changes="state")
    lr: float = key(above=0)
    weight_decay: float = key(0.0, low=0)
    momentum: float = key(0.0, low=0, high=0.9999)
    nesterov: bool = key(False)
    betas: list[float] = key([0.9, 0.999])
    decay_norm_and_bias: bool = key(False)
    bias_lr_factor: float = key(1.0, low=0)
    lr_factors: dict[str, float] = key({}, changes="state")
    layer_decay: float | None = key(None, above=0, high=1, changes="state")


@documented
@dataclass
class SchedulerConfig:
    """Learning rate over time.

    Args:
        name: rule
        factor: what the rate is multiplied by at each drop (paper, step)
        patience: epochs without a better val/top1_error before a drop (paper)
        max_drops: number of drops (paper: two)
        milestones: drops at these shares of the training (step), in 0..1
        warmup_epochs: linear warm-up
        final_factor: rate at the end over the base rate (cosine)
    """

    name: str = key(choices=SCHEDULERS)
    factor: float = key(0.1, above=0, high=1)
    patience: int = key(5, low=0)
    max_drops: int = key(2, low=0)
    milestones: list[float] = key([0.5, 0.75])
    warmup_epochs: float = key(0, low=0)
    final_factor: float = key(0.0, low=0, high=1)


@documented
@dataclass
class EmaConfig:
    """Exponential moving average of the weights; evaluated and kept in place of the raw weights.

    Args:
        enabled: keep the average
        decay: decay per optimiser step
    """

    enabled: bool = key(False, changes="state")
    decay: float = key(0.999, low=0, high=0.999999)


@documented
@dataclass
class SwaConfig:
    """Stochastic weight averaging: the mean of the weights after each of the last epochs, evaluated and kept.

    Args:
        enabled: keep the mean
        start: share of the epochs after which it begins
        batch_norm_images: training images that give batch norm its statistics, before each validation; 0: they are averaged
    """

    enabled: bool = key(False, changes="state")
    start: float = key(0.75, low=0, high=0.99)
    batch_norm_images: int = key(1024, low=0)


@documented
@dataclass
class EvaluationConfig:
    """Test protocols (He et al. 2015, sec. 3.1 and 3.1.5), besides the validation after every epoch.

    Args:
        protocols: run at the end of training, such as [full,ten_view]; null: none; see sppcls evaluate --help
        every: epochs between runs of them; null: at the end only
    """

    protocols: list[str] | None = key(None, changes="tests")
    every: int | None = key(None, low=1, changes="tests")


@documented
@dataclass
class TrainerConfig:
    """How long and on what.

    Args:
        max_epochs: epochs
        accelerator: device kind
        devices: how many devices, or auto
        num_nodes: machines
        strategy: auto, or ddp: a process for every device
        timeout: seconds without a sign of life after which a process that torchrun or srun has started counts as lost
        precision: arithmetic
        accumulate_grad_batches: steps per optimiser update
        gradient_clip_norm: largest norm of the gradient; null: none
        deterministic: only deterministic kernels (CPU runs are reproducible without it)
        compile: torch.compile, one graph per size
        gradient_checkpointing: less memory: keep the inputs of the backbone's blocks only, and compute the rest twice
        sync_batchnorm: batch norm over all devices
        limit_train_batches: at most this many steps per epoch
        limit_val_batches: at most as many validation images as this many batches hold, spread over the classes
        val_every: epochs between validations
        threads: CPU threads; null: torch's choice
    """

    max_epochs: int = key(8, low=1, changes="length")
    accelerator: str = key("auto", choices=("auto", "cpu", "gpu"), changes="speed")
    devices: Any = key(1)
    num_nodes: int = key(1, low=1)
    strategy: str = key("auto", choices=("auto", "ddp"), changes="speed")
    timeout: float = key(40.0, low=5, changes="speed")
    precision: str = key("32-true", choices=("32-true", "bf16-mixed", "16-mixed"))
    accumulate_grad_batches: int = key(1, low=1)
    gradient_clip_norm: float | None = key(None, above=0)
    deterministic: bool = key(False, changes="speed")
    compile: bool = key(False, changes="speed")
    gradient_checkpointing: bool = key(False, changes="speed")
    sync_batchnorm: bool = key(False)
    limit_train_batches: int | None = key(None, low=1)
    limit_val_batches: int | None = key(None, low=1)
    val_every: int = key(1, low=1)
    threads: int | None = key(None, low=1, changes="speed")


@documented
@dataclass
class LogConfig:
    """What is written beside the checkpoints.

    Args:
        every_n_steps: steps between points of the training curves
        images: inputs, confusion matrix, worst mistakes and what the pyramid saw in TensorBoard
        progress: bar on a terminal, lines elsewhere (auto), or always one of them
        save_every_minutes: also save last.ckpt within an epoch; null: only at its end
    """

    every_n_steps: int = key(20, low=1, changes="log")
    images: bool = key(True, changes="log")
    progress: str = key("auto", choices=("auto", "bar", "lines"), changes="log")
    save_every_minutes: float | None = key(15, above=0, changes="log")


@documented
@dataclass
class DetectionConfig:
    """A detector made of a classifier, instead of a classifier (He et al. 2015, sec. 4).

    Args:
        checkpoint: classifier with a pyramid that a detector is made of; null: a classifier is trained
        data: images with boxes: a VOC folder, COCO JSON, a YOLO folder; shapes: generated scenes
        split: its split to train on; null: found
        test_split: its split to judge on; null: test, or else val
        scenes: generated scenes to train on; a third as many to judge (shapes)
        features: what is scored: pool5, the pooled vector; fc6, fc7; ftfc6, ftfc7: after fine-tuning
        scorer: SVMs, or the fine-tuned network's own classes
        regression: box regression
        scales: shorter sides of the image: one (688), five (480 to 1200), five_released, or numbers with commas
        scale_rule: scale of a window: by area (paper), or as the authors' code
        window_rule: window to cells: v4's appendix, the first report, or the authors' code
        proposals: windows: selective_search, grid, or a file (.npz, .mat, .json)
        limit: most windows of an image
        k: of selective search; larger: fewer, coarser windows
        tuning_steps: mini-batches of fine-tuning (ftfc6, ftfc7)
        tuning_lr: learning rate of fine-tuning, a tenth in the last sixth
        convolution_steps: mini-batches after these that train the convolutions too, as Fast R-CNN does
        convolution_lr: their learning rate
        duplicates: negatives left out: near others (iou, paper), or of equal cells (the authors' code)
        passes: most passes of hard-negative mining
        ridge: lambda of box regression; the paper's 1000, the authors' code 4000
        nms: a box that overlaps a better one by more goes
        maps_dir: folder of windows and maps; null: ~/.cache/sppcls/detect
    """

    checkpoint: str | None = key(None)
    data: str | None = key(None)
    split: str | None = key(None)
    test_split: str | None = key(None)
    scenes: int | None = key(None, low=3)
    features: str = key("ftfc7")
    scorer: str = key("svm", choices=("svm", "softmax"))
    regression: bool = key(True)
    scales: str = key("one")
    scale_rule: str = key("area", choices=("area", "released"))
    window_rule: str = key("appendix", choices=("appendix", "report", "released"))
    proposals: str = key("selective_search")
    limit: int = key(2000, low=1)
    k: int = key(50, low=1)
    tuning_steps: int = key(1000, low=1)
    tuning_lr: float = key(0.01, above=0)
    convolution_steps: int = key(0, low=0)
    convolution_lr: float = key(0.001, above=0)
    duplicates: str = key("iou", choices=("iou", "cells"))
    passes: int = key(10, low=1)
    ridge: float = key(1000.0, above=0)
    nms: float = key(0.3, above=0, high=1)
    maps_dir: str | None = key(None, changes="place")


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
