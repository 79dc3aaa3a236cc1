"""What a search draws: choices and ranges, from a file or from words, checked against the keys of the config."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override

from sppcls._util.near import suggest
from sppcls.config.compose import compose_unchecked, group_choices
from sppcls.config.grammar import hydra_word
from sppcls.config.key import all_keys
from sppcls.config.schema import Config
from sppcls.errors import ConfigError
from sppcls.sweeps.overrides import separate, single_values, value_text


@dataclass(frozen=True)
class Choices:
    """One of some values, as they stand on a command line."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, both included; whole numbers if ``whole``; ``log``: uniform in its logarithm."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False


def draws(words: list[str]) -> tuple[list[str], dict[str, Choices | Range]]:
    """Words with one value, and what the others draw from: several values, or one of Hydra's ranges.

    Raises:
        ConfigError: one line that names the word.
    """
    return separate(words, _sweep)


def _sweep(override: Override) -> Choices | Range | None:
    if not override.is_sweep_override():
        return None
    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        unknown = sorted(tag for tag in value.tags if tag != "log")
        if unknown:
            raise ConfigError(f"{override.input_line}: tag {unknown[0]!r}: the only tag is log")
        return Range(value.start, value.end, "log" in value.tags)
    return Choices(tuple(single_values(override)))


def read_parameter(name: str, value: Any) -> Choices | Range:
    """A value of the file's ``params``.

    Raises:
        ConfigError: one line that names the key.
    """
    if isinstance(value, list) and value:
        return Choices(tuple(dict.fromkeys(value_text(item, inside=True) for item in value)))
    if not isinstance(value, dict) or not {"low", "high"} <= set(value):
        raise ConfigError(
            f"{name}: {value_text(value)}: give choices, such as [a, b], or a range, such as {{low: 0.1, high: 1, log: true}}"
        )
    known = ("low", "high", "log", "step")
    for part in value:
        if part not in known:
            raise ConfigError(
                f"{name}.{part}: unknown{suggest(str(part), list(known))}; a range has {', '.join(known)}"
            )
    if not isinstance(value.get("log", False), bool):
        raise ConfigError(f"{name}.log={value['log']}: must be true or false")
    numbers = {
        part: _number(f"{name}.{part}", value[part]) for part in ("low", "high", "step") if part in value
    }
    return Range(numbers["low"], numbers["high"], bool(value.get("log", False)), numbers.get("step"))


def _number(where: str, value: Any) -> float:
    """A number; YAML reads ``1e-5`` as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where}={value}: must be a number")
    return number


def check_parameter(
    name: str, what: Choices | Range, constant: list[str], config_dir: str | None
) -> Choices | Range:
    """A parameter whose key exists, and if it is a range, one that fits the type of the key.

    Raises:
        ConfigError: one line that names the key.
    """
    if isinstance(what, Choices):
        for value in what.values:
            compose_unchecked([*constant, f"{name}={value}"], config_dir)
        return what
    if name.lstrip("+") in group_choices(config_dir):
        raise ConfigError(f"{name}: a group takes choices, such as [a, b], and no range")
    compose_unchecked([*constant, hydra_word(name, what.low)], config_dir)
    kind = str(all_keys(Config)[name].type).removesuffix(" | None") if name in all_keys(Config) else None
    if kind not in ("int", "float"):
        raise ConfigError(f"{name}: is no number, so it takes choices, such as [a, b], and no range")
    whole = kind == "int"
    step = what.step
    shown = f"{name}: from {what.low:g} to {what.high:g}"
    if not what.low < what.high:
        raise ConfigError(f"{shown}: low must be less than high")
    if what.log and what.low <= 0:
        raise ConfigError(f"{shown}: a log range must begin above 0")
    if whole and not all(part is None or float(part).is_integer() for part in (what.low, what.high, step)):
        raise ConfigError(f"{shown}: takes whole numbers")
    if step is not None and what.log:
        raise ConfigError(f"{shown}: step={step:g} and log=true exclude each other")
    if step is not None and not 0 < step <= what.high - what.low:
        raise ConfigError(f"{shown}: step={step:g} must be above 0 and no larger than the range")
    return dataclasses.replace(what, whole=whole)
