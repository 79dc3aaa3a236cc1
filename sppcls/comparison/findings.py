"""What the runs show about each pair of groups, in numbers and in a plain sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import fmean

import numpy as np

from sppcls.comparison.answers import Answers, Judged, LabelAnswers, Measure
from sppcls.comparison.folds import Fold, unit
from sppcls.comparison.groups import Comparison, Pair
from sppcls.comparison.statistics import (
    LEVEL,
    McNemar,
    SeedDifference,
    bootstrap_over_images,
    holm,
    interval_of_draws,
    mcnemar,
    p_of_draws,
    paired_over_seeds,
)

DRAWN = (Judged, LabelAnswers)


class Verdict(StrEnum):
    """What may be claimed."""

    SHOWN = "difference shown"
    NOT_SHOWN = "no difference shown"
    NETWORKS = "these two networks differ"


@dataclass(frozen=True)
class Finding:
    """A pair of groups under one measure, or one contrast pooled over several pairs.

    Attributes:
        pairs: what is compared. Several of one contrast, such as one size against two with each pyramid, are pooled:
            for each seed the difference is the mean over the pairs.
        measure, top: where; ``top`` is 1 or 5.
        error: what that is called: ``val_224/top1_error``.
        seeds: the difference, second minus first, over the seeds that all groups have.
        tests: of a single pair, McNemar's test for each of these seeds where both kept their answers.
        images: number of images of these answers; 0 without.
        interval: 95 % bootstrap interval over the images, errors averaged over seeds and pairs; None without answers.
        p: of the test that decides: paired t over seeds; with one seed McNemar's, or that of the resampled images where an
            average precision is measured; None without a test.
        corrected: ``p`` corrected for the number of findings that it stands among (Holm).
        among: that number.
    """

    pairs: tuple[Pair, ...]
    measure: Measure
    top: int
    error: str
    seeds: SeedDifference
    tests: dict[int, McNemar] = field(default_factory=dict)
    images: int = 0
    interval: tuple[float, float] | None = None
    p: float | None = None
    corrected: float | None = None
    among: int = 1

    @property
    def factor(self) -> str:
        """The config group that was varied."""
        return self.pairs[0].factor

    @property
    def names(self) -> tuple[str, str]:
        """First and second: labels of the groups, or what is common to those that are pooled."""
        pair = self.pairs[0]
        if len(self.pairs) > 1:
            return pair.first.levels[self.factor], pair.second.levels[self.factor]
        return pair.first.label, pair.second.label

    @property
    def context(self) -> str:
        """What was the same on both sides, in a word: ``l6321``, ``pooled over l6321, l1`` or ``pooled over all 5``."""
        contexts = [pair.context for pair in self.pairs]
        if len(contexts) == 1:
            return contexts[0]
        named = len(contexts) < 3 and all(contexts)
        return f"pooled over {', '.join(contexts) if named else f'all {len(contexts)}'}"

    @property
    def label(self) -> str:
        """What is subtracted from what, in short: ``multi_224_180 - single_224, l6321``."""
        pair, (first, second) = self.pairs[0], self.names
        if pair.in_levels:
            first, second = pair.first.levels[self.factor], pair.second.levels[self.factor]
        several = len(self.pairs) > 1
        return f"{second} - {first}{f', {self.context}' if pair.in_levels or several else ''}"

    @property
    def verdict(self) -> Verdict:
        """Shown only if the seeds say so after the correction, and so do the images where they are known."""
        if self.corrected is None or self.corrected > LEVEL:
            return Verdict.NOT_SHOWN
        if len(self.seeds.by_seed) == 1:
            return Verdict.NETWORKS
        excludes_zero = self.interval is None or self.interval[0] > 0 or self.interval[1] < 0
        return Verdict.SHOWN if excludes_zero else Verdict.NOT_SHOWN

    def __str__(self) -> str:
        pooled = f", {self.context}" if len(self.pairs) > 1 else ""
        return f"{self.factor}{pooled}, {self.error}: {self.verdict}. {self.grounds}"

    @property
    def change(self) -> str:
        """The difference in words."""
        return in_words(*self.names, self.seeds.mean)

    @property
    def grounds(self) -> str:
        """What the verdict rests on."""
        seeds = list(self.seeds.by_seed)
        if len(seeds) == 1:
            return self._one_seed(seeds[0])
        text = f"{self.change} over {len(seeds)} {unit(seeds)}s"
        if self.seeds.interval is None:
            return f"{text}, the same for each, so there is no spread to judge it by"
        text += f", 95 % interval {span(*self.seeds.interval)}; "
        if self.interval is None:
            text += (
                "the answers for each image were not kept for all of these runs, so the seeds alone decide"
            )
        else:
            text += f"over the {self.images} images {span(*self.interval)}"
        if self.p is not None and self.p <= LEVEL and (self.corrected or 0) > LEVEL:
            text += f"; p = {self.p:.3f}, but {self.corrected:.3f} as one of several comparisons"
        return text

    def _one_seed(self, seed: int) -> str:
        text = f"{self.change} with one {unit([seed])} ({seed}), so there is no interval over {unit([seed])}s"
        test = self.tests.get(seed)
        if self.p is None:
            missing = "and no answers were kept for both: nothing" if len(self.pairs) == 1 else "nothing"
            return f"{text}, {missing} can be said of this difference"
        first, second = self.names
        if test is None:
            text += f"; over the {self.images} images {resampled(self.interval, self.p)}"
        else:
            text += (
                f"; of {self.images} images {test.only_first} were right only with {first}, {test.only_second} only with "
                f"{second} (McNemar: {p_text(test.p)})"
            )
        if self.corrected is not None and self.p <= LEVEL < self.corrected:
            text += f", {p_text(self.corrected)} as one of several comparisons"
        return f"{text}; this says nothing about another training run"


def findings(comparison: Comparison, measure: Measure | None = None, top: int = 1) -> list[Finding]:
    """What each pair shows under a measure, and each contrast of several pairs pooled, corrected for their number.

    Args:
        comparison: from :func:`sppcls.compare`.
        measure: protocol and size; None: the main one.
        top: 1 or 5.
    """
    found: list[Finding | None] = []
    measure = measure or comparison.main
    error = comparison.name_of(measure, top)
    for pairs in contrasts(comparison.pairs):
        single = [_find((pair,), measure, top, error) for pair in pairs]
        known = [finding for finding in single if finding is not None]
        found += known
        if len(known) > 1:
            found.append(_find(tuple(f.pairs[0] for f in known), measure, top, error))
    return correct([finding for finding in found if finding is not None])


def contrasts(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Pairs of the same change, such as one size against two with each pyramid."""
    found: dict[str, list[Pair]] = {}
    for pair in pairs:
        change = [[group.values[key] for key in pair.keys] for group in (pair.first, pair.second)]
        found.setdefault(repr((pair.keys, change)), []).append(pair)
    return list(found.values())


