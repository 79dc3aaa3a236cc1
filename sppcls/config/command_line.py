"""The words of a Hydra command line, read in any order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from sppcls.config.compose import group_choices
from sppcls.config.data_word import with_data_words
from sppcls.config.grammar import in_grammar
from sppcls.config.mistakes import no_key, unknown_option
from sppcls.errors import ConfigError

# Hydra's command line: options that show or do something else than one run, of which there may be one; and its others.
_ONE_OF = {"--run": "-r", "--multirun": "-m", "--cfg": "-c", "--info": "-i", "--shell-completion": "-sc"}
_OTHERS = {"--config-path": "-cp", "--config-name": "-cn", "--config-dir": "-cd", "--package": "-p",
           "--experimental-rerun": "", "--hydra-help": "", "--resolve": ""}  # fmt: skip
_LONG = {short: long for long, short in {**_ONE_OF, **_OTHERS}.items() if short}
_WITH_VALUE = ("--config-path", "--config-name", "--config-dir", "--cfg", "--package", "--experimental-rerun")
OPTIONS = ("--help", "--version", "--data", *_ONE_OF, *_OTHERS)
_INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


class CommandLine(NamedTuple):
    """The words of a Hydra command line, whatever their order.

    Attributes:
        overrides: its ``key=value`` words, as they were typed.
        options: Hydra's options by their long names, with their values; of one without, it is empty.
    """

    overrides: list[str]
    options: dict[str, str]

    @property
    def config_dir(self) -> str | None:
        """The folder with more configs, if one is named."""
        return self.options.get("--config-dir")

    def for_hydra(self) -> list[str]:
        """The same for Hydra's parser, which takes words in its grammar, and options before them."""
        options = [part for option, value in self.options.items() for part in (option, value) if part]
        return [*options, *in_grammar(self.overrides)]


def read_command_line(argv: Sequence[str]) -> CommandLine:
    """Tell words from options, with ``--data PLACE`` written out; after ``--`` all are words.

    Raises:
        ConfigError: an option that Hydra does not have, or a word that sets no key.
    """
    overrides: list[str] = []
    options: dict[str, str] = {}
    words = with_data_words(argv, group_choices()["data"])
    only_words = False
    while words:
        word = words.pop(0)
        if only_words or not word.startswith("-"):
            if "=" not in word and not word.startswith("~"):
                raise ConfigError(no_key(word, group_choices()))
            overrides.append(word)
            continue
        if word == "--":
            only_words = True
            continue
        option, equals, value = word.partition("=")
        long = _LONG.get(option, option)
        following = words[0] if words and not words[0].startswith("-") else ""
        if long in _WITH_VALUE:
            if not equals:
                value = following
                del words[: bool(following)]
            if not value or value.startswith("-"):
                raise ConfigError(f"{option}: needs a value; see --help")
        elif long == "--info":
            if not equals and following in _INFOS:
                value = words.pop(0)
            value = value or "all"
        elif long not in _ONE_OF and long not in _OTHERS:
            if not equals and "=" not in following:
                value = following
            raise ConfigError(unknown_option(option, value, group_choices(), OPTIONS))
        if long == "--config-dir":
            value = os.path.expanduser(value)
        options[long] = value
    chosen = [option for option in options if option in _ONE_OF]
    if len(chosen) > 1:
        raise ConfigError(f"{' '.join(chosen)}: one of them at a time")
    return CommandLine(overrides, options)
