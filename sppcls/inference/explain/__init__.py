"""What the pyramid saw in a photo (:func:`sppcls.explain`)."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.inference.explain.attribution import Attribution as Attribution
    from sppcls.inference.explain.attribution import LevelSeen as LevelSeen
    from sppcls.inference.explain.explanation import Explanation as Explanation
    from sppcls.inference.explain.explanation import explain_input as explain_input
    from sppcls.inference.explain.levels import LevelErrors as LevelErrors
    from sppcls.inference.explain.levels import WeightNorm as WeightNorm
    from sppcls.inference.explain.levels import level_errors as level_errors
    from sppcls.inference.explain.levels import weight_norms as weight_norms

__all__, __getattr__, __dir__ = public(
    __name__,
    {
        "sppcls.inference.explain.attribution": ["Attribution", "LevelSeen"],
        "sppcls.inference.explain.explanation": ["Explanation", "explain_input"],
        "sppcls.inference.explain.levels": ["LevelErrors", "WeightNorm", "level_errors", "weight_norms"],
    },
)
