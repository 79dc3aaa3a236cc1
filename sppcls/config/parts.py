"""Config keys of a part of one's own: its signature, read as a schema (:mod:`sppcls.registry`)."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from sppcls._util.docstring import read_docstring
from sppcls.config import schema
from sppcls.config.key import MISSING, Change, key
from sppcls.config.schema import Config
from sppcls.errors import ConfigError
from sppcls.registry import (
    DOORS,
    NOT_IN_FILES,
    TARGET,
    comes_with_sppcls,
    find,
    is_own,
    name_of,
    parameters,
    target_of,
)

_PLAIN_TYPES = (int, float, bool, str)
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)
_DICTS = (dict, collections.abc.Mapping)

# Groups of the schema that hold one part each.
PARTS = tuple(
    spec.name
    for spec in dataclasses.fields(Config)
    if spec.name in DOORS and dataclasses.is_dataclass(spec.default_factory)
)


def with_own_parts(values: Mapping[str, Any]) -> tuple[type[Config], dict[str, Any]]:
    """The schema of a config whose groups may hold parts of one's own, and its values without foreign defaults.

    Raises:
        ConfigError: a part cannot be found, or nobody has named its package.
    """
    own: list[tuple[str, Any, Any]] = []
    changed = dict(values)
    for spec in dataclasses.fields(Config):
        group = spec.name
        if group in PARTS and is_own(group, values.get(group)):
            part = find(group, values[group])
            name = values[group].get(DOORS[group].name_key)
            if values[group].get(TARGET) is not None and comes_with_sppcls(group, name):
                raise ConfigError(
                    f"{group}: both {name} and {TARGET}={values[group][TARGET]} are chosen; name one. A file with the "
                    f"{TARGET} alone is chosen by {group}=FILE, or in another file by override /{group}: FILE"
                )
            kind = part_schema(group, part)
            changed[group] = _own_values(group, kind, part, values[group])
            own.append((group, kind, dataclasses.field(default_factory=kind)))
    if not own:
        return Config, changed
    own_config = dataclasses.make_dataclass("Config", own, bases=(Config,))
    own_config.__module__ = schema.__name__  # where OmegaConf looks the types up
    return own_config, changed


def part_schema(group: str, part: Callable[..., Any]) -> type:
    """A dataclass of config keys, one for each parameter of a part that a config gives it.

    Types, choices (``Literal``), defaults and meanings (``Args:`` of the docstring) are those of the part.
    """
    door = DOORS[group]
    built_in = _built_in_fields(group)
    helps = _helps(part)
    fields: dict[str, tuple[str, Any]] = {
        door.name_key: ("str", key(help="part of one's own", changes="state")),
        TARGET: ("str", key(help="where it is: package.module.name", changes="state")),
    }
    for name in door.shared:
        spec = built_in[name]
        fields[name] = (str(spec.type), _copied(spec))
    hints = _hints(part)
    for name, parameter in parameters(part).items():
        if name in (*door.given, *door.called):
            continue
        hint = hints.get(name, parameter.annotation)
        missing = parameter.default is inspect.Parameter.empty
        if name == door.name_key:
            if missing:
                raise ConfigError(
                    f"{group}: {target_of(part)}: the parameter {name} has the name of a key; rename it"
                )
            continue
        if not missing and not _can_be_typed(parameter.default):
            continue  # such as a class; it keeps its default
        default = MISSING if missing else _plain(parameter.default)
        kind, choices = _kind(hint, parameter.default)
        change: Change = built_in[name].metadata["changes"] if name in door.shared else "weights"
        if name in door.shared:
            choices = built_in[name].metadata["choices"]
        help = helps.get(name, f"{name} of {part.__name__}")
        fields[name] = (kind, key(default, help=help, choices=choices, changes=change))
    # Whatever reads another key of the group finds its default there.
    foreign = {name: spec.metadata["default"] for name, spec in built_in.items() if name not in fields}
    foreign = {name: None if value is MISSING else value for name, value in foreign.items()}
    made = dataclasses.make_dataclass(
        part.__name__,
        [(name, kind, field) for name, (kind, field) in fields.items()],
        namespace=foreign,
    )
    made.__module__ = schema.__name__
    return made


def _own_values(group: str, kind: Any, part: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The group's values for the part, with its defaults where nothing is given."""
    own = {spec.name: spec.metadata["default"] for spec in dataclasses.fields(kind)}
    merged = {name: default for name, default in own.items() if default is not MISSING}
    # The short name has no key of its own in a group whose key for it has another name.
    merged.update((name, value) for name, value in values.items() if name != "name" or name in own)
    merged[DOORS[group].name_key] = name_of(group, part)
    merged[TARGET] = target_of(part)
    return merged


