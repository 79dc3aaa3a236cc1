"""From any values to a checked :class:`~sppcls.config.schema.Config`, or to one line that names the key and what it may be."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sppcls._util.near import choose_from, suggest
from sppcls._util.reason import reason_of
from sppcls.config.grammar import literal
from sppcls.config.key import all_keys
from sppcls.config.parts import PARTS, part_schema, with_own_parts
from sppcls.config.rules import DEVICES, check_together
from sppcls.config.schema import Config, default_values
from sppcls.errors import ConfigError
from sppcls.registry import DOORS, TARGET, comes_with_sppcls, find, is_own, names, target_of, what_instead

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
    check_together(checked)
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
    typed = f"; type {name}=[{value}]" if wanted in _LISTS and type(value) in (str, int) else ""
    return f"{name}={'null' if value is None else value}: must be {wanted}{typed}"


# Lists that one value may have been meant for; those of numbers are pairs.
_LISTS = ("a list", "a list or null", "a list of names", "a list of names or null", "a list of whole numbers")


def what_it_may_be(name: str, schema: type = Config) -> str | None:
    """The type of a key in words, such as "a whole number or null"; None if there is no such key."""
    keys = all_keys(schema)
    if name in keys:
        return _kinds(name, keys[name].type)
    mapping = keys.get(name.rpartition(".")[0])
    return _kinds(name, "float") if mapping is not None and mapping.type == "dict[str, float]" else None


def _kinds(name: str, kind: Any) -> str:
    if name == "trainer.devices":
        return DEVICES  # no type says it
    return " or ".join("null" if k == "None" else _KINDS.get(k, k) for k in str(kind).split(" | "))


def _check_keys(schema: type, values: Any, prefix: str) -> None:
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.')}: {values!r} is not a set of keys")
    fields = {f.name: f for f in dataclasses.fields(schema)}
    for name in values:
        if name not in fields:
            said, end = _taken_by(prefix, str(name), values)
            raise ConfigError(
                said
                or f"{prefix}{name}: unknown key{suggest(str(name), list(fields))}; known: {', '.join(fields)}{end}"
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


def _taken_by(prefix: str, name: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """What to say of a key that others of our own parts take and the chosen one does not: what it says itself, or the end
    of the usual line. Both are empty of a key that none takes."""
    group = prefix.rstrip(".")
    if TARGET not in values or group not in PARTS or f"{group}.{name}" not in all_keys(Config):
        return "", ""
    chosen = values.get(DOORS[group].name_key)
    if (line := what_instead(group, values, name)) is not None:
        return f"{prefix}{name}: {group}={chosen} does not take it; {line}", ""
    ours = [part for part in names(group) if comes_with_sppcls(group, part)]
    if len(ours) > _FEW:
        return "", f"; {chosen} does not take it: leave it out"
    words = " or ".join(f"{group}={part}" for part in ours)
    return "", f"; {chosen} does not take it: type {words}, or leave it out"


_FEW = 3  # parts that are named one by one


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
            raise ConfigError(f"{name}={value}: {choose_from(value, known)}")
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
