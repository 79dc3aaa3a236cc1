"""``--data PLACE``, the short spelling of ``data=folder data.root=PLACE`` that all commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence

from sppcls.config.grammar import hydra_word
from sppcls.errors import ConfigError

_KEY_AND_VALUE = re.compile(r"[A-Za-z_][\w.]*=")


def words_of_data(place: str, choices: Collection[str]) -> list[str]:
    """What ``--data PLACE`` stands for: a folder of photos, or one of ``choices`` of the config group ``data``.

    ``KEY=VALUE`` stays as it is.
    """
    if _KEY_AND_VALUE.match(place):
        return [place]
    if place in choices:
        return [f"data={place}"]
    return ["data=folder", hydra_word("data.root", os.path.expanduser(place))]


def with_data_words(words: Sequence[str], choices: Collection[str]) -> list[str]:
    """Words of a command line with ``--data PLACE`` written out.

    Raises:
        ConfigError: ``--data`` without a value.
    """
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option == "--data":
            place = value if equals else next(rest, "")
            if not place or place.startswith("-"):
                raise ConfigError("--data: name a folder of photos, or a data set such as shapes")
            found += words_of_data(place, choices)
        elif word == "--":
            return [*found, word, *rest]
        else:
            found.append(word)
    return found
