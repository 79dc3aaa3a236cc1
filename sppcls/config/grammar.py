"""What a person types after ``key=``, put into Hydra's grammar before Hydra sees it.

A path or a name is text: it may hold anything that a file system or a shell hands over (``photos (1)``, ``a=b``, ``#1``,
``it's``), and Hydra's grammar reads much of that as its own. Every key of the schema that is text without a list of
choices is such a key.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence

from sppcls.config.key import all_keys
from sppcls.config.schema import Config
from sppcls.errors import ConfigError
from sppcls.registry import DOORS, TARGET, has_plugins, is_own

# A whole value in quotes, as Hydra's grammar has them: such a value is Hydra's to read.
_IN_QUOTES = r'"(?:[^"\\]|\\.)*"|' r"'(?:[^'\\]|\\.)*'"
_QUOTED = re.compile(_IN_QUOTES, re.DOTALL)

# One of several values between commas.
_VALUE = re.compile(rf"\s*({_IN_QUOTES})\s*(?=,|\Z)|([^,]*)", re.DOTALL)

# Hydra's functions that give several values.
_FUNCTION = re.compile(r"(choice|shuffle|sort|glob)\(.*\)", re.DOTALL)


@functools.cache
def text_keys() -> frozenset[str]:
    """The keys whose values are paths and names, such as ``data.root`` and ``run_name``."""
    texts = ("str", "str | None")
    return frozenset(
        name for name, spec in all_keys(Config).items() if spec.type in texts and not spec.metadata["choices"]
    )


def in_grammar(words: Sequence[str], several: bool = False) -> list[str]:
    """Words as Hydra's grammar takes them. Words that are in it already, such as those made here, stay as they are.

    Args:
        words: ``key=value`` words as they were typed.
        several: whether commas separate values, as in a sweep; a value with a comma then stands in quotes, unless all
            of the text is the path of something that exists.

    Raises:
        ConfigError: a value is ``???``, by which OmegaConf means that there is none.
    """
    bare = [] if several else [group for group in DOORS if _names_own(group, words)]
    added = [f"++{w}" if w.partition(".")[0] in bare and "=" in w else w for w in words]
    return [*(f"~{group}" for group in bare), *(_word(word, several) for word in added)]


def _names_own(group: str, words: Sequence[str]) -> bool:
    """Whether words put a part of one's own where the group's default would leave its keys."""
    given = {word.partition("=")[0].lstrip("+"): word.partition("=")[2] for word in words}
    if group in given or f"~{group}" in words:
        return False
    target = given.get(f"{group}.{TARGET}")
    name = given.get(f"{group}.{DOORS[group].name_key}", given.get(f"{group}.name"))
    return target is not None or (name is not None and has_plugins() and is_own(group, {"name": name}))


def _word(word: str, several: bool) -> str:
    key, equals, value = word.partition("=")
    if key.lstrip("+") == "plugins" and value and value != "null" and not value.startswith(("[", "'", '"')):
        return f"{key}=[{value}]"
    if not equals or key.lstrip("+") not in text_keys():
        # A parameter of a part of one's own is in no file until it is set.
        return f"++{word}" if equals and _is_parameter(key) else word
    if "???" in (part.strip(" \"'") for part in (value.split(",") if several else [value])):
        raise ConfigError(f"{word}: ??? stands for a missing value; a file or folder of that name is ./???")
    return f"{key}={_values(value) if several else _text(value)}"


def _is_parameter(key: str) -> bool:
    group, _, name = key.partition(".")
    mappings = [known for known, spec in all_keys(Config).items() if str(spec.type).startswith("dict")]
    if name and any(f"{key}.".startswith(f"{mapping}.") for mapping in mappings):
        return True  # below a mapping are keys of a person's choice
    return group in DOORS and bool(name) and key not in all_keys(Config) and has_plugins()


def _values(value: str) -> str:
    if "," not in value or os.path.lexists(value):
        return _text(value)
    if _FUNCTION.fullmatch(value):
        return value
    parts = []
    start = 0
    while start <= len(value):
        found = _VALUE.match(value, start)
        assert found is not None
        parts.append(found[1] or _text(found[2].strip()))
        start = found.end() + 1
    return ",".join(parts)


def _text(value: str) -> str:
    """The value of a text key in quotes; null, and what is in quotes of Hydra's grammar, stays as it is."""
    if not value or value.lower() == "null" or _QUOTED.fullmatch(value):
        return value
    if os.path.lexists(value):
        return in_quotes(literal(value))
    value = os.path.expandvars(os.path.expanduser(value))
    closed = value.rfind("}") + 1  # what OmegaConf looks up ends there; after it, ${ is text
    return in_quotes(value[:closed] + literal(value[closed:]))


def literal(text: str) -> str:
    """A text of which OmegaConf looks nothing up: ``${`` is escaped."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def in_quotes(text: str) -> str:
    """A text in double quotes of Hydra's grammar; what it says in ``${...}`` is still looked up."""
    # A backslash is one, unless it stands before a quote.
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), text) + '"'


def hydra_word(key: str, value: object) -> str:
    """``key=value`` with the quotes that Hydra's grammar asks for."""
    text = str(value)
    if not isinstance(value, str | os.PathLike) or _PLAIN.fullmatch(text):
        return f"{key}={text}"
    return f"{key}={in_quotes(literal(text))}"


# Text that Hydra takes for nothing else, and that no reader takes for a home folder or a variable.
_PLAIN = re.compile(
    r"(?!(?:null|true|false|nan|inf)\Z)(?:\.{0,2}/|[a-z_])[\w./@%+-]*", re.ASCII | re.IGNORECASE
)
