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

__getattr__, __dir__ = public(__name__)
