"""Griffe extension: the Sphinx roles of docstrings become links to the reference, or code."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import griffe

# Page of the reference to the module whose public names it lists.
PAGES = {
    "sppcls": "sppcls",
    "nn": "sppcls.nn",
    "data": "sppcls.data",
    "shards": "sppcls.data.shards",
    "config_python": "sppcls.config",
    "runs": "sppcls.runs",
    "engine": "sppcls.engine",
    "evaluation": "sppcls.evaluation",
    "inference": "sppcls.inference",
    "explain": "sppcls.inference.explain",
    "export": "sppcls.inference.export",
    "transfer": "sppcls.inference.transfer",
    "detection": "sppcls.detection",
    "sweeps": "sppcls.sweeps",
    "search": "sppcls.sweeps.search",
    "comparison": "sppcls.comparison",
    "report": "sppcls.comparison.report",
    "board": "sppcls.comparison.board",
    "registry": "sppcls.registry",
    "errors": "sppcls.errors",
}

_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`~?([\w.]+)`")


def public_names() -> dict[str, str]:
    """Short name to full name of every public function and class."""
    return {
        name: f"{module}.{name}"
        for module in reversed(PAGES.values())
        for name in import_module(module).__all__
        if callable(getattr(import_module(module), name))
    }


class Docstrings(griffe.Extension):
    """Rewrites the roles as docstrings are read."""

    def __init__(self) -> None:
        super().__init__()
        self._names = public_names()

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(self._reference, obj.docstring.value)

    def _reference(self, match: re.Match[str]) -> str:
        short = match[1].rpartition(".")[2]
        return f"[`{short}`][{self._names[short]}]" if short in self._names else f"`{short}`"
