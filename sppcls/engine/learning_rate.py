"""Learning rate as a function of the optimiser step.

The rate is set from this function at every step and kept nowhere else, so a resumed run cannot disagree with an
uninterrupted one. The one rule that looks at the error, :class:`Plateau`, has a small state that is checkpointed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sppcls.config.parts import values_of
from sppcls.config.schema_training import SchedulerConfig
from sppcls.errors import ConfigError
from sppcls.registry import build

Rule = Callable[..., float]


def own_rule(config: SchedulerConfig) -> Rule | None:
    """A learning-rate schedule that does not come with sppcls; None for one of ours.

    It is called as ``rule(step=, steps_per_epoch=, epochs=)`` with optimiser steps from 0 and gives the factor of the
    base rate.

    Raises:
        ConfigError: it cannot be made.
    """
    own = values_of(config)
    rule: Rule | None = None if own is None else build("scheduler", own)
    return rule


def lr_factor(
    config: SchedulerConfig,
    step: int,
    steps_per_epoch: int,
    epochs: int,
    drops: int = 0,
    rule: Rule | None = None,
) -> float:
    """What the base learning rate is multiplied by at an optimiser step.

    Args:
        config: the ``scheduler`` group.
        step: optimiser steps taken so far.
        steps_per_epoch: optimiser steps in one epoch.
        epochs: epochs of the whole training.
        drops: drops that the plateau rule has made so far (``name="paper"`` only).
        rule: of :func:`own_rule`.

    Raises:
        ConfigError: an own rule gives something else than a number of at least 0.
    """
    total = steps_per_epoch * epochs
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    if rule is not None:
        factor = rule(step=step, steps_per_epoch=steps_per_epoch, epochs=epochs)
        if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
            raise ConfigError(
                f"scheduler: {config.name} gives {factor!r} at step {step}; a number of at least 0 is needed"
            )
        return float(factor)
    if config.name == "paper":
        return config.factor**drops
    if config.name == "step":
        return config.factor ** sum(step >= share * total for share in config.milestones)
    if config.name == "cosine":
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return config.final_factor + (1 - config.final_factor) * 0.5 * (1 + math.cos(math.pi * done))
    return 1.0


class LearningRate:
    """The rate of every step: the base rate times what the rule of a ``scheduler`` group gives.

    Args:
        base: ``optimizer.lr``.
        config: the ``scheduler`` group.

    Attributes:
        follows_error: whether the rate falls when the validation error stops falling.

    Raises:
        ConfigError: a rule of one's own cannot be made.
    """

    def __init__(self, base: float, config: SchedulerConfig) -> None:
        self.base, self._config, self._rule = base, config, own_rule(config)
        self.follows_error = config.name == "paper"

    def at(self, step: int, steps_per_epoch: int, epochs: int, drops: int = 0) -> float:
        """The base rate at an optimiser step; arguments as of :func:`lr_factor`."""
        return self.base * lr_factor(self._config, step, steps_per_epoch, epochs, drops, self._rule)

    def plateau(self) -> Plateau:
        """What counts the drops of a run."""
        return Plateau(self._config.patience, self._config.max_drops)


class Plateau:
    """Counts the drops of the paper's rule: divide the rate when the error stops falling, twice (sec. 3.1).

    The paper does not say how long it waits; ``patience`` is the number of epochs in a row without a new best error
    that are let pass. With two sizes in turn it should cover a few epochs of each.
    """

    def __init__(self, patience: int, max_drops: int) -> None:
        self.patience, self.max_drops = patience, max_drops
        self.drops, self.best, self.waited = 0, math.inf, 0

    def update(self, error: float) -> None:
        """Take the validation error of one epoch."""
        if error < self.best:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited > self.patience and self.drops < self.max_drops:
            self.drops, self.waited = self.drops + 1, 0

    def state_dict(self) -> dict[str, Any]:
        return {"drops": self.drops, "best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drops, self.best, self.waited = state["drops"], state["best"], state["waited"]
