"""Short names for what was varied, in the words that are typed: ``single_224``, ``l6321``, ``loss=focal``, ``lr=0.1``."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sppcls.comparison.runs import Run
from sppcls.config.same_run import flatten, is_factor, known_changes
from sppcls.config.schema import default_values
from sppcls.config.shipped import choices_in, choices_of
from sppcls.registry import DOORS, TARGET, short_name
from sppcls.runs.names import pyramid_word

LONGEST = 50
"""Characters of the longest name that tables and axes have room for."""

ABSENT = "(absent)"

_SIZES = {"single": "single", "alternate": "multi", "random_epoch": "random", "random_batch": "random_batch"}
# Groups whose words need no `group=` before them.
_BARE = ("sizes", "pyramid", "backbone", "experiment", "cell", "trial")
# Groups whose keys are known without the group's name.
_PLAIN = ("detection", "optimizer", "trainer")


# --- what differs


def settings_of(run: Run) -> dict[str, Any]:
    """The keys of a run that make it another one than its neighbours, by their full names.

    The part that a group holds, such as ``loss``, stands under the name of the group.
    """
    settings: dict[str, Any] = {}
    for name, values in run.config.items():
        group = str(name)
        if not isinstance(values, Mapping):
            settings[group] = values
            continue
        if group in DOORS:
            settings[group] = _part(group, values)
        settings |= _flat(values, f"{group}.")
    # What a sweep varied on purpose is not ignored, were it the number of threads.
    kept = {key: value for key, value in settings.items() if is_factor(key) or key in run.values}
    for key in ("data.root", "detection.data", "detection.checkpoint"):
        if kept.get(key):
            kept[key] = os.path.realpath(os.path.expanduser(str(kept[key])))
    return kept


def _part(group: str, values: Mapping[str, Any]) -> Any:
    """What tells the part of a group from others; None of a group that is known by its keys."""
    if group == "callbacks":
        return {n: value.get(TARGET) if isinstance(value, Mapping) else value for n, value in values.items()}
    return values.get(TARGET) or (None if group in ("sizes", "pyramid", "augment") else values.get("name"))


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """As :func:`flatten`, but without what :func:`_part` tells; the value of a key may be a mapping."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key not in known_changes():
            flat |= _flat(value, f"{key}.")
        elif name != TARGET and key.partition(".")[2] != "name":
            flat[key] = value
    return flat


