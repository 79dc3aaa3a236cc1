"""What a comparison consists of: groups of runs, the pairs of them that may be compared, and those that may not."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sppcls.comparison.answers import TEST, TEST_BEST, Answers, LabelAnswers, Measure
from sppcls.comparison.folds import Fold, unit
from sppcls.comparison.labels import LONGEST
from sppcls.comparison.runs import Run
from sppcls.errors import ConfigError


@dataclass
class Group:
    """Finished runs that differ in nothing but their seed.

    Attributes:
        label: short name, one of its own.
        values: of the keys that differ between groups.
        runs: one for each seed, by seed.
        levels: what it is in each factor, in a word: ``{"sizes": "single_224", "pyramid": "l6321"}``.
        spelled: all of this in full, where the label or a level is a number instead; else empty.
    """

    label: str
    values: dict[str, Any]
    runs: list[Run]
    levels: dict[str, str]
    spelled: str = ""

    @property
    def seeds(self) -> list[int]:
        """Seeds, ascending."""
        return [run.seed for run in self.runs]

    def run(self, seed: int) -> Run:
        """The run of a seed."""
        return next(run for run in self.runs if run.seed == seed)

    def errors(self, measure: Measure, top: int = 1) -> dict[int, float]:
        """Error in per cent by seed, of the runs that have it; ``top`` is 1 or 5."""
        found = {run.seed: run.errors[measure][top > 1] for run in self.runs if measure in run.errors}
        return {seed: error for seed, error in found.items() if error == error}


@dataclass(eq=False)
class Pair:
    """Two groups that differ in one thing, ``second`` judged against ``first``.

    Without a baseline, first comes the one of fewer sizes or bins, and else that of the earlier runs.
    """

    first: Group
    second: Group
    factor: str
    keys: list[str]

    @property
    def context(self) -> str:
        """What both groups are in the other factors; empty if there are none, or too many to name."""
        text = "-".join(self._others)
        return text if len(text) <= LONGEST else ""

    @property
    def in_levels(self) -> bool:
        """Whether the names of the groups say what they are in the other factors; those of a sweep's cells do not."""
        return bool(self.context) and all(level in self.first.label for level in self._others)

    @property
    def _others(self) -> list[str]:
        return [level for factor, level in self.first.levels.items() if factor != self.factor]


@dataclass
class Refusal:
    """Two groups that are not compared, and why; ``keys`` are those in which they differ, if they are too many."""

    first: Group
    second: Group
    reason: str
    keys: list[str]


@dataclass
class Comparison:
    """What was found.

    Attributes:
        factors: config groups in which the groups differ (``sizes``, ``pyramid``, ...), with the keys.
        groups: in the order of the runs.
        pairs: pairs that may be compared.
        refused: pairs that may not.
        problems: one line for everything that was there and is not used, or only in part.
        unfinished: runs that are not in a group for that.
        content: what a report says of it, once somebody has asked.
    """

    factors: dict[str, list[str]]
    groups: list[Group]
    pairs: list[Pair]
    refused: list[Refusal]
    problems: list[str]
    unfinished: list[Run]
    content: object = field(default=None, init=False, repr=False, compare=False)

    @property
    def runs(self) -> list[Run]:
        """The runs of all groups, one group after the other."""
        return [run for group in self.groups for run in group.runs]

    @cached_property
    def unit(self) -> str:
        """What the repetitions of a run are called: ``seed`` or ``fold``."""
        return unit([run.seed for run in self.runs])

    @cached_property
    def image_count(self) -> int | None:
        """Images behind each group's headline error, those of all folds together; None if groups differ or keep no answers."""
        counts = set()
        for group in self.groups:
            images: dict[int, int] = {}
            for run in group.runs:
                if self.main in run.answers:
                    seed = run.seed.seed if isinstance(run.seed, Fold) else run.seed
                    images[seed] = images.get(seed, 0) + len(run.answers[self.main])
            counts |= set(images.values())
        return counts.pop() if len(counts) == 1 else None

    @cached_property
    def main(self) -> Measure:
        """Where the headline error is measured: the main measure of most runs."""
        mains = [run.main for run in self.runs]
        return max(dict.fromkeys(mains), key=mains.count)

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """1 and, with more than five classes, 5: with fewer every top-5 error is 0 by definition."""
        top5 = (e for group in self.groups for m in self.measures for e in group.errors(m, 5).values())
        return (1, 5) if any(error > 0 for error in top5) else (1,)

    @cached_property
    def measures(self) -> list[Measure]:
        """Everything that any run has an error for: the main one first, then the same view at other sizes; those on the
        test images last."""
        found = {measure for run in self.runs for measure in run.errors}

        def order(measure: Measure) -> tuple[str, bool, bool, str, int, str]:
            main = (measure.protocol, measure.size) != (self.main.protocol, self.main.size)
            other = measure.protocol != self.main.protocol
            name = measure.protocol if other else ""
            return measure.images, main, other, name, measure.side, measure.size

        return sorted(found, key=order)

    @property
    def validated(self) -> list[Measure]:
        """Those of :attr:`measures` that the validation during training has, the main one first."""
        return [measure for measure in self.measures if any(run.column(measure) for run in self.runs)]

    @property
    def test(self) -> list[Measure]:
        """Where the headline error on the test images is measured: after the last epoch and, second, after the best one.

        As the main measure is, if it was tested so; else by the first of the protocols. Empty without test images.
        """
        first = {m.images: m for m in reversed(self.measures)}
        return [first[images] for images in (TEST, TEST_BEST) if images in first]

    @cached_property
    def guessing(self) -> float | None:
        """Error in per cent of always saying the most frequent class, or of the same scores for every image where these have
        several labels; None where that says nothing."""
        answers = (run.answers.get(self.main) for run in self.runs)
        known = (found.guessing for found in answers if isinstance(found, Answers | LabelAnswers))
        return next(known, None) or None

    def name_of(self, measure: Measure, top: int | None = None) -> str:
        """What figures are called everywhere: ``val_224``, or with ``top`` 1 or 5 ``val_224/top1_error``."""
        views = {run.training_view for run in self.runs}
        name = measure.named(views.pop() if len(views) == 1 else "")
        return name if top is None else f"{name}/{measure.figure(top)}"

    def group(self, label: str) -> Group:
        """A group by its label.

        Raises:
            ConfigError: there is none of that name.
        """
        for group in self.groups:
            if group.label == label:
                return group
        raise ConfigError(
            f"--baseline {label}: no such group; choose from {', '.join(g.label for g in self.groups)}"
        )
