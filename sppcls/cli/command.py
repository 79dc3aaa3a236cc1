"""Commands made from functions: the parameters are the arguments, the docstring is the help.

A positional parameter is a word and a keyword-only one an option. ``bool`` is a switch, ``tuple[str, ...]`` takes several
words, ``Literal`` names the choices, and a dataclass stands for the parameters of its own. Its ``prepared``, if there is
one, gets the words before they are read, and its ``unknown`` says what is wrong with an option that there is not.
``Annotated`` says how a word is read or, by :class:`Check`, what is refused once all words have been read.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from sppcls._util.docstring import read_docstring
from sppcls._util.near import choose_from, suggest
from sppcls.cli.layout import help_columns, laid_out
from sppcls.errors import ConfigError

_ABSENT = inspect.Parameter.empty


@dataclass(frozen=True)
class Check:
    """In an annotation: a function that raises an error for a value that cannot be used."""

    of: Callable[[str], object]


def command(function: Callable[..., int]) -> Callable[[list[str]], int]:
    """The function as the ``run`` of a module of ``sppcls.cli``, which takes the words of a command line."""

    @functools.wraps(function)
    def run(words: list[str]) -> int:
        parser = Parser(function)
        for _, kind, _ in _parameters(function):
            words = getattr(kind, "prepared", list)(words)
        parser.check_options(words)
        # With options and other words in any order.
        values = vars(parser.parse_intermixed_args(words))
        return function(**_arguments(function, values))

    return run


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Takes description and notes as they are laid out already."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=help_columns())


class Parser(argparse.ArgumentParser):
    """The parser of a function, whose complaints are one line, like every other error of the program."""

    def __init__(self, function: Callable[..., Any]) -> None:
        doc = read_docstring(function.__doc__)
        super().__init__(
            prog=f"sppcls {function.__module__.removeprefix('sppcls.cli.').replace('_', ' ')}",
            description=laid_out(doc.text),
            epilog=laid_out(doc.rest),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self._usage: list[str] = []
        self.unknown: Callable[[str, str, Iterable[str]], str] = _unknown
        self._add_parameters(function, self)
        self.usage = " ".join([self.prog, *self._usage, "[options]"]).replace("%", "%%")

    def error(self, message: str) -> NoReturn:
        for pattern, plain in _PLAIN.items():
            message = re.sub(pattern, plain, message)
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")

    def check_options(self, words: Sequence[str]) -> None:
        """Refuse an option that there is not, before argparse says what is missing.

        Raises:
            ConfigError: names the option, and the one that it is a slip of.
        """
        known = self._option_string_actions
        typed = [*takewhile(lambda word: word != "--", words), ""]
        for word, following in pairwise(typed):
            option, _, value = word.partition("=")
            if re.fullmatch(r"--?[A-Za-z][\w-]*", option) and option not in known:
                self.error(self.unknown(option, value or following * (following[:1] != "-"), known))

    def _add_parameters(self, function: Callable[..., Any], group: argparse._ActionsContainer) -> None:
        said: dict[str, tuple[str, str]] = {}
        for source in reversed(getattr(function, "__mro__", [function])):
            said |= read_docstring(source.__doc__).arguments
        for parameter, kind, extra in _parameters(function):
            if is_dataclass(kind):
                self.unknown = getattr(kind, "unknown", self.unknown)
                title = read_docstring(kind.__doc__).text.rstrip(".")
                self._add_parameters(kind, self.add_argument_group(title))  # type: ignore[arg-type]
            else:
                self._add_parameter(group, parameter, kind, extra, *said[parameter.name])

    def _add_parameter(
        self,
        group: argparse._ActionsContainer,
        parameter: inspect.Parameter,
        kind: Any,
        extra: tuple[Any, ...],
        hint: str,
        said: str,
    ) -> None:
        default, several = parameter.default, _is_several(kind)
        option = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        optional = default is not _ABSENT
        if optional and not (default is None or default is False or several or said.endswith(")")):
            said = f"{said} ({default:g})" if isinstance(default, float) else f"{said} ({default})"
        settings: dict[str, Any] = {"help": said.lstrip().replace("%", "%%")}
        if kind is bool:
            settings["action"] = "store_true"
        else:
            one = get_args(kind)[0] if several else kind
            usual = one if one in (int, float, Path) else str
            settings["type"] = next((read for read in extra if not isinstance(read, Check)), usual)
            settings["default"] = default if optional and not several else None
            if get_origin(kind) is Literal:
                settings |= {"choices": get_args(kind), "type": functools.partial(_one_of, get_args(kind))}
            if several:
                settings["nargs"] = "*" if optional and not option else "+"
        metavar = " ".join(word for word in hint.split() if not word.startswith("-"))
        if metavar:
            settings["metavar"] = metavar
        if option:
            settings |= {"dest": parameter.name, "required": not optional}
            names = ["--" + parameter.name.rstrip("_").replace("_", "-")]
            names += [word for word in hint.split() if word.startswith("-")]
            group.add_argument(*names, **settings)
            self._usage += [] if optional else [f"{names[0]} {metavar}"]
            return
        if optional and not several:
            settings["nargs"] = "?"
        group.add_argument(parameter.name, **settings)
        shown = f"{metavar} ..." if several else metavar
        self._usage.append(f"[{shown}]" if optional else shown)


# What argparse says, as every other error of the program is put.
_PLAIN = {
    "^argument (.+): expected (one|at least one) argument$": r"\1: needs a value",
    "^argument (.+): invalid (?:int|float) value: '(.*)'$": r"\1 \2: must be a number",
    "^argument ([^:]+): ": r"\1 ",
    "^the following arguments are required: (.+)$": r"\1: missing",
    "^unrecognized arguments: (.+)$": r"\1: unexpected",
}


def _one_of(choices: Sequence[str], word: str) -> str:
    if word not in choices:
        raise argparse.ArgumentTypeError(f"{word}: {choose_from(word, choices)}")
    return word


def _unknown(option: str, value: str, known: Iterable[str]) -> str:
    return f"{option}: unknown option{suggest(option, known)}"


def _is_several(kind: Any) -> bool:
    return get_origin(kind) is tuple and get_args(kind)[-1] is ...


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any, tuple[Any, ...]]]:
    """Each parameter with its type, which may be ``None`` besides, and what ``Annotated`` adds to it."""
    hints = get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        kind, extra = hints[parameter.name], list[Any]()
        if type(None) in get_args(kind):
            kind = next(one for one in get_args(kind) if one is not type(None))
        if get_origin(kind) is Annotated:
            kind, *extra = get_args(kind)
        yield parameter, kind, tuple(extra)


def _arguments(function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """The values that were read as the arguments of a function, after its checks."""
    found: dict[str, Any] = {}
    for parameter, kind, extra in _parameters(function):
        if is_dataclass(kind):
            found[parameter.name] = kind(**_arguments(kind, values))  # type: ignore[arg-type, operator]
            continue
        value = values[parameter.name]
        found[parameter.name] = value = tuple(value or ()) if _is_several(kind) else value
        for check in (one for one in extra if isinstance(one, Check) and value is not None):
            for one in value if isinstance(value, tuple) else [value]:
                check.of(one)
    return found
