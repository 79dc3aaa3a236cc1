"""What the runs show about each pair of groups, in numbers and in a plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sppcls.comparison.answers import Measure
from sppcls.comparison.groups import Comparison, Pair
from sppcls.comparison.statistics import (
    LEVEL,
    McNemar,
    SeedDifference,
    bootstrap_over_images,
    holm,
    mcnemar,
    paired_over_seeds,
)


class Verdict(StrEnum):
    """What may be claimed."""

    SHOWN = "difference shown"
    NOT_SHOWN = "no difference shown"
    NETWORKS = "these two networks differ"


@dataclass(frozen=True)
class Finding:
    """A pair of groups under one measure.

    Attributes:
        pair, measure, top: what is compared; ``top`` is 1 or 5.
        seeds: the difference over the seeds that both groups have.
        tests: McNemar's test for each of these seeds, where both kept their answers.
        images: number of images of these answers; 0 without.
        interval: 95 % bootstrap interval over the images, errors averaged over the seeds; None without answers.
        p: of the test that decides: paired t over seeds, or McNemar's where there is one seed; None without a test.
        corrected: ``p`` corrected for the number of findings that it stands among (Holm).
    """

    pair: Pair
    measure: Measure
    top: int
    seeds: SeedDifference
    tests: dict[int, McNemar] = field(default_factory=dict)
    images: int = 0
    interval: tuple[float, float] | None = None
    p: float | None = None
    corrected: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Shown only if the seeds say so after the correction, and so do the images where they are known."""
        if self.corrected is None or self.corrected > LEVEL:
            return Verdict.NOT_SHOWN
        if len(self.seeds.by_seed) == 1:
            return Verdict.NETWORKS
        return Verdict.SHOWN if _excludes_zero(self.interval) else Verdict.NOT_SHOWN

    def __str__(self) -> str:
        return f"{self.subject}: {self.verdict}. {self.grounds}"

    @property
    def subject(self) -> str:
        """Who is compared with whom, and on what."""
        names = f"{self.pair.second.label} against {self.pair.first.label} ({self.pair.factor})"
        return f"{names}, top-{self.top} error, {self.measure}"

    @property
    def _change(self) -> str:
        mean = self.seeds.mean
        better = f" (lower for {(self.pair.first if mean > 0 else self.pair.second).label})" if mean else ""
        return f"{signed(mean)} points{better}"

    @property
    def grounds(self) -> str:
        """What the verdict rests on."""
        seeds = list(self.seeds.by_seed)
        if len(seeds) == 1:
            return self._one_seed(seeds[0])
        text = f"{self._change} over {len(seeds)} seeds"
        if self.seeds.low is None or self.seeds.high is None:
            return f"{text}, the same for each, so there is no spread to judge it by"
        text += f", 95 % interval {span(self.seeds.low, self.seeds.high)}"
        if self.interval is None:
            text += (
                "; the answers for each image were not kept for all of these runs, so the seeds alone decide"
            )
        else:
            text += f"; over the {self.images} images {span(*self.interval)}"
        if self.p is not None and self.p <= LEVEL and (self.corrected or 0) > LEVEL:
            text += f"; p = {self.p:.3f}, but {self.corrected:.3f} as one of several comparisons"
        return text

    def _one_seed(self, seed: int) -> str:
        text = f"{self._change} with one seed ({seed}), so there is no interval over seeds"
        test = self.tests.get(seed)
        if test is None:
            return f"{text}, and no answers were kept for both: nothing can be said of this difference"
        text += (
            f"; of {self.images} images only the first got {test.only_first} right and only the second "
            f"{test.only_second} (McNemar: {p_text(test.p)})"
        )
        if self.corrected is not None and test.p <= LEVEL < self.corrected:
            text += f", {p_text(self.corrected)} as one of several comparisons"
        return f"{text}; this says nothing about another training run"


def findings(comparison: Comparison, measure: Measure | None = None, top: int = 1) -> list[Finding]:
    """What each pair shows under a measure, corrected for the number of pairs.

    Args:
        comparison: from :func:`sppcls.compare`.
        measure: protocol and size; None: the main one.
        top: 1 or 5.
    """
    found = [_find(pair, measure or comparison.main, top) for pair in comparison.pairs]
    return correct([finding for finding in found if finding is not None])


def correct(found: list[Finding]) -> list[Finding]:
    """The same findings, corrected for being so many; what they were corrected for before does not count."""
    corrected = iter(holm([finding.p for finding in found if finding.p is not None]))
    return [
        finding if finding.p is None else replace(finding, corrected=next(corrected)) for finding in found
    ]


def _find(pair: Pair, measure: Measure, top: int) -> Finding | None:
    seeds = paired_over_seeds(pair.first.errors(measure, top), pair.second.errors(measure, top))
    if seeds is None:
        return None
    both = [
        (seed, pair.first.run(seed).answers.get(measure), pair.second.run(seed).answers.get(measure))
        for seed in seeds.by_seed
    ]
    kept = [(seed, a, b) for seed, a, b in both if a is not None and b is not None]
    kept = [(seed, a, b) for seed, a, b in kept if a.images == b.images == kept[0][1].images]
    hits = [(a.hit1, b.hit1) if top == 1 else (a.hit5, b.hit5) for _, a, b in kept]
    tests = {seed: mcnemar(*pair) for (seed, _, _), pair in zip(kept, hits, strict=True)}
    complete = len(kept) == len(seeds.by_seed)
    interval = bootstrap_over_images(*zip(*hits, strict=True)) if complete else None
    p = next(iter(tests.values())).p if len(seeds.by_seed) == 1 and tests else seeds.p
    return Finding(pair, measure, top, seeds, tests, len(kept[0][1].labels) if complete else 0, interval, p)


def informative_top5(comparison: Comparison) -> bool:
    """Whether there are more than five classes: with fewer every top-5 error is 0 by definition."""
    measures = comparison.measures
    return any(e > 0 for group in comparison.groups for m in measures for e in group.errors(m, 5).values())


def _excludes_zero(interval: Sequence[float] | None) -> bool:
    return interval is None or interval[0] > 0 or interval[1] < 0


def signed(value: float) -> str:
    """``+1.25`` or ``-0.50``."""
    return f"{value:+.2f}"


def span(low: float, high: float) -> str:
    """``-0.50 to +1.25``."""
    return f"{signed(low)} to {signed(high)}"


def p_text(p: float) -> str:
    """``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
