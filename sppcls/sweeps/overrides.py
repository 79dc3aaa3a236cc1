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
from sppcls.config.compose import compose_unchecked, conf_dir, group_choices, hydra_session, key_of
from sppcls.config.grammar import in_grammar, text_keys
from sppcls.config.hydra_words import is_hydras
from sppcls.config.mistakes import unreadable
from sppcls.config.own_files import read_yaml
from sppcls.config.same_run import sweep_identity
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


def split_words(words: Sequence[str], group: str) -> tuple[str | None, list[str], list[str]]:
    """Take ``+<group>=NAME`` and Hydra's own words out of a command line.

    Returns:
        The name, or None if there is none; the other words; the words that are Hydra's.

    Raises:
        ConfigError: two names.
    """
    hydra_words = [w for w in words if is_hydras(w)]
    own = [w for w in words if w not in hydra_words]
    names = [w.partition("=")[2] for w in own if key_of(w) == group]
    own = [w for w in own if key_of(w) != group]
    if len(names) > 1:
        raise ConfigError(f"+{group}={names[1]}: one {group} at a time; +{group}={names[0]} is given already")
    return (names[0] if names else None), own, hydra_words


def read_named(
    group: str, name: str, config_dir: str | None, keys: Sequence[str], shape: str
) -> dict[str, Any]:
    """The file ``conf/<group>/<name>.yaml``, a mapping with some of ``keys``.

    The keys ``fixed`` (words), ``cells`` (words by name) and ``params`` (a mapping) are always in the result.

    Args:
        group: ``sweep`` or ``search``.
        name: of the file.
        config_dir: a folder with more configs.
        keys: what the file may have.
        shape: what it must hold, in words, for the message.

    Raises:
        ConfigError: no such file, or it holds something else.
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


def refuse_reserved(words: Sequence[str], reserved: Mapping[str, str]) -> None:
    """Raise ConfigError for a word whose key is set by the sweep or search itself; ``reserved`` says why, by key."""
    for word in words:
        if key_of(word) in reserved:
            raise ConfigError(f"{word}: {reserved[key_of(word)]}")


def refuse_cell_keys(own: Sequence[str], cells: dict[str, list[str]], where: str) -> None:
    """Raise ConfigError for a word of the command line whose key every cell sets differently."""
    in_cells = {key_of(word) for words in cells.values() for word in words}
    for word in own:
        if key_of(word) in in_cells:
            raise ConfigError(
                f"{word}: {where} sets {key_of(word)} itself, differently in each of its cells "
                f"({', '.join(cells)}); leave it out"
            )


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


def folder_name(base: Mapping[str, Any], own: Sequence[str], file: str | None, varied: Iterable[str]) -> str:
    """The name of the folder: as typed, or that of the file, or made of what is varied.

    Args:
        base: the config of the words that all runs have in common.
        own: the words that were typed.
        file: name of the file of ``conf/sweep`` or ``conf/search``, if there is one.
        varied: keys.
    """
    if any(key_of(word) == "name" for word in own):
        return safe_name(str(base["name"]))
    parts = [file] if file is not None else [str(base["name"]), *map(short_key, varied)]
    return safe_name("-".join(dict.fromkeys(parts)))


def short_key(key: str) -> str:
    """The last part of a key, or all of it where other groups have a key of that name."""
    last = key.lstrip("+~").rpartition(".")[2]
    return last if last not in ("name", "kind", "norm", "weights", "scale") else key.replace(".", "_")


def separate(words: Sequence[str], read: Callable[[Override], T | None]) -> tuple[list[str], dict[str, T]]:
    """Words with one value, and by key what the others are.

    Args:
        words: ``key=value`` words.
        read: what a word varies; None if it has one value.

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
    """Equal for commands whose runs share their folder.

    Args:
        base: the config of the words that all runs have in common.
        varied: keys whose value in ``base`` is none of any run.
        more: anything else that has to agree, as plain data.
    """
    fixed = sweep_identity(base)
    for key in varied:  # a key, or a group with all its keys
        fixed = {k: v for k, v in fixed.items() if k != key and not k.startswith(f"{key}.")}
    same: dict[str, Any] = dict(sorted(fixed.items()))
    content = yaml.safe_dump([same, sorted(varied), more], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
