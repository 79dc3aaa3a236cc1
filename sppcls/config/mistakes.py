"""What to say of words that are no config: one line that names the word, what is allowed and, where clear, what to type."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from sppcls._util.near import choose_from, closest, suggest
from sppcls._util.reason import reason_of
from sppcls.config.checks import what_it_may_be
from sppcls.config.grammar import in_grammar
from sppcls.config.key import all_keys
from sppcls.config.schema import Config
from sppcls.config.synonyms import meant

Groups = Mapping[str, Sequence[str]]
"""Config groups and their choices."""

_GRAMMAR = (
    "mismatched input",
    "token recognition",
    "LexerNoViable",
    "extraneous input",
    "no viable",
    "missing EQUAL",
)


def config_error_line(error: Exception, overrides: Sequence[str], groups: Groups) -> str:
    """Hydra's message, which has several lines, as one that names what is allowed.

    Args:
        error: Hydra's or OmegaConf's.
        overrides: the words, as they were typed.
        groups: config groups and their choices.
    """
    text = str(error)
    values = dict(map(_split, overrides))
    for name, value in values.items():
        if (
            name in groups
            and value
            and value not in groups[name]
            and (
                f"{name}/{value}" in text
                or (value.startswith("[") and f"'{name}/" in text)  # a list of choices
                or "Config group override" in text  # that it is no string, as in sizes=224
            )
        ):
            return _wrong_choice(name, value, groups)
    if unknown := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(unknown[1], values.get(unknown[1]), groups)
    for word in overrides:
        name, value = _split(word)
        if text.startswith("Error merging override") and word in text and (wanted := what_it_may_be(name)):
            return f"{name}={value}: must be {wanted}"
        if "integer string conversion" in text and re.search(
            rf"\d{{{sys.get_int_max_str_digits() + 1}}}", value
        ):
            return f"{name}={value[:20]}...: too long a number"
        if "Ambiguous value for argument" in text and f"'{word}'" in text:
            a_list = "a list" in (what_it_may_be(name) or "")
            return f"{word}: several values; add -m to train with each of them" + (
                f", or make a list: {name}=[{value}]" if a_list else ""
            )
        if word.startswith("~") and "Could not delete from config" in text:
            return f"{word}: a key cannot be left out; give it another value, or null"
    if any(sign in text for sign in _GRAMMAR):
        for word in overrides:
            if problem := _not_in_grammar(word, groups):
                return problem
    return reason_of(text)


def _split(word: str) -> tuple[str, str]:
    name, _, value = word.lstrip("+~").partition("=")
    return name, value


def _wrong_choice(name: str, value: str, groups: Groups) -> str:
    text = f"{name}={value}: {choose_from(value, groups[name])}"
    if name == "data" and os.path.isdir(value):
        text += f"; for a folder of photos type {_photos(value)}"
    return text


def _photos(folder: str) -> str:
    return shlex.join(["data=folder", f"data.root={folder}"])


def _not_in_grammar(word: str, groups: Groups) -> str:
    """What is wrong with a word that Hydra cannot read; empty if it can."""
    try:
        OverridesParser.create().parse_overrides(in_grammar([word]))
    except HydraException as error:
        return unreadable(word, error, groups)
    return ""


def unreadable(word: str, error: Exception, groups: Groups) -> str:
    """What to say of a word that Hydra cannot read."""
    name, value = _split(word)
    if name in groups:
        return _wrong_choice(name, value, groups)
    if wanted := what_it_may_be(name):
        half = any(value.count(left) != value.count(right) for left, right in ("[]", "{}", "()"))
        return f"{name}={value}: must be {wanted}" + ("; write it without blanks" if half else "")
    if re.fullmatch(r"[\w.]+", name) and not name.startswith("hydra."):
        return unknown_key(name, value, groups)
    reason = reason_of(error, first_line=True)
    return f"{word}: cannot be read ({reason}); give key=value words, such as trainer.max_epochs=3"


def unknown_key(full: str, value: str | None, groups: Groups) -> str:
    """What to say of a key that is not there.

    Args:
        full: the key.
        value: what it was given; None if that is not known.
        groups: config groups and their choices.
    """
    parent, _, last = full.rpartition(".")
    if full in groups:
        return f"{full}: a config group; choose from {', '.join(groups[full])}, or set its keys as {full}.KEY=VALUE"
    inside = _keys()
    if parent and parent not in inside:
        root = full.partition(".")[0]
        if root in inside:
            return f"{full}: {parent} has no keys of its own"
        known = sorted(set(inside) - {""})
        return f"{full}: unknown config group {root}{suggest(root, known)}; config groups: {', '.join(known)}"
    siblings = sorted({*inside[""], *inside, *groups} - {"", "experiment"}) if not parent else inside[parent]
    near = closest(last, siblings)
    if near is None and (other := _elsewhere(last, groups, slips=not parent)):
        return f"{full}: unknown key (did you mean {other!r}?); type {_typed(other, value, groups)}"
    where = f"; known in {parent}: " if parent else "; known: "
    return f"{full}: unknown key{suggest(last, siblings)}{where}{', '.join(siblings)}"


def unknown_option(option: str, value: str | None, groups: Groups, options: Iterable[str]) -> str:
    """What to say of an option that is none of the ``options``: most are keys, such as ``--epochs``."""
    name = option.lstrip("-").replace("-", "_")
    known = name in all_keys(Config) or name in groups
    other = name if known else _elsewhere(name, groups, slips=False)
    if other is None and (slip := suggest(option, options)):
        return f"{option}: unknown option{slip}"
    other = other or _elsewhere(name, groups)
    if other is None:
        return f"{option}: unknown option; keys are set as key=value, see --help"
    return f"{option}: unknown option (did you mean {other!r}?); type {_typed(other, value, groups)}"


def no_key(word: str, groups: Groups) -> str:
    """What to say of a word without ``=``."""
    text = f"{word}: give key=value words, such as trainer.max_epochs=3"
    fitting = [group for group, choices in groups.items() if word in choices]
    if os.path.isfile(os.path.join(word, "last.ckpt")) or word.endswith(".ckpt"):
        return f"{text}; to resume that run type {shlex.quote(f'ckpt_path={word}')}"
    if os.path.isdir(word):
        return f"{text}; for a folder of photos type {_photos(word)}"
    if len(fitting) == 1:
        return f"{text}; did you mean {fitting[0]}={word}?"
    return f"{text}; see --help"


def _typed(key: str, value: str | None, groups: Groups) -> str:
    if key == "data" and value and value not in groups["data"]:
        return _photos(value)
    without = "auto" if key == "ckpt_path" else "VALUE"
    return shlex.quote(f"{key}={value or without}")


def _elsewhere(word: str, groups: Groups, slips: bool = True) -> str | None:
    """A key of another group, or a group, that ``word`` means."""
    last = [name.rpartition(".")[2] for name in all_keys(Config)]
    alone = {key: name for key, name in zip(last, all_keys(Config), strict=True) if last.count(key) == 1}
    return meant(word, alone, list(groups), slips)


@functools.cache
def _keys() -> dict[str, list[str]]:
    """The names of the keys by their group; those without one are in the group of the empty name."""
    found: dict[str, list[str]] = {}
    for name in all_keys(Config):
        group, _, key = name.rpartition(".")
        found.setdefault(group, []).append(key)
    return found