def correct(found: list[Finding]) -> list[Finding]:
    """The same findings, corrected for being so many; what they were corrected for before does not count."""
    tested = [finding.p for finding in found if finding.p is not None]
    corrected = iter(holm(tested))
    return [
        replace(f, among=max(1, len(tested)), corrected=None if f.p is None else next(corrected))
        for f in found
    ]


def _find(pairs: tuple[Pair, ...], measure: Measure, top: int, error: str) -> Finding | None:
    seeds = paired_over_seeds(
        _mean_by_seed([pair.first.errors(measure, top) for pair in pairs]),
        _mean_by_seed([pair.second.errors(measure, top) for pair in pairs]),
    )
    if seeds is None:
        return None
    both = [
        (seed, pair.first.run(seed).answers.get(measure), pair.second.run(seed).answers.get(measure))
        for pair in pairs
        for seed in seeds.by_seed
    ]
    kept = [(seed, a, b) for seed, a, b in both if a is not None and b is not None]
    first_of = {_fold(seed): a.images for seed, a, _ in reversed(kept)}
    kept = [(seed, a, b) for seed, a, b in kept if a.images == b.images == first_of[_fold(seed)]]
    answers = [(seed, a, b) for seed, a, b in kept if isinstance(a, Answers) and isinstance(b, Answers)]
    hits = [(seed, *((a.hit1, b.hit1) if top == 1 else (a.hit5, b.hit5))) for seed, a, b in answers]
    draws = [(a.draws, b.draws) for _, a, b in kept if isinstance(a, DRAWN) and isinstance(b, DRAWN)]
    tests = {seed: mcnemar(first, second) for seed, first, second in hits} if len(pairs) == 1 else {}
    complete = len(kept) == len(both)
    interval, images = None, 0
    if complete and (joined := _joined(hits)):
        interval, images = bootstrap_over_images(*zip(*joined, strict=True)), len(joined[0][0])
    elif complete and draws:
        interval, images = interval_of_draws(*zip(*draws, strict=True)), len(kept[0][1])
    p = seeds.p
    if len(both) == 1:  # one seed of one pair
        p = next((t.p for t in tests.values()), None)
        p = p_of_draws(*draws[0]) if draws else p
    return Finding(pairs, measure, top, error, seeds, tests, images, interval, p)


def _fold(seed: int) -> int | None:
    return seed.fold if isinstance(seed, Fold) else None


def _joined(hits: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Right or wrong by seed and pair, the folds one after the other; empty if not each has all folds."""
    by_fold: dict[int | None, list[tuple[np.ndarray, np.ndarray]]] = {}
    for seed, first, second in sorted(hits, key=lambda hit: hit[0]):
        by_fold.setdefault(_fold(seed), []).append((first, second))
    if len({len(found) for found in by_fold.values()}) != 1:
        return []
    rows = zip(*by_fold.values(), strict=True)
    return [(np.concatenate([a for a, _ in row]), np.concatenate([b for _, b in row])) for row in rows]


def _mean_by_seed(errors: Sequence[dict[int, float]]) -> dict[int, float]:
    """Mean over several groups, of the seeds that all of them have."""
    return {seed: fmean(e[seed] for e in errors) for seed in errors[0] if all(seed in e for e in errors)}


def in_words(first: str, second: str, difference: float) -> str:
    """``B is 1.25 percentage points lower than A``; ``difference`` is second minus first."""
    if not round(abs(difference), 2):
        return f"{second} and {first} are equal"
    return f"{second} is {abs(difference):.2f} percentage points {'lower' if difference < 0 else 'higher'} than {first}"


def signed(value: float) -> str:
    """``+1.25`` or ``-0.50``."""
    return f"{value:+.2f}"


def span(low: float, high: float) -> str:
    """``-0.50 to +1.25``."""
    return f"{signed(low)} to {signed(high)}"


def resampled(interval: tuple[float, float] | None, p: float) -> str:
    """``-3.10 to -0.20 (95 %; p = 0.012 by resampling them)``."""
    return f"{span(*interval) if interval else ''} (95 %; {p_text(p)} by resampling them)".lstrip()


def p_text(p: float) -> str:
    """``p = 0.031`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
