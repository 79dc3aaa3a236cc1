"""``sppcls sizes``: the plan of a run."""

from __future__ import annotations

from sppcls.cli.command import command
from sppcls.cli.common import RunWords


@command
def run(given: RunWords) -> int:
    """Print input size, batch, steps and learning rate of every epoch, and the bins of every level at each size, without
    training."""
    config = given.compose()
    # Imported here: it takes seconds, and a wrong config should be reported at once.
    from sppcls.engine.plan import plan

    print(plan(config))
    return 0