def _built_in_fields(group: str) -> dict[str, dataclasses.Field[Any]]:
    spec = next(spec for spec in dataclasses.fields(Config) if spec.name == group)
    if group not in PARTS:
        return {}
    return {field.name: field for field in dataclasses.fields(typing.cast(Any, spec.default_factory))}


def _copied(spec: dataclasses.Field[Any]) -> Any:
    return dataclasses.field(default=spec.default, metadata=dict(spec.metadata))


def _hints(part: Callable[..., Any]) -> dict[str, Any]:
    function = part.__init__ if inspect.isclass(part) else part
    try:
        return typing.get_type_hints(function)
    except Exception:  # a hint may name what is imported for type checkers only
        return {}


def _can_be_typed(value: Any) -> bool:
    """Whether a default is what a config is made of."""
    if isinstance(value, list | tuple):
        return all(map(_can_be_typed, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) for name in value) and all(map(_can_be_typed, value.values()))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value


def _kind(hint: Any, default: Any) -> tuple[str, tuple[Any, ...] | None]:
    """A type hint as the schema writes it, and what it may be; without a hint the default says it."""
    if hint is inspect.Parameter.empty or isinstance(hint, str):
        known = type(default) if type(default) in _PLAIN_TYPES else None
        return (known.__name__ if known else "Any"), None
    origin = get_origin(hint)
    if origin is Literal:
        kinds = {type(choice) for choice in get_args(hint) if choice is not None}
        kind = kinds.pop().__name__ if len(kinds) == 1 and kinds <= set(_PLAIN_TYPES) else "Any"
        return kind + (" | None" if None in get_args(hint) and kind != "Any" else ""), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [argument for argument in get_args(hint) if argument is not type(None)]
        if len(inner) != 1:
            return "Any", None
        kind, choices = _kind(inner[0], default)
        optional = len(get_args(hint)) > 1 and kind != "Any"
        return kind + (" | None" if optional else ""), (*choices, None) if choices and optional else choices
    if hint in _PLAIN_TYPES:
        return hint.__name__, None
    if hint in _LISTS or origin in _LISTS:
        element = next(iter(get_args(hint)), None)
        return (f"list[{element.__name__}]" if element in (int, float, str) else "list[Any]"), None
    if hint in _DICTS or origin in _DICTS:
        return "dict[str, Any]", None
    return "Any", None


def _helps(part: Callable[..., Any]) -> dict[str, str]:
    """Meanings of parameters: the ``Args:`` section of the docstring, of a class or of its ``__init__``."""
    sources = [part.__init__, part] if inspect.isclass(part) else [part]
    found = {k: v for source in sources for k, v in read_docstring(inspect.getdoc(source)).arguments.items()}
    return {name: meaning.rstrip(".") for name, (_, meaning) in found.items()}


def values_of(group: Any) -> dict[str, Any] | None:
    """The values of a checked config group that holds a part of one's own; None for one of ours."""
    return dataclasses.asdict(group) if hasattr(group, TARGET) else None


def check_plugins(plugins: Any, typed: list[str]) -> None:
    """Refuse packages that a file names.

    Raises:
        ConfigError: a package that nobody has typed.
    """
    for package in plugins or []:
        if package not in typed:
            raise ConfigError(
                f"plugins={package}: {NOT_IN_FILES}; if you trust the package, type plugins=[{package}]"
            )
