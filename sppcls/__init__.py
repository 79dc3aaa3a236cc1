"""sppcls: image classification with spatial pyramid pooling, for images of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sppcls._version import __version__

if TYPE_CHECKING:
    from sppcls.comparison import compare
    from sppcls.config.compose import compose
    from sppcls.detection.detector import load_detector
    from sppcls.detection.predict import detect
    from sppcls.detection.train import train_detector
    from sppcls.engine.train import train
    from sppcls.evaluation.evaluate import evaluate
    from sppcls.inference.ensemble import ensemble
    from sppcls.inference.explain.explanation import explain
    from sppcls.inference.export.export import export
    from sppcls.inference.features import extract_features
    from sppcls.inference.predict import predict
    from sppcls.inference.transfer.transfer import transfer
    from sppcls.runs.checkpoint import load_classifier

_WHERE = {
    "compare": "sppcls.comparison",
    "compose": "sppcls.config.compose",
    "detect": "sppcls.detection.predict",
    "ensemble": "sppcls.inference.ensemble",
    "evaluate": "sppcls.evaluation.evaluate",
    "explain": "sppcls.inference.explain.explanation",
    "export": "sppcls.inference.export.export",
    "extract_features": "sppcls.inference.features",
    "load_classifier": "sppcls.runs.checkpoint",
    "load_detector": "sppcls.detection.detector",
    "predict": "sppcls.inference.predict",
    "train": "sppcls.engine.train",
    "train_detector": "sppcls.detection.train",
    "transfer": "sppcls.inference.transfer.transfer",
}

__all__ = [
    "__version__",
    "compare",
    "compose",
    "detect",
    "ensemble",
    "evaluate",
    "explain",
    "export",
    "extract_features",
    "load_classifier",
    "load_detector",
    "predict",
    "train",
    "train_detector",
    "transfer",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import sppcls.nn` needs neither Lightning nor Hydra.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'sppcls' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
