"""From any values to a checked :class:`~sppcls.config.schema.Config`, or to one line that names the key and what it may be."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sppcls._util.files import check_local
from sppcls._util.reason import reason_of
from sppcls.config.parts import part_schema, values_of, with_own_parts
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config, default_values, literal
from sppcls.config.synonyms import closest
from sppcls.errors import ConfigError
from sppcls.registry import DOORS, TARGET, find, is_own, names, target_of

_T = TypeVar("_T")


def check_config(config: DictConfig | Mapping[str, Any]) -> Config:
    """Check a composed config: known keys, types, ranges, and values that must go together.

    Raises:
        ConfigError: one line naming the key, its value and what is allowed.
    """
    plain = resolved(config) if isinstance(config, DictConfig) else cast(dict[str, Any], dict(config))
    schema, values = with_own_parts(plain)
    checked = check_values(schema, values)
    for group in ("callbacks", "logger"):
        setattr(checked, group, _check_parts(group, getattr(checked, group)))
    _check_together(checked)
    return checked


def _check_parts(group: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The values of callbacks or loggers by name, each checked by the signature of its own."""
    checked: dict[str, Any] = {}
    for name, values in parts.items():
        if values is None:
            continue  # taken out again: callbacks.NAME=null
        if (group, name, values) == ("logger", "tensorboard", {}):
            checked[name] = {}
            continue
        if not isinstance(values, Mapping) or not is_own(group, values):
            raise ConfigError(
                f"{group}.{name}: must have a _target_, such as {_EXAMPLES[group]}, and its parameters"
            )
        part = find(group, values)
        kind = part_schema(group, part)
        with_defaults = {**default_values(kind), **values, TARGET: target_of(part)}
        try:
            checked[name] = dataclasses.asdict(check_values(kind, with_defaults))
        except ConfigError as error:
            raise ConfigError(f"{group}.{name}.{error}") from None
    return checked


_EXAMPLES = {
    "callbacks": "pytorch_lightning.callbacks.EarlyStopping",
    "logger": "pytorch_lightning.loggers.CSVLogger",
}


def resolved(config: DictConfig) -> dict[str, Any]:
    """A composed config as plain values, every ``${...}`` looked up.

    Raises:
        ConfigError: one line naming the key whose ``${...}`` stands for nothing.
    """
    data = config.get("data")
    if isinstance(data, DictConfig) and isinstance(data.get(TARGET), str) and data.get("name") is None:
        with open_dict(config):  # by which the run is named
            config.data.name = data[TARGET].rpartition(".")[2]
    try:
        return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except OmegaConfBaseException as error:
        reason = reason_of(error.msg or error, first_line=True)
        raise ConfigError(f"{error.full_key or 'config'}: {reason}") from None


def check_values(schema: type[_T], values: Mapping[str, Any]) -> _T:
    """Values as an object of a dataclass of :func:`key` fields: all there, of their type, in their range.

    Raises:
        ConfigError: one line naming the key, its value and what is allowed.
    """
    _check_keys(schema, dict(values), "")
    try:
        merged = OmegaConf.merge(_structured(cast(Hashable, schema)), all_literal(dict(values)))
        checked = cast(_T, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(_wrong_type(schema, values, error)) from None
    _check_ranges(checked, "")
    return checked


@functools.lru_cache(32)  # each part of one's own makes a schema
def _structured(schema: Any) -> Any:
    """The dataclass as OmegaConf's; takes a tenth of a composition, and merging leaves it as it is."""
    return OmegaConf.structured(schema)


def all_literal(values: Any) -> Any:
    """Plain values of which OmegaConf looks nothing up any more."""
    if isinstance(values, dict):
        return {key: all_literal(value) for key, value in values.items()}
    if isinstance(values, list):
        return [all_literal(value) for value in values]
    return literal(values) if isinstance(values, str) else values


def suggest(word: str, choices: list[str]) -> str:
    """``" (did you mean 'levels'?)"`` or nothing."""
    close = closest(word, choices)
    return f" (did you mean {close!r}?)" if close else ""


_DEVICES = "a number >= 1, a list of different GPU numbers >= 0, or auto"

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list[int]": "a list of whole numbers",
    "list[float]": "a list of numbers",
    "list[str]": "a list of names",
    "list[Any]": "a list",
    "dict[str, float]": "a mapping from names to numbers",
}


