"""Looking for good values of config keys with Optuna: the space, the trials, what came of them."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.sweeps.search.space import SearchPlan as SearchPlan
    from sppcls.sweeps.search.space import plan_search as plan_search
    from sppcls.sweeps.search.study import run_search as run_search

__getattr__, __dir__ = public(__name__)
