"""What a config key is: its type, its default, what it means, what it may be, and what another value changes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, TypeVar, cast

from sppcls._util.docstring import read_docstring

_T = TypeVar("_T")

# OmegaConf's word for a missing value; what compares runs needs the schema without OmegaConf.
MISSING: Any = "???"

# What another value of a key changes; see :mod:`sppcls.config.same_run`.
Change = Literal["state", "weights", "length", "validation", "tests", "name", "speed", "place", "log"]


def key(
    default: Any = MISSING,
    *,
    help: str = "",
    choices: tuple[Any, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    changes: Change = "weights",
) -> Any:
    """A config key, and which values it takes (``low <= value <= high``, ``value > above``).

    Args:
        default: its value where no file and no word gives it one; none: it has to be given.
        help: what it means; of a :func:`documented` group its docstring says it.
        changes: what another value changes in a run, which decides whether it is still the same one:
            :mod:`sppcls.config.same_run`.
    """
    about = {"help": help, "default": default, "choices": choices, "low": low, "high": high, "above": above}
    return dataclasses.field(default=MISSING, metadata={**about, "changes": changes})


def documented(group: type[_T]) -> type[_T]:
    """Give each key of a dataclass the meaning that ``Args:`` of the docstring says; what is left is the group's."""
    said = read_docstring(group.__doc__)
    group.__doc__ = said.text
    for spec in dataclasses.fields(cast(Any, group)):
        if "default" in spec.metadata:
            spec.metadata = {**spec.metadata, "help": said.arguments[spec.name][1]}  # type: ignore[assignment]
    return group


@functools.lru_cache(64)  # each part of one's own makes a schema
def all_keys(schema: Any, prefix: str = "") -> dict[str, dataclasses.Field[Any]]:
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
