"""sppcls: image classification with spatial pyramid pooling, for images of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sppcls.composition import compose
    from sppcls.engine.checkpoint import load_classifier
    from sppcls.training import train

_WHERE = {
    "compose": "sppcls.composition",
    "load_classifier": "sppcls.engine.checkpoint",
    "train": "sppcls.training",
}

__all__ = ["__version__", "compose", "load_classifier", "train"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import sppcls.nn` needs neither Lightning nor Hydra.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'sppcls' has no attribute {name!r}")
