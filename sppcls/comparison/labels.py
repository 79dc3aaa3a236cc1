"""Short names for what was varied, in the words that are typed: ``single_224``, ``l6321``, ``lr=0.1``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sppcls.comparison.runs import Run
from sppcls.config.same_run import flatten
from sppcls.runs.names import pyramid_word

_SIZES = {"single": "single", "alternate": "multi", "random_epoch": "random", "random_batch": "random_batch"}
ABSENT = "(absent)"


def level_labels(
    values: Sequence[Mapping[str, Any]],
    factors: Mapping[str, Sequence[str]],
    typed: Sequence[Mapping[str, str]],
) -> list[dict[str, str]]:
    """What each group is in each factor, such as ``{"sizes": "single_224", "pyramid": "l6321"}``.

    Args:
        values: of each group, by config key.
        factors: keys that differ, by the config group they belong to.
        typed: words that a sweep gave for each group, by config group or key; empty outside a sweep.
    """
    parts: dict[str, list[str]] = {}
    for factor, keys in factors.items():
        distinct = {repr([group[key] for key in keys]) for group in values}
        shorter = (
            [words.get(factor) for words in typed],
            *([short(group, keys) for group in values] for short in (_pyramid, _sizes, _name)),
        )
        tells = (names for names in shorter if None not in names and len(set(names)) == len(distinct))
        names = next(tells, [_assignments(group, keys, factor) for group in values])
        parts[factor] = [str(name) for name in names]
    return [{factor: names[i] for factor, names in parts.items()} for i in range(len(values))]


def sweep_label(values: Mapping[str, str]) -> str:
    """A name of the values that a sweep gave: a choice (``l6321``) speaks for itself, a bare value does not."""
    parts = []
    for key, value in values.items():
        bare = value.isdigit() or value.lower() in ("none", "null", "true", "false")
        parts.append(f"{key.rpartition('.')[2]}={value}" if bare or "." in key else value)
    return "-".join(parts)


def factors_of(settings: Sequence[dict[str, Any]]) -> tuple[dict[str, list[str]], list[str]]:
    """Keys that differ by config group, and a line on keys that some versions did not have."""
    keys = list(dict.fromkeys(key for setting in settings for key in setting))
    factors: dict[str, list[str]] = {}
    unknown = []
    for key in keys:
        found = {repr(setting[key]) for setting in settings if key in setting}
        if len(found) > 1:
            factors.setdefault(key.partition(".")[0], []).append(key)
        elif any(key not in setting for setting in settings):
            unknown.append(f"{key}={found.pop()}")
    line = f"not in the config of every run, and taken to be the same in all: {', '.join(unknown)}"
    return factors, [line] if unknown else []


def swept(runs: Sequence[Run]) -> dict[str, str]:
    """What a sweep gave for all of these runs; empty if they do not agree."""
    return runs[0].values if all(run.values == runs[0].values for run in runs) else {}


def group_labels(members: Sequence[list[Run]], levels: Sequence[dict[str, str]]) -> list[str]:
    """Words of the sweep, or names of the experiments, where they tell all groups apart; else the levels."""
    sweep = [sweep_label(swept(runs)) for runs in members]
    if all(sweep) and len(set(sweep)) == len(sweep):
        return sweep
    if len(members) == 1:
        return [members[0][0].folder.resolve().parent.name]
    names = [{str(run.config.get("name")) for run in runs} for runs in members]
    if all(len(name) == 1 for name in names) and len(set.union(*names)) == len(names):
        return [name.pop() for name in names]
    return ["-".join(level.values()) for level in levels]


def taken_for_one(runs: Sequence[Run], ignored: Collection[str]) -> list[str]:
    """A line if a sweep told runs of one group apart, such as two cells that differ in the number of threads.

    Args:
        runs: of one group.
        ignored: keys that tell nothing.
    """
    names = list(dict.fromkeys(sweep_label(run.values) for run in runs if run.values))
    if len(names) < 2:
        return []
    flat = [flatten(run.config) for run in runs]
    keys = [key for key in flat[0] if len({repr(setting.get(key)) for setting in flat}) > 1]
    differ = ", ".join(key for key in keys if key not in ignored)
    but = f" but {differ}" if differ else ""
    return [f"{', '.join(names)}: taken for one group, as nothing differs{but}"]


def _pyramid(group: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return pyramid_word(group["pyramid.levels"]) if list(keys) == ["pyramid.levels"] else None


def _sizes(group: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    if {*keys} != {"sizes.kind", "sizes.sizes"}:
        return None
    kind, sizes = group["sizes.kind"], group["sizes.sizes"]
    return "_".join([_SIZES.get(kind, kind), *map(_side, sizes)])


def _name(group: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    named = [key for key in keys if key.endswith(".name")]
    return str(group[named[0]]) if named else None


def _assignments(group: Mapping[str, Any], keys: Sequence[str], factor: str) -> str:
    # A key like `weights` says little without its group, `lr` enough.
    short = [
        key.removeprefix(f"{factor}.") if factor in ("detection", "optimizer", "trainer") else key
        for key in keys
    ]
    return ",".join(f"{name}={_value(group[key])}" for name, key in zip(short, keys, strict=True))


def _side(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
