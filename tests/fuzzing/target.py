"""A target of fuzzing: inputs, and a check that must hold for every one of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy


@dataclass
class Target:
    """What is tried, and how.

    Attributes:
        inputs: where examples come from.
        check: raises unless the example is handled as it should be; returns a word for how, which is counted.
        seen: how many examples there were of each outcome.
    """

    inputs: SearchStrategy[Any]
    check: Callable[[Any], str]
    seen: Counter[str] = field(default_factory=Counter)

    def few(self, examples: int) -> None:
        """The same examples in every run."""
        self._run(examples, derandomize=True)

    def many(self, minutes: float, at_once: int = 100) -> None:
        """New examples until the time is up; stops at the first that fails, made as small as it can be."""
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            self._run(at_once, end=end)

    def _run(self, examples: int, derandomize: bool = False, end: float | None = None) -> None:
        @settings(
            max_examples=examples,
            derandomize=derandomize,
            database=None,
            deadline=None,
            phases=(Phase.generate,) if derandomize else (Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(self.inputs)
        def one(example: Any) -> None:
            if end is not None and time.monotonic() > end:
                return
            self.seen[self.check(example)] += 1

        one()

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {word}" for word, count in sorted(self.seen.items()))
        return f"{sum(self.seen.values())} examples: {outcomes}"
