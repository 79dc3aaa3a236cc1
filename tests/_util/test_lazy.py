"""Public names of packages: those that they import under TYPE_CHECKING, and nothing is imported before it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import sppcls

ROOT = Path(sppcls.__file__).parent
LAZY = sorted(
    path for path in ROOT.rglob("__init__.py") if "public(__name__" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("path", LAZY, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_the_names_are_those_that_the_syntax_tree_has(path: Path) -> None:
    package = import_module(".".join(["sppcls", *path.parent.relative_to(ROOT).parts]))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    found = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    there = ["__version__"] if package is sppcls else []
    assert package.__all__ == dir(package) == sorted([*found, *there])
    for name, module in found.items():
        assert getattr(package, name) is getattr(import_module(str(module)), name)
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_importing_a_package_imports_none_of_its_modules() -> None:
    code = (
        "import sys, sppcls, sppcls.nn, sppcls.engine, sppcls.runs; print(sppcls.nn.__all__[0]);"
        "from sppcls.config import *; print(as_dict.__name__);"
        "print(sorted({'torch', 'hydra', 'pytorch_lightning', 'sppcls.nn.spp'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["BACKBONES", "as_dict", "[]"]
