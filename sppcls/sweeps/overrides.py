"""What sweeps and searches share: their files, the words in them, and when two commands mean the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from sppcls._util.near import suggest
from sppcls.config.checks import resolved
from sppcls.config.compose import (
    compose_unchecked,
    conf_dir,
    group_choices,
    hydra_session,
    key_of,
    name_plugins,
)
from sppcls.config.grammar import in_grammar, text_keys
from sppcls.config.hydra_words import is_hydras
from sppcls.config.mistakes import unreadable
from sppcls.config.own_files import read_yaml
from sppcls.config.same_run import flatten, sweep_identity
from sppcls.errors import ConfigError
from sppcls.registry import NOT_IN_FILES

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep or a search before anything runs.

    Attributes:
        name: of its folder.
        runs_dir: where the folder belongs.
        identity: equal for commands that mean the same one.
        words: the words it was made from.
        config_dir: folder with more configs.
    """

    name: str
    runs_dir: Path
    identity: str
    words: list[str]
    config_dir: str | None


def named_files(group: str, config_dir: str | None = None) -> dict[str, Path]:
    """Files of ``conf/<group>`` by name: those that are shipped, and those below ``config_dir``."""
    roots = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    return {path.stem: path for root in roots for path in sorted((root / group).glob("*.yaml"))}


@dataclass(frozen=True)
class Command:
    """A command line of a sweep or a search, taken apart: the ``name`` of its file, if any, and what that file holds; the
    words that were typed, ``apart`` those that say how to search and those that are Hydra's.
    """

    name: str | None
    fixed: list[str]
    cells: dict[str, list[str]]
    params: dict[str, Any]
    more: dict[str, Any]
    own: list[str]
    apart: list[str]
    hydra: list[str]

    @property
    def constant(self) -> list[str]:
        """Words of all runs: those of the file, except where others were typed, which follow."""
        given = {key_of(word) for word in self.own}
        return [*(word for word in self.fixed if key_of(word) not in given), *self.own]

    @property
    def varied(self) -> dict[str, Any]:
        """What the file varies, except where something was typed."""
        given = {key_of(word) for word in self.own}
        return {str(key): value for key, value in self.params.items() if key not in given}


def read_command(
    words: Sequence[str],
    group: str,
    config_dir: str | None,
    shape: str,
    reserved: Mapping[str, str],
    more: Sequence[str] = (),
) -> Command:
    """Take ``+<group>=NAME`` and Hydra's own words out of a command line, and read the file of that name.

    Args:
        words, group, config_dir, shape: as of :func:`read_named`.
        reserved: keys that the sweep or search sets itself, and why.
        more: what a file may have besides ``fixed``, ``cells`` and ``params``; words of these keys are kept apart, too.

    Raises:
        ConfigError: two names, no such file, a word that is reserved, or that each cell sets differently.
    """
    hydra_words = [w for w in words if is_hydras(w)]
    own = [w for w in words if w not in hydra_words]
    names = [w.partition("=")[2] for w in own if key_of(w) == group]
    own = [w for w in own if key_of(w) != group]
    if len(names) > 1:
        raise ConfigError(f"+{group}={names[1]}: one {group} at a time; +{group}={names[0]} is given already")
    name_plugins(own)
    name = names[0] if names else None
    file: dict[str, Any] = {"fixed": [], "cells": {}, "params": {}}
    if name is not None:
        file = read_named(group, name, config_dir, [*file, *more], shape)
    apart = [w for w in own if key_of(w).partition(".")[0] in more]
    own = [w for w in own if w not in apart]
    fixed, cells, params = (file.pop(key) for key in ("fixed", "cells", "params"))
    of_cells = [word for listed in cells.values() for word in listed]
    for word in (*fixed, *own, *of_cells, *(f"{key}=" for key in params)):
        if key_of(word) in reserved:
            raise ConfigError(f"{word}: {reserved[key_of(word)]}")
    in_cells = set(map(key_of, of_cells))
    for word in own:
        if key_of(word) in in_cells:
            raise ConfigError(
                f"{word}: {group}={name} sets {key_of(word)} itself, differently in each of its cells "
                f"({', '.join(cells)}); leave it out"
            )
    return Command(name, fixed, cells, params, file, own, apart, hydra_words)


def read_named(
    group: str, name: str, config_dir: str | None, keys: Sequence[str], shape: str
) -> dict[str, Any]:
    """The file ``conf/<group>/<name>.yaml``, a mapping with some of ``keys``: ``fixed`` (words), ``cells`` (words by name)
    and ``params`` (a mapping) are always in the result.

    Raises:
        ConfigError: no such file, or it holds something else than ``shape``.
    """
    known = named_files(group, config_dir)
    if name not in known:
        raise ConfigError(f"+{group}={name}: choose from {', '.join(known)}{suggest(name, list(known))}")
    path = known[name]
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: {shape}")
    for key in content:
        if key not in keys:
            raise ConfigError(f"{path}: {key}: unknown key{suggest(str(key), list(keys))}; {shape}")
    content = {**content, "fixed": content.get("fixed") or []}
    content |= {key: content.get(key) or {} for key in ("cells", "params")}
    for key in ("cells", "params"):
        if not isinstance(content[key], dict):
            raise ConfigError(f"{path}: {key}: {content[key]!r}: must be a mapping; {shape}")
    for key, words in [
        ("fixed", content["fixed"]),
        *((f"cells.{name}", w) for name, w in content["cells"].items()),
    ]:
        if not isinstance(words, list):
            raise ConfigError(f"{path}: {key}: {words!r}: must be a list of words, such as [pyramid=l421]")
        for word in words:
            if not isinstance(word, str) or "=" not in word:
                raise ConfigError(f"{path}: {key}: {word!r}: is no word such as pyramid=l421")
            if key_of(word) == "plugins":
                raise ConfigError(f"{path}: {key}: {word}: {NOT_IN_FILES}; type {word}")
    if any(key_of(str(key)) == "plugins" for key in content["params"]):
        raise ConfigError(f"{path}: params: plugins: {NOT_IN_FILES}; type plugins=[PACKAGE]")
    if not content["cells"] and not content["params"]:
        raise ConfigError(f"{path}: {shape}; it has nothing to vary")
    return content


