"""What the pyramid saw in a photo (:func:`sppcls.explain`)."""

from sppcls.inference.explain.attribution import Attribution, LevelSeen
from sppcls.inference.explain.explanation import Explanation, explain_input
from sppcls.inference.explain.levels import LevelErrors, WeightNorm, level_errors, weight_norms

__all__ = [
    "Attribution", "Explanation", "LevelErrors", "LevelSeen", "WeightNorm", "explain_input", "level_errors",
    "weight_norms",
]  # fmt: skip
