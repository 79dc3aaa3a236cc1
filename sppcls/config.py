"""The configuration: every key, its type, what it means and what it may be.

The values live in ``conf/``; this schema only checks them, so a key without a value in ``conf/`` is an error and not
a silent default. :func:`check_config` turns any config into a :class:`Config` or into one line that names the key.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sppcls.data import CROPS, KINDS, SOURCES, SizeSchedule, as_size, make_schedule
from sppcls.errors import ConfigError
from sppcls.nn import BACKBONES, BIN_RULES, HEADS, INITS, NORMS, POOL_MODES

_T = TypeVar("_T")


def hydra_word(key: str, value: object) -> str:
    """``key=value`` with the quotes that Hydra's grammar asks for."""
    text = str(value)
    if re.fullmatch(r"[\w./~@%+-]+", text):
        return f"{key}={text}"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{key}="{escaped}"'


def key(
    help: str,
    *,
    choices: tuple[Any, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> Any:
    """A config key: what it means, and which values it takes (``low <= value <= high``, ``value > above``)."""
    return field(
        default=MISSING, metadata={"help": help, "choices": choices, "low": low, "high": high, "above": above}
    )


@dataclass
class DataConfig:
    """Where images come from and how they are read."""

    name: str = key("source of images", choices=SOURCES)
    root: str | None = key("folder of the data set (not used by shapes)")
    download: bool = key("fetch a torchvision data set into root if it is not there")
    val_fraction: float = key("share held out when root has no train/ and val/ folders", above=0, high=0.9)
    num_train: int | None = key("number of training images (shapes only)", low=1)
    num_val: int | None = key("number of validation images (shapes only)", low=1)
    batch_size: int = key("training images per step and device, at the largest size", low=1)
    val_batch_size: int | None = key("validation images per step and device; null: batch_size", low=1)
    workers: int = key("loader processes per device", low=0)
    drop_last: bool = key("full batches only; false spreads the images evenly over the steps, none left out")
    check: bool = key("look at the header of every image file before training")
    on_error: str = key("an image that cannot be decoded in training", choices=("skip", "raise"))
    max_pixels: int = key("largest image accepted, in pixels", low=1)
    mean: list[float] = key("RGB mean, in 0..1")
    std: list[float] = key("RGB standard deviation, in 0..1")


@dataclass
class SizesConfig:
    """Which input size is trained on when (He et al. 2015, sec. 2.3)."""

    kind: str = key("schedule of the input size", choices=KINDS)
    sizes: list[Any] = key(
        "single: [size]; alternate: any list; random and progressive: [low, high]; N or [h, w]"
    )
    period: int = key("epochs at one size before the next (alternate)", low=1)
    step: int = key("spacing of the sizes between low and high (random and progressive)", low=1)
    pixel_budget: bool = key("larger batches at smaller sizes: the same number of pixels per step")
    val_sizes: list[Any] | None = key("sizes validated at; null: all training sizes (both ends of a range)")


@dataclass
class AugmentConfig:
    """From image to training region (He et al. 2015, sec. 3.1)."""

    crop: str = key(
        "five: centre and corners of the whole image; anywhere; center; resized: random area and aspect",
        choices=CROPS,
    )
    shorter_side: int | None = key(
        "shorter side of the image before cropping; null: 256/224 of the region's", low=1
    )
    flip: bool = key("mirror half of the images")
    lighting: float = key("standard deviation of PCA colour lighting; 0 switches it off", low=0)
    scale: list[float] = key("share of the image's area, low and high (crop=resized)")
    ratio: list[float] = key("width over height, low and high (crop=resized)")
    trivial_augment: bool = key("torchvision's TrivialAugmentWide")
    erasing: float = key("probability of random erasing", low=0, high=1)


@dataclass
class MixConfig:
    """Losses and targets that mix images."""

    label_smoothing: float = key("share of the target spread over all classes", low=0, high=0.99)
    mixup: float = key("alpha of mixup; 0 switches it off", low=0)
    cutmix: float = key(
        "alpha of cutmix; 0 switches it off; with mixup, each step takes one of the two", low=0
    )


@dataclass
class BackboneConfig:
    """Convolutional layers up to the last one before pooling."""

    name: str = key("network", choices=BACKBONES)
    width: float | None = key("multiplier of the number of channels (paper's networks)", above=0)
    norm: str | None = key("normalisation (paper's networks)", choices=(*NORMS, None))
    weights: str | None = key(
        "null, DEFAULT (torchvision's or timm's own) or the path of a state_dict or .ckpt"
    )
    model: str | None = key("timm model name (backbone=timm)")


@dataclass
class PyramidConfig:
    """The spatial pyramid pooling layer (He et al. 2015, sec. 2.2)."""

    levels: list[Any] | None = key(
        "bins per side of each level, N or [h, w]; null: no SPP, the net's own last pooling"
    )
    mode: str = key("what a bin keeps", choices=POOL_MODES)
    bins: str = key("rule that divides the map into bins", choices=BIN_RULES)


@dataclass
class HeadConfig:
    """From pooled vector to class scores."""

    name: str = key("classifier", choices=HEADS)
    hidden: list[int] = key("widths of the hidden layers (fc6, fc7)")
    dropout: float = key("dropout on every hidden layer", low=0, high=0.99)


@dataclass
class OptimizerConfig:
    """Weight update."""

    name: str = key("update rule", choices=("sgd", "adamw"))
    lr: float = key("base learning rate", above=0)
    weight_decay: float = key("L2 penalty (sgd) or decoupled decay (adamw)", low=0)
    momentum: float = key("momentum (sgd)", low=0, high=0.9999)
    nesterov: bool = key("Nesterov momentum (sgd)")
    betas: list[float] = key("running average coefficients (adamw)")
    decay_norm_and_bias: bool = key("apply weight decay to biases and normalisation too")
    bias_lr_factor: float = key("learning rate of biases over that of weights", low=0)


@dataclass
class SchedulerConfig:
    """Learning rate over time."""

    name: str = key("rule", choices=("paper", "step", "cosine", "constant"))
    factor: float = key("what the rate is multiplied by at each drop (paper, step)", above=0, high=1)
    patience: int = key("epochs without a better val/top1_error before a drop (paper)", low=0)
    max_drops: int = key("number of drops (paper: two)", low=0)
    milestones: list[float] = key("drops at these shares of the training (step), in 0..1")
    warmup_epochs: float = key("linear warm-up", low=0)
    final_factor: float = key("rate at the end over the base rate (cosine)", low=0, high=1)


@dataclass
class EmaConfig:
    """Exponential moving average of the weights; evaluated and kept in place of the raw weights."""

    enabled: bool = key("keep the average")
    decay: float = key("decay per optimiser step", low=0, high=0.999999)


@dataclass
class EvaluationConfig:
    """Test protocols (He et al. 2015, sec. 3.1 and 3.1.5), besides the validation after every epoch."""

    protocols: list[str] | None = key(
        "run at the end of training, such as [full,ten_view]; null: none; see sppcls evaluate --help"
    )
    every: int | None = key("epochs between runs of them; null: at the end only", low=1)


@dataclass
class TrainerConfig:
    """How long and on what."""

    max_epochs: int = key("epochs", low=1)
    accelerator: str = key("device kind", choices=("auto", "cpu", "gpu"))
    devices: Any = key("how many devices, or auto")
    num_nodes: int = key("machines", low=1)
    strategy: str = key("auto, or ddp: a process for every device", choices=("auto", "ddp"))
    precision: str = key("arithmetic", choices=("32-true", "bf16-mixed", "16-mixed"))
    accumulate_grad_batches: int = key("steps per optimiser update", low=1)
    gradient_clip_norm: float | None = key("largest norm of the gradient; null: none", above=0)
    deterministic: bool = key("only deterministic kernels (CPU runs are reproducible without it)")
    compile: bool = key("torch.compile, one graph per size")
    sync_batchnorm: bool = key("batch norm over all devices")
    limit_train_batches: int | None = key("at most this many steps per epoch", low=1)
    limit_val_batches: int | None = key(
        "at most this many validation batches: the first ones, so not of every class", low=1
    )
    val_every: int = key("epochs between validations", low=1)
    threads: int | None = key("CPU threads; null: torch's choice", low=1)


@dataclass
class LogConfig:
    """What is written beside the checkpoints."""

    every_n_steps: int = key("steps between points of the training curves", low=1)
    images: bool = key("inputs, confusion matrix, worst mistakes and what the pyramid saw in TensorBoard")
    progress: str = key(
        "bar on a terminal, lines elsewhere (auto), or always one of them", choices=("auto", "bar", "lines")
    )
    save_every_minutes: float | None = key(
        "also save last.ckpt within an epoch; null: only at its end", above=0
    )


@dataclass
class Config:
    """One training run."""

    name: str = key("first folder below runs_dir: the experiment or the data set")
    run_name: str | None = key("second folder; null: made of sizes, pyramid, backbone and seed")
    runs_dir: str = key("where runs are written")
    seed: int = key("seed of everything random", low=0, high=2**31 - 1)
    ckpt_path: str | None = key("checkpoint to resume; auto: this run's own last one, if any")
    init: str = key("initialisation of new layers", choices=INITS)
    data: DataConfig = field(default_factory=DataConfig)
    sizes: SizesConfig = field(default_factory=SizesConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    log: LogConfig = field(default_factory=LogConfig)


def check_config(config: DictConfig | Mapping[str, Any]) -> Config:
    """Check a composed config: known keys, types, ranges, and values that must go together.

    Raises:
        ConfigError: one line naming the key, its value and what is allowed.
    """
    plain = resolved(config) if isinstance(config, DictConfig) else dict(config)
    checked = check_values(Config, cast(dict[str, Any], plain))
    _check_together(checked)
    return checked


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed config as plain values, every ``${...}`` looked up.

    Raises:
        ConfigError: one line naming the key whose ``${...}`` stands for nothing.
    """
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        raise ConfigError(f"{error.full_key or 'config'}: {reason}") from None


def check_values(schema: type[_T], values: Mapping[str, Any]) -> _T:
    """Values as an object of a dataclass of :func:`key` fields: all there, of their type, in their range.

    Raises:
        ConfigError: one line naming the key, its value and what is allowed.
    """
    _check_keys(schema, dict(values), "")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), dict(values))
        checked = cast(_T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        raise ConfigError(f"{error.full_key or 'config'}: {reason}") from None
    _check_ranges(checked, "")
    return checked


def as_dict(config: Config) -> dict[str, Any]:
    """The config as plain dicts and lists, as it is kept in checkpoints and ``config.yaml``."""
    return dataclasses.asdict(config)


def size_schedule(config: Config) -> SizeSchedule:
    """The size schedule that the config asks for."""
    return make_schedule(
        config.sizes.kind,
        config.sizes.sizes,
        seed=config.seed,
        epochs=config.trainer.max_epochs,
        period=config.sizes.period,
        step=config.sizes.step,
    )


def suggest(word: str, choices: list[str]) -> str:
    """``" (did you mean 'levels'?)"`` or nothing."""
    close = difflib.get_close_matches(word, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _check_keys(schema: type, values: Any, prefix: str) -> None:
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.')}: {values!r} is not a group of keys")
    fields = {f.name: f for f in dataclasses.fields(schema)}
    for name in values:
        if name not in fields:
            raise ConfigError(
                f"{prefix}{name}: unknown key{suggest(str(name), list(fields))}; known: {', '.join(fields)}"
            )
    for name, spec in fields.items():
        if name not in values:
            raise ConfigError(
                f"{prefix}{name}: missing; it means: {spec.metadata.get('help', 'a group of keys')}"
            )
        nested = spec.default_factory
        if nested is not dataclasses.MISSING:
            _check_keys(cast(type, nested), values[name], f"{prefix}{name}.")


def _check_ranges(group: Any, prefix: str) -> None:
    for spec in dataclasses.fields(group):
        value = getattr(group, spec.name)
        name = f"{prefix}{spec.name}"
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{name}.")
            continue
        choices, low, high, above = (spec.metadata[k] for k in ("choices", "low", "high", "above"))
        if choices is not None and value not in choices:
            known = ["null" if c is None else str(c) for c in choices]
            raise ConfigError(f"{name}={value}: choose from {', '.join(known)}{suggest(str(value), known)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name}={value}: must be a finite number")
        if value is None or (low is None and high is None and above is None):
            continue
        bounds = [f">= {low:g}"] if low is not None else []
        bounds += [f"> {above:g}"] if above is not None else []
        bounds += [f"<= {high:g}"] if high is not None else []
        fits = (
            (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
        )
        if not fits:
            raise ConfigError(f"{name}={value}: must be {' and '.join(bounds)}")


def _check_together(config: Config) -> None:
    """Values that are fine alone and impossible together; anything that can be said before data is touched."""
    size_schedule(config)  # raises on impossible sizes
    every, val_every = config.evaluation.every, config.trainer.val_every
    if every is not None and every % val_every:
        raise ConfigError(
            f"evaluation.every={every}: must be a multiple of trainer.val_every={val_every}, when weights are tested"
        )
    if config.sizes.val_sizes is not None:
        if not config.sizes.val_sizes:
            raise ConfigError("sizes.val_sizes=[]: name at least one size, or null for all training sizes")
        for size in config.sizes.val_sizes:
            as_size(size, "sizes.val_sizes")
    for name, low, high in (("scale", 0.0, 1.0), ("ratio", 0.0, math.inf)):
        pair = getattr(config.augment, name)
        if len(pair) != 2 or not low < pair[0] <= pair[1] <= high:
            raise ConfigError(
                f"augment.{name}={pair}: must be [low, high] with {low:g} < low <= high <= {high:g}"
            )
    for name in ("mean", "std"):
        values = getattr(config.data, name)
        if len(values) != 3 or not all(0 <= v <= 1 for v in values) or (name == "std" and 0 in values):
            raise ConfigError(f"data.{name}={values}: must be three numbers in 0..1, for R, G and B")
    if len(config.optimizer.betas) != 2 or not all(0 <= b < 1 for b in config.optimizer.betas):
        raise ConfigError(f"optimizer.betas={config.optimizer.betas}: must be two numbers in [0, 1)")
    if config.optimizer.nesterov and config.optimizer.momentum == 0:
        raise ConfigError("optimizer.nesterov=true: needs optimizer.momentum > 0")
    if not all(0 < m < 1 for m in config.scheduler.milestones):
        raise ConfigError(
            f"scheduler.milestones={config.scheduler.milestones}: must be shares of the training in 0..1"
        )
    devices = config.trainer.devices
    number = isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1
    numbers = isinstance(devices, list) and len(devices) > 0 and config.trainer.accelerator != "cpu"
    if not (devices == "auto" or number or numbers):
        raise ConfigError(f"trainer.devices={devices}: must be a number >= 1, a list of GPU numbers, or auto")
    if config.data.name == "shapes" and config.data.root:
        raise ConfigError(
            f"data.root={config.data.root}: data=shapes has no files; for photos add data=folder"
        )
    if config.data.name != "shapes" and not config.data.root:
        raise ConfigError(f"data.root: missing; data={config.data.name} needs the folder of its images")
    if config.trainer.max_epochs % config.trainer.val_every:
        raise ConfigError(
            f"trainer.val_every={config.trainer.val_every}: must divide trainer.max_epochs="
            f"{config.trainer.max_epochs}, so that the last epoch is validated"
        )
