"""Public names of a package that are imported when they are asked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

_IMPORT = re.compile(r"^    from (\S+) import (\w+) as \2$", re.MULTILINE)


def public(package: str, *there: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package, so that importing it imports none of its modules.

    Its public names are those that it imports under ``if TYPE_CHECKING:`` as themselves, and ``__all__`` is a list of them.

    Args:
        package: its ``__name__``.
        there: further public names, which need no import.
    """

    @cache
    def modules() -> dict[str, str]:
        source = sys.modules[package].__spec__.loader.get_source(package)  # type: ignore[union-attr]
        if source is None:
            raise ImportError(f"{package}: installed without its .py files, which its names are read from")
        return {name: module for module, name in _IMPORT.findall(source)}

    def names() -> list[str]:
        return sorted([*there, *modules()])

    def get(name: str) -> Any:
        if name == "__all__":
            return names()
        if not name.startswith("__") and name in modules():
            return getattr(import_module(modules()[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, names