def factors_of(settings: Sequence[dict[str, Any]]) -> tuple[dict[str, list[str]], list[str]]:
    """Keys that differ by config group, and a line on keys that some versions did not have.

    The parameters of a part count where they differ between runs that have the part.
    """
    factors: dict[str, list[str]] = {}
    unknown = []
    for key in dict.fromkeys(key for setting in settings for key in setting):
        group = key.partition(".")[0]
        found: dict[str, set[str | None]] = {}
        for setting in settings:
            part = repr(setting.get(group)) if key != group else ""
            found.setdefault(part, set()).add(repr(setting[key]) if key in setting else None)
        if any(len(values - {None}) > 1 for values in found.values()):
            factors.setdefault(group, []).append(key)
        elif any(len(values) > 1 for values in found.values()):
            unknown.append(f"{key}={next(setting[key] for setting in settings if key in setting)}")
    line = f"not in the config of every run, and taken to be the same in all: {', '.join(unknown)}"
    return factors, [line] if unknown else []


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Keys in which the values of two groups differ, without the parameters of different parts."""
    keys = [key for key in first if repr(first[key]) != repr(second[key])]
    return [key for key in keys if "." not in key or key.partition(".")[0] not in keys]


def listed(factors: Mapping[str, Sequence[str]]) -> str:
    """Keys by config group as a list, or of many their number."""
    keys = [key for of_factor in factors.values() for key in of_factor]
    return ", ".join(keys) if len(keys) <= 8 else f"{len(keys)} keys"


# --- what it is called


def level_labels(
    members: Sequence[list[Run]], values: Sequence[Mapping[str, Any]], factors: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    """What each group is in each factor, such as ``{"sizes": "single_224", "pyramid": "l6321"}``: of its runs
    (``members``), and its ``values`` by config key."""
    typed = [swept(runs) for runs in members]
    levels: list[dict[str, str]] = [{} for _ in members]
    for factor, keys in factors.items():
        distinct = {repr([group[key] for key in keys]) for group in values}
        names = [_word(factor, words[factor]) for words in typed if factor in words]
        if len(names) < len(members) or len(set(names)) != len(distinct):
            names = _spelled(factor, keys, values, [runs[0].config.get(factor) for runs in members])
        for level, name in zip(levels, names, strict=True):
            level[factor] = name
    return levels


def _spelled(
    factor: str, keys: Sequence[str], values: Sequence[Mapping[str, Any]], configs: Sequence[Any]
) -> list[str]:
    """The choice of each group, where it differs, and the keys that differ among groups of one choice."""
    choices = _choices(factor, keys, configs)
    apart = len(set(choices)) > 1
    names = []
    for choice, group in zip(choices, values, strict=True):
        alike = [other for name, other in zip(choices, values, strict=True) if name == choice]
        parts = [_word(factor, choice)] if apart and choice else []
        short = factor in _PLAIN or bool(parts)
        for key in keys:
            if len({repr(other[key]) for other in alike}) > 1:
                name = key.removeprefix(f"{factor}.") if short else key
                parts.append(f"{name}={_value(group[key], [other[key] for other in values])}")
        names.append(",".join(parts))
    return names


def _choices(factor: str, keys: Sequence[str], configs: Sequence[Any]) -> list[str]:
    """What was typed for a config group of each config, such as ``zf5_small``; empty if that says nothing."""
    configs = [config if isinstance(config, Mapping) else {} for config in configs]
    found = [_choice(factor, config) for config in configs]
    if factor not in DOORS or factor in ("sizes", "pyramid", "callbacks"):
        return found
    known = {key for given in choices_in(factor).values() for key in given}
    known |= {key.partition(".")[2] for key in keys} - {""}
    defaults = default_values().get(factor, {})
    for part in set(found):
        # Two files may name one part with other parameters.
        own = [i for i, name in enumerate(found) if name == part]
        fitting = [choices_of(factor, configs[i], defaults, known) for i in own]
        if all(fitting):
            for i, (name, *_) in zip(own, fitting, strict=True):
                found[i] = name
    return found


def _choice(group: str, values: Mapping[str, Any]) -> str:
    if group == "callbacks":
        names = ",".join(map(str, values))
        return names if len(values) == 1 else f"[{names}]"
    if group == "sizes":
        kind = str(values.get("kind"))
        return "_".join([_SIZES.get(kind, kind), *map(_side, values.get("sizes", []))])
    if group == "pyramid" and values.get(TARGET) is None:
        levels = values.get("levels")
        return pyramid_word(levels) if levels is None or isinstance(levels, list) else str(levels)
    if group not in DOORS:
        return ""
    return str(short_name(group, values) or str(values.get(TARGET, "")).rpartition(".")[2])


def _word(group: str, choice: str) -> str:
    """What is typed to choose it; the best-known groups need not be named."""
    return choice if group in _BARE or "." in group or not choice else f"{group}={choice}"


def _side(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _value(value: Any, others: Collection[Any] = ()) -> str:
    """A value as it is typed; of a path its last part, where that tells it from others."""
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and os.sep in value:
        paths = {other for other in others if isinstance(other, str)}
        if len({Path(other).name for other in paths}) == len(paths):
            return Path(value).name
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def sweep_label(values: Mapping[str, str]) -> str:
    """A name of the values that a sweep gave: a choice (``l6321``) speaks for itself, a bare value does not."""
    parts = []
    for typed, value in values.items():
        key = typed.lstrip("+~")
        bare = value.isdigit() or value.lower() in ("none", "null", "true", "false")
        named = bare or key not in _BARE
        parts.append(f"{key.rpartition('.')[2]}={value}" if named else value)
    return "-".join(parts)


def swept(runs: Sequence[Run]) -> dict[str, str]:
    """What a sweep gave for all of these runs; empty if they do not agree."""
    return runs[0].values if all(run.values == runs[0].values for run in runs) else {}


def group_labels(members: Sequence[list[Run]], levels: Sequence[dict[str, str]]) -> list[str]:
    """Words of the sweep, or names of the experiments, where they tell all groups apart; else the levels.

    Where all of these are too long, the groups are numbered.
    """
    names = [{str(run.config.get("name")) for run in runs} for runs in members]
    candidates = [
        [sweep_label(swept(runs)) for runs in members],
        [members[0][0].folder.resolve().parent.name] if len(members) == 1 else [],
        [next(iter(name)) if len(name) == 1 else "" for name in names],
        ["-".join(level.values()) for level in levels],
    ]
    fitting = (found for found in candidates if all(found) and len(set(found)) == len(members))
    short = (found for found in fitting if max(map(len, found)) <= LONGEST)
    return next(short, [f"group {number}" for number in range(1, len(members) + 1)])


def numbered(names: Sequence[str], noun: str) -> list[str]:
    """The names, or if one is too long all as numbers, such as ``loss 1``, in the order of their first."""
    if max(map(len, names)) <= LONGEST:
        return list(names)
    order = list(dict.fromkeys(names))
    return [f"{noun} {order.index(name) + 1}" for name in names]


def taken_for_one(runs: Sequence[Run], ignored: Collection[str]) -> list[str]:
    """A line if a sweep told runs of one group apart, such as two cells that differ in the number of threads; ``ignored``
    are keys that tell nothing."""
    names = list(dict.fromkeys(sweep_label(run.values) for run in runs if run.values))
    if len(names) < 2:
        return []
    flat = [flatten(run.config) for run in runs]
    keys = [key for key in flat[0] if len({repr(setting.get(key)) for setting in flat}) > 1]
    differ = ", ".join(key for key in keys if key not in ignored)
    but = f" but {differ}" if differ else ""
    return [f"{', '.join(names)}: taken for one group, as nothing differs{but}"]
