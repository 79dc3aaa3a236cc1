"""Whether values can be trained, asked before any training."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from sppcls._util.figures import FIGURES, ONE_LABEL
from sppcls.config.build import val_sizes
from sppcls.config.compose import compose
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config
from sppcls.data import size_label
from sppcls.engine.preflight import RunChecks
from sppcls.errors import ConfigError, DataError, SppclsError
from sppcls.sweeps.search.parameters import Choices
from sppcls.sweeps.search.space import SearchPlan

# How many draws of the other values a value is tried with before it is called impossible.
_TRIES = 20


class SpaceCheck:
    """Checks values of one search; networks and images are looked at once.

    Attributes:
        plan: of the search; its objective is known once a config was checked.
    """

    def __init__(self, plan: SearchPlan) -> None:
        self.plan = plan
        self._checks = RunChecks()
        self._kind = ONE_LABEL
        self._measured_at: str | None = None

    def config(self, values: Mapping[str, Any]) -> Config:
        """The checked config of some drawn values.

        Raises:
            SppclsError: why they cannot be trained, or compared with the others.
        """
        config = self._trainable(self.plan.trial_words(values))
        labels = [size_label(size) for size in val_sizes(config, size_schedule(config))]
        names = ["val", *(f"val_{label}" for label in labels)]  # the first, too, is the main size
        small = [figure for figure in self._kind.validation if not FIGURES[figure].more_is_better]
        columns = [f"{name}/{figure}" for name in names for figure in small]
        objective = self.plan.objective
        if objective not in columns:
            raise ConfigError(f"objective={objective}: choose from {', '.join(columns)}")
        size = [labels[0], *labels][names.index(objective.partition("/")[0])]
        if self._measured_at is None:
            self._measured_at = size
        elif size != self._measured_at:
            raise ConfigError(
                f"{objective} would be measured at {size} here and at {self._measured_at} in other trials; "
                f"add sizes.val_sizes=[{self._measured_at}]"
            )
        return config

    def space(self) -> None:
        """Look at every choice and at both ends of every range.

        Raises:
            SppclsError: a value that no draw of the other values makes possible, with its key.
        """
        nothing_drawn = self._fault_of_constant()
        params = self.plan.params
        ends = {
            name: list(what.values)
            if isinstance(what, Choices)
            else [_whole(what, what.low), _whole(what, what.high)]
            for name, what in params.items()
        }
        draw = random.Random(0)
        for name, values in ends.items():
            for value in values:
                others = [{key: possible[0] for key, possible in ends.items()}]
                others += [
                    {key: draw.choice(possible) for key, possible in ends.items()} for _ in range(_TRIES)
                ]
                fault = self._first_fault([{**other, name: value} for other in others])
                if fault is None:
                    continue
                text = str(fault)
                if nothing_drawn is None or text != str(nothing_drawn):
                    text = text if text.startswith(name) else f"{name}={value}: {text}"
                raise type(fault)(f"{text}; no trial was started")

    def _trainable(self, words: list[str]) -> Config:
        config = compose(words, self.plan.config_dir)
        self._kind = self._checks.check(config)
        self.plan = self.plan.of_kind(self._kind)
        return config

    def _fault_of_constant(self) -> SppclsError | None:
        """What is wrong without any drawn value; where it is the images, nothing drawn will mend it."""
        try:
            self._trainable(self.plan.constant)
        except DataError:
            raise
        except SppclsError as error:
            return error
        return None

    def _first_fault(self, candidates: list[dict[str, Any]]) -> SppclsError | None:
        """None if one of them can be trained."""
        first = None
        seen = []
        for values in candidates:
            if values in seen:
                continue
            seen.append(values)
            try:
                self.config(values)
            except SppclsError as error:
                first = first or error
                continue
            return None
        return first


def _whole(what: Any, value: float) -> float | int:
    return int(value) if what.whole else value