def _wrong_type(schema: type, values: Mapping[str, Any], error: OmegaConfBaseException) -> str:
    """What to say of a value that OmegaConf does not take for its key: the key, the value and what it may be."""
    name = str(error.full_key or "").partition("[")[0]
    wanted = what_it_may_be(name, schema)
    value: Any = values
    for part in name.split("."):
        if wanted is None or not isinstance(value, Mapping) or part not in value:
            return f"{name or 'config'}: {reason_of(error.msg or error, first_line=True)}"
        value = value[part]
    return f"{name}={'null' if value is None else value}: must be {wanted}"


def what_it_may_be(name: str, schema: type = Config) -> str | None:
    """The type of a key in words, such as "a whole number or null"; None if there is no such key."""
    kind: Any = schema
    for part in name.split("."):
        if kind == "dict[str, float]":  # the part is a name in it
            return _kinds(name, "float")
        fields = {f.name: f for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
        if part not in fields:
            return None
        spec = fields[part]
        kind = spec.default_factory if spec.default_factory is not dataclasses.MISSING else spec.type
    return None if dataclasses.is_dataclass(kind) else _kinds(name, kind)


def _kinds(name: str, kind: Any) -> str:
    if name == "trainer.devices":
        return _DEVICES  # no type says it
    return " or ".join("null" if k == "None" else _KINDS.get(k, k) for k in str(kind).split(" | "))


def _check_keys(schema: type, values: Any, prefix: str) -> None:
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.')}: {values!r} is not a set of keys")
    fields = {f.name: f for f in dataclasses.fields(schema)}
    for name in values:
        if name not in fields:
            raise ConfigError(
                f"{prefix}{name}: unknown key{suggest(str(name), list(fields))}; known: {', '.join(fields)}"
            )
    for name, spec in fields.items():
        if name not in values:
            raise ConfigError(
                f"{prefix}{name}: missing; it means: {spec.metadata.get('help', 'a set of keys')}"
            )
        nested = spec.default_factory
        if nested is not dataclasses.MISSING:
            _check_keys(cast(type, nested), values[name], f"{prefix}{name}.")
        elif isinstance(values[name], dict) and spec.type != "Any" and "dict" not in str(spec.type):
            # OmegaConf does not name the key where it wants a list.
            key = f"{prefix}{name}"
            raise ConfigError(f"{key}={values[name]}: must be {_kinds(key, spec.type)}")
        elif str(spec.type).startswith("bool") and type(values[name]) in (int, float):
            key = f"{prefix}{name}"  # OmegaConf would take any number but 0 for true
            raise ConfigError(f"{key}={values[name]}: must be {_kinds(key, spec.type)}")


def _check_ranges(group: Any, prefix: str) -> None:
    for spec in dataclasses.fields(group):
        value = getattr(group, spec.name)
        name = f"{prefix}{spec.name}"
        if dataclasses.is_dataclass(value):
            _check_ranges(value, f"{name}.")
            continue
        choices, low, high, above = (spec.metadata[k] for k in ("choices", "low", "high", "above"))
        if choices is not None and value not in choices:
            group, _, last = name.partition(".")
            of_part = group in DOORS and last == DOORS[group].name_key
            known = names(group) if of_part else [_typed(choice) for choice in choices]
            raise ConfigError(f"{name}={value}: choose from {', '.join(known)}{suggest(str(value), known)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name}={value}: must be a finite number")
        # OmegaConf lets lists in lists of numbers pass, and so do comparisons with what is no number.
        if spec.type in ("list[int]", "list[float]") and not all(_is_number(v) for v in value):
            raise ConfigError(f"{name}={value}: must be a list of numbers")
        if str(spec.type).startswith("list[str]") and not all(isinstance(v, str) for v in value or []):
            raise ConfigError(f"{name}={value}: must be {_kinds(name, spec.type)}")
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


def _typed(value: Any) -> str:
    """A value as people type it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _check_together(config: Config) -> None:
    """Values that are fine alone and impossible together; anything that can be said before data is touched."""
    size_schedule(config)  # raises on impossible sizes
    every, val_every = config.evaluation.every, config.trainer.val_every
    if every is not None and every % val_every:
        raise ConfigError(
            f"evaluation.every={every}: must be a multiple of trainer.val_every={val_every}, such as evaluation.every={every + -every % val_every}"
        )
    if config.sizes.val_sizes is not None:
        if not config.sizes.val_sizes:
            raise ConfigError("sizes.val_sizes=[]: name at least one size, or null for all training sizes")
        from sppcls.data import as_size

        for size in config.sizes.val_sizes:
            as_size(size, "sizes.val_sizes")
    for name, low, high in (("scale", 0.0, 1.0), ("ratio", 0.0, math.inf)):
        pair = getattr(config.augment, name)
        if len(pair) != 2 or not low < pair[0] <= pair[1] <= high:
            raise ConfigError(
                f"augment.{name}={pair}: must be [low, high] with {low:g} < low <= high <= {high:g}"
            )
    from sppcls.data.pixel_range import as_pixel_range

    as_pixel_range(config.data.pixel_range)
    for name in ("mean", "std"):
        values = getattr(config.data, name)
        if len(values) != 3 or not all(0 <= v <= 1 for v in values) or (name == "std" and 0 in values):
            raise ConfigError(f"data.{name}={values}: must be three numbers in 0..1, for R, G and B")
    for name in ("mixup", "cutmix"):
        alpha = getattr(config.mix, name)
        if 0 < alpha < 1e-6:  # nothing in float32, of which the shares are drawn
            raise ConfigError(f"mix.{name}={alpha}: must be 0, for none, or >= 1e-06")
    if len(config.optimizer.betas) != 2 or not all(0 <= b < 1 for b in config.optimizer.betas):
        raise ConfigError(f"optimizer.betas={config.optimizer.betas}: must be two numbers in [0, 1)")
    if config.optimizer.nesterov and config.optimizer.momentum == 0:
        raise ConfigError(
            "optimizer.nesterov=true: needs optimizer.momentum > 0, such as optimizer.momentum=0.9"
        )
    for part, factor in config.optimizer.lr_factors.items():
        if not 0 < factor < math.inf:
            raise ConfigError(
                f"optimizer.lr_factors.{part}={factor}: must be above 0; freeze=[{part}] does not train it"
            )
    if config.freeze_epochs is not None and not config.freeze:
        raise ConfigError(
            f"freeze_epochs={config.freeze_epochs}: nothing is frozen; add the parts: freeze=[backbone]"
        )
    if config.ema.enabled and config.swa.enabled:
        raise ConfigError(
            "swa.enabled=true: also ema.enabled=true, another average of the weights; type one of them"
        )
    if config.init_from is not None and config.backbone.weights is not None:
        raise ConfigError(
            f"init_from={config.init_from}: also backbone.weights={config.backbone.weights}, which is the backbone's start, "
            "too; type one of them"
        )
    if not all(0 < m < 1 for m in config.scheduler.milestones):
        raise ConfigError(
            f"scheduler.milestones={config.scheduler.milestones}: must be shares of the training in 0..1"
        )
    devices = config.trainer.devices
    number = type(devices) is int and devices >= 1
    numbers = isinstance(devices, list) and devices and all(type(d) is int and d >= 0 for d in devices)
    if not (devices == "auto" or number or (numbers and len(set(devices)) == len(devices))):
        raise ConfigError(f"trainer.devices={devices}: must be {_DEVICES}")
    _check_cache(config)
    _check_detection(config)
    _check_balance(config)
    ours = values_of(config.data) is None  # another has the keys that its own signature says
    _check_folds(config)
    for name, place in (
        ("data.root", config.data.root if ours else None),
        ("data.cache_dir", config.data.cache_dir),
        ("backbone.weights", config.backbone.weights),
        ("init_from", config.init_from),
        ("ckpt_path", config.ckpt_path),
        ("detection.checkpoint", config.detection.checkpoint),
        ("detection.data", config.detection.data),
        ("runs_dir", config.runs_dir),
    ):
        if place is not None:
            check_local(place, f"{name} takes a path")
    if ours and config.data.name == "shapes" and config.data.root:
        raise ConfigError(
            f"data.root={config.data.root}: data=shapes has no files; for photos add data=folder"
        )
    if ours and config.data.name != "shapes" and not config.data.root:
        raise ConfigError(
            f"data.root: missing; data={config.data.name} needs the folder of its images: data.root=FOLDER"
        )
    if config.trainer.max_epochs % config.trainer.val_every:
        epochs = config.trainer.max_epochs
        fitting = [n for n in range(1, min(epochs, 100) + 1) if epochs % n == 0]
        raise ConfigError(
            f"trainer.val_every={config.trainer.val_every}: must divide trainer.max_epochs="
            f"{config.trainer.max_epochs}, so that the last epoch is validated: choose from {', '.join(map(str, fitting))}"
        )


def _check_detection(config: Config) -> None:
    detection = config.detection
    if detection.checkpoint is None:
        if detection.data is not None:
            raise ConfigError(
                "detection.checkpoint: missing; a detector is made of a classifier: detection.checkpoint=CKPT"
            )
        return
    if detection.data is None:
        raise ConfigError(
            "detection.data: missing; a detector learns from images with boxes: detection.data=SET, or shapes"
        )
    if not re.fullmatch(r"pool5|(ft)?fc\d+", detection.features):
        raise ConfigError(
            f"detection.features={detection.features}: choose from pool5, fc6, fc7, ftfc6, ftfc7"
        )
    if detection.scorer == "softmax" and not detection.features.startswith("ft"):
        raise ConfigError(
            f"detection.scorer=softmax: the fine-tuned network's own classes; choose detection.features=ftfc7, not {detection.features}"
        )
    if detection.convolution_steps and not detection.features.startswith("ft"):
        raise ConfigError(
            f"detection.convolution_steps={detection.convolution_steps}: is fine-tuning; choose detection.features=ftfc7, "
            f"not {detection.features}"
        )
    if detection.scenes is not None and detection.data != "shapes":
        raise ConfigError(
            f"detection.scenes={detection.scenes}: scenes are generated for detection.data=shapes only"
        )
    if config.ckpt_path is not None:
        raise ConfigError(
            f"ckpt_path={config.ckpt_path}: the same command again goes on with a detector, without ckpt_path"
        )


def _check_folds(config: Config) -> None:
    folds, fold = config.data.folds, config.data.fold
    if fold is not None and folds is None:
        raise ConfigError(f"data.fold={fold}: of how many? add data.folds=5")
    if folds is not None and fold is None:
        raise ConfigError(
            f"data.folds={folds}: which one is validated on? add data.fold=0, or train all: -m +sweep=kfold"
        )
    if folds is not None and fold is not None and fold >= folds:
        raise ConfigError(f"data.fold={fold}: must be below data.folds={folds}; the first is 0")


def _check_balance(config: Config) -> None:
    """Weights of the classes, as far as they can be judged without them."""
    from sppcls.data.balance import BALANCED, PLAIN, check_weight

    sampler, balance = config.data.sampler, config.data.balance
    if balance != 1 and sampler != BALANCED:
        raise ConfigError(f"data.balance={balance:g}: is of the balanced sampler; add data.sampler=balanced")
    chosen = {
        "data.sampler": (sampler, (PLAIN, BALANCED)),
        "loss.class_weights": (config.loss.class_weights, (None, BALANCED)),
    }
    for name, (value, words) in chosen.items():
        if isinstance(value, dict | list) and value:
            for label, weight in value.items() if isinstance(value, dict) else enumerate(value):
                check_weight(name, str(label), weight)
        elif value not in words:
            allowed = " or ".join("null" if word is None else word for word in words)
            raise ConfigError(f"{name}={value}: must be {allowed}, or numbers > 0 such as {{roses: 3}}")


def _check_cache(config: Config) -> None:
    data, side = config.data, config.data.cache_shorter_side
    if data.cache == "none":
        for name in ("cache_dir", "cache_shorter_side"):
            if getattr(data, name) is not None:
                raise ConfigError(
                    f"data.{name}={getattr(data, name)}: there is no cache; add data.cache=disk"
                )
        return
    if data.name in ("shapes", "cifar10"):
        raise ConfigError(
            f"data.cache={data.cache}: data={data.name} has no image files; type data.cache=none"
        )
    if side is not None:
        if config.augment.crop != "resized":
            raise ConfigError(
                f"data.cache_shorter_side={side}: only for augment.crop=resized (add augment=resized); with crop={config.augment.crop} "
                "the images are reduced to the side that it cuts from"
            )
        region = size_schedule(config).largest
        if side < min(region):
            raise ConfigError(
                f"data.cache_shorter_side={side}: at least the region's {min(region)} are needed: "
                f"data.cache_shorter_side={min(region)}"
            )
