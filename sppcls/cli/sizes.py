"""``sppcls sizes``: the plan of a run."""

from __future__ import annotations

from sppcls.cli.command import command
from sppcls.cli.common import RunWords


@command
def run(given: RunWords) -> int:
    """Print what a config would train, without training: input size, batch, steps and learning rate of every epoch, and the
    bins of every level at each size.

    examples:
      sppcls sizes
      sppcls sizes sizes.sizes=[256,192,128] trainer.max_epochs=6
    """
    config = given.compose()
    # Imported here: it takes seconds, and a wrong config should be reported at once.
    from sppcls.engine.plan import plan

    print(plan(config))
    return 0