def filled_in(params: Mapping[str, Any], words: Sequence[str], config_dir: str | None) -> dict[str, Any]:
    """``params`` with the value of a key in place of ``${key}``, such as ``data.fold: range(0,${data.folds})``; ``words`` are
    those of all jobs.

    Raises:
        ConfigError: such a key is no single whole number.
    """
    texts = {key: value for key, value in params.items() if isinstance(value, str)}
    named = {key for text in texts.values() for key in re.findall(r"\$\{([\w.]+)\}", text)}
    if not named:
        return dict(params)
    constant, several = separate(words, lambda override: override.is_sweep_override() or None)
    config = flatten(composed(constant, config_dir))
    for key in named:
        if key in several or type(config.get(key)) is not int:
            given = next((word.partition("=")[2] for word in words if key_of(word) == key), None)
            raise ConfigError(f"{key}={given}: must be one whole number, as the runs of this sweep follow it")
        texts = {name: text.replace(f"${{{key}}}", str(config[key])) for name, text in texts.items()}
    return {**params, **texts}


def param_word(key: str, value: Any) -> str:
    """A key of ``params`` with its values, as the word that would stand on the command line."""
    if key.lstrip("+") not in text_keys():
        return f"{key}={value_text(value)}"
    values = value if isinstance(value, list) else [value]
    words = in_grammar([f"{key}={value_text(item, inside=True)}" for item in values])
    return f"{key}={','.join(word.partition('=')[2] for word in words)}"


def value_text(value: Any, inside: bool = False) -> str:
    """A value of ``params`` as it would stand on the command line: a list is several values, one within it a list."""
    if isinstance(value, list):
        joined = ",".join(value_text(item, inside=True) for item in value)
        return f"[{joined}]" if inside else joined
    if value is None or isinstance(value, bool):
        return str(yaml.safe_dump(value)).split()[0]
    return str(value)


def safe_name(text: str) -> str:
    """A value as part of a folder name, without characters that a shell or Hydra would mind."""
    return without_odd(text).strip("._-") or "value"


def without_odd(text: str) -> str:
    """A text without the characters that a folder name cannot have."""
    return re.sub(r"_+", "_", re.sub(r"[^\w.-]", "_", text)).strip("_")


def folder_name(base: Mapping[str, Any], command: Command, varied: Iterable[str]) -> str:
    """The name of the folder: as typed, or that of the file, or made of what is varied; ``base`` is the config that all
    runs have in common."""
    if any(key_of(word) == "name" for word in command.own):
        return safe_name(str(base["name"]))
    parts = [str(base["name"]), *map(short_key, varied)] if command.name is None else [command.name]
    return safe_name("-".join(dict.fromkeys(parts)))


def short_key(key: str) -> str:
    """The last part of a key, or all of it where other groups have a key of that name."""
    last = key.lstrip("+~").rpartition(".")[2]
    return last if last not in ("name", "kind", "norm", "weights", "scale") else key.replace(".", "_")


def separate(words: Sequence[str], read: Callable[[Override], T | None]) -> tuple[list[str], dict[str, T]]:
    """Words with one value, and by key what the others vary; ``read`` says what, or None of one value.

    Raises:
        ConfigError: one line that names the word.
    """
    constant: list[str] = []
    varied: dict[str, T] = {}
    with hydra_session() as session:
        parser = OverridesParser.create(config_loader=session.config_loader)
        for word in words:
            try:
                (override,) = parser.parse_overrides(in_grammar([word], several=True))
                found = read(override)
            except HydraException as error:
                raise ConfigError(unreadable(word, error, group_choices())) from None
            key = override.get_key_element()
            if found is None:
                assert override.input_line is not None
                constant.append(override.input_line)
            elif key in varied:
                raise ConfigError(f"{word}: {key} is given twice")
            else:
                varied[key] = found
    return constant, varied


def single_values(override: Override) -> list[str]:
    """The values of a word that has several, as each would be written on the command line."""
    plain = {"True": "true", "False": "false", "None": "null"}
    return list(dict.fromkeys(plain.get(str(v), str(v)) for v in override.sweep_string_iterator()))


def composed(words: Sequence[str], config_dir: str | None) -> dict[str, Any]:
    """The resolved, unchecked config of some words as plain dicts."""

    plain = resolved(compose_unchecked(words, config_dir))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def identity(base: dict[str, Any], varied: Sequence[str], more: object) -> str:
    """Equal for commands whose runs share their folder: of ``base``, the config that all runs have in common, without the
    ``varied`` keys, whose values are none of any run; and of anything else that has to agree, as plain data.
    """
    fixed = sweep_identity(base)
    for key in varied:  # a key, or a group with all its keys
        fixed = {k: v for k, v in fixed.items() if k != key and not k.startswith(f"{key}.")}
    same: dict[str, Any] = dict(sorted(fixed.items()))
    content = yaml.safe_dump([same, sorted(varied), more], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
