"""Short names for what was varied, in the words that are typed: ``single_224``, ``l6321``, ``lr=0.1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sppcls.runs.names import pyramid_word

_SIZES = {"single": "single", "alternate": "multi", "random_epoch": "random", "random_batch": "randombatch"}
ABSENT = "(absent)"


def level_labels(
    values: Sequence[Mapping[str, Any]],
    factors: Mapping[str, Sequence[str]],
    swept: Sequence[Mapping[str, str]],
) -> list[dict[str, str]]:
    """What each group is in each factor, such as ``{"sizes": "single_224", "pyramid": "l6321"}``.

    Args:
        values: of each group, by config key.
        factors: keys that differ, by the config group they belong to.
        swept: words that a sweep gave for each group, by config group or key; empty outside a sweep.
    """
    parts: dict[str, list[str]] = {}
    for factor, keys in factors.items():
        distinct = {repr([group[key] for key in keys]) for group in values}
        typed = [words.get(factor) for words in swept]
        for names in (
            typed,
            *([short(group, keys) for group in values] for short in (_pyramid, _sizes, _name)),
        ):
            if None not in names and len(set(names)) == len(distinct):
                break
        else:
            names = [_assignments(group, keys, factor) for group in values]
        parts[factor] = [str(name) for name in names]
    return [{factor: names[i] for factor, names in parts.items()} for i in range(len(values))]


def sweep_label(values: Mapping[str, str]) -> str:
    """A name of the values that a sweep gave: a choice (``l6321``) speaks for itself, a bare value does not."""
    parts = []
    for key, value in values.items():
        speaks = (
            "." not in key and value.lower() not in ("none", "null", "true", "false") and not value.isdigit()
        )
        parts.append(value if speaks else f"{key.rpartition('.')[2]}={value}")
    return "-".join(parts)


def _pyramid(group: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    if list(keys) != ["pyramid.levels"]:
        return None
    return pyramid_word(group["pyramid.levels"])


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
    short = [key.removeprefix(f"{factor}.") if factor in ("optimizer", "trainer") else key for key in keys]
    return ",".join(f"{name}={_value(group[key])}" for name, key in zip(short, keys, strict=True))


def _side(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_value, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
