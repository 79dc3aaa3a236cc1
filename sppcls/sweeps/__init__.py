"""Many runs from one command: which jobs there are, and each of them in a process of its own."""

from typing import TYPE_CHECKING

from sppcls._util.lazy import public

if TYPE_CHECKING:
    from sppcls.sweeps.launch import run_sweep as run_sweep
    from sppcls.sweeps.plan import Job as Job
    from sppcls.sweeps.plan import SweepPlan as SweepPlan
    from sppcls.sweeps.plan import plan_sweep as plan_sweep

__getattr__, __dir__ = public(__name__)
