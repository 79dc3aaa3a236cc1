"""What a docstring says of the arguments."""

from __future__ import annotations

import inspect
import re
from typing import NamedTuple

_SECTION = re.compile(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^[ \t]{2,4}\*{0,2}(\w+)(?: \(([^\n]*?)\))?:[ \t]*(.+(?:\n[ \t]{5,}.+)*)", re.MULTILINE)


class Docstring(NamedTuple):
    """A docstring with its section ``Args:`` taken out.

    Attributes:
        text: what stands before the section.
        arguments: the hint in brackets, or an empty text, and the meaning of each, by name.
        rest: what follows the section.
    """

    text: str
    arguments: dict[str, tuple[str, str]]
    rest: str


def read_docstring(text: str | None) -> Docstring:
    """The parts of a docstring in Google's style."""
    parts = _SECTION.split(inspect.cleandoc(text or ""), maxsplit=1)
    before, section, rest = [*parts, "", ""][:3]
    entries = {name: (hint, " ".join(said.split())) for name, hint, said in _ENTRY.findall(section)}
    return Docstring(before.rstrip(), entries, rest.strip("\n"))
