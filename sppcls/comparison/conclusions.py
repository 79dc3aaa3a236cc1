"""The question that a comparison was made for, and its answer in a line."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from sppcls.comparison.findings import Finding, Verdict, contrasts, signed
from sppcls.comparison.folds import no_interval, overlap, unit
from sppcls.comparison.statistics import LEVEL, images_needed, seeds_needed, smallest_shown

_POINTS = 1.0  # the difference that the outlook asks about
_MOST = 8  # findings about one config group that are all shown
_NOT_SHOWN = "No difference shown"


@dataclass(frozen=True)
class Conclusion:
    """What was found about one config group.

    Attributes:
        question: in words.
        answer: a few words: "Yes", "No difference shown", ...
        sentence: what was found, in plain words.
        detail: the answer's grounds, in a sentence.
        outlook: what these runs could have shown, and what it would take to show a point; may be empty.
        findings: what a reader wants to see of it: every pair and pooled line, or of many those that decide.
    """

    question: str
    answer: str
    sentence: str
    detail: str
    outlook: str
    findings: list[Finding]

    @property
    def shown(self) -> bool:
        """Whether anything is claimed."""
        return self.answer != _NOT_SHOWN

    @property
    def lines(self) -> list[str]:
        """What was found, its grounds and the outlook."""
        return [self.sentence, self.detail, self.outlook]


def conclusions(found: list[Finding]) -> list[Conclusion]:
    """One for each config group that pairs differ in, from what was found under one measure and one error."""
    result = []
    for factor in dict.fromkeys(finding.factor for finding in found):
        of_factor = [finding for finding in found if finding.factor == factor]
        # Of each change the pooled line, or the only pair.
        changes = contrasts([pair for f in of_factor if len(f.pairs) == 1 for pair in f.pairs])
        deciding = [
            max((f for f in of_factor if pairs[0] in f.pairs), key=lambda f: len(f.pairs))
            for pairs in changes
        ]
        if more := [f for f in deciding if _one_to_several(f)]:
            question = "Are several sizes better than one?"
            result.append(_changes(question, "they are", more, of_factor))
        elif len(deciding) == 1:
            first, second = deciding[0].names
            result.append(_changes(f"Is {second} better than {first}?", "it is", deciding, of_factor))
        else:
            result.append(_best(factor, deciding, of_factor))
    return result


def _one_to_several(finding: Finding) -> bool:
    pair = finding.pairs[0]
    return len(pair.first.runs[0].sizes) == 1 < len(pair.second.runs[0].sizes)


def _changes(question: str, they_are: str, deciding: list[Finding], found: list[Finding]) -> Conclusion:
    """A yes or no about changes in one direction: each of ``deciding`` is one of them."""
    shown = [finding for finding in deciding if finding.verdict == Verdict.SHOWN]
    better = [finding for finding in shown if finding.seeds.mean < 0]
    if any(finding.verdict == Verdict.NETWORKS for finding in deciding):
        answer = "Only these two networks differ"
    elif not shown:
        answer = _NOT_SHOWN
    elif len(better) == len(deciding):
        answer = "Yes"
    elif better:
        answer = "Some are" if len(better) == len(shown) else "Some are, some are worse"
    else:
        answer = f"No, {they_are} worse"
    lines = found if len(found) <= _MOST else deciding
    label, minus = (lambda f: f"{f.label}: "), ""
    if len(deciding) == 1:
        first, second = deciding[0].names
        label, minus = (
            (lambda f: f"{f.context or f.label}: " if len(lines) > 1 else ""),
            f"{second} minus {first}, ",
        )
    parts = "; ".join(label(f) + _interval(f) for f in lines)
    counts = sorted({len(f.seeds.by_seed) for f in lines})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    error = deciding[0].measure.error(deciding[0].top)
    known = [f.seeds.interval is not None for f in lines]
    what = "95 % interval"
    if not any(known):
        what = f"no 95 % interval: {no_interval(max((f.seeds.by_seed for f in lines), key=len))}"
    elif not all(known):
        what += " where there is a spread"
    detail = (
        f"{parts} percentage points of {error} ({minus}{what}), "
        f"{seeds} {unit(lines[0].seeds.by_seed)}{'s' * (counts[-1] > 1)} each."
    )
    changes = "; ".join(map(_change, deciding))
    sentence = f"{error[0].upper()}{error[1:]}: {changes}."
    return Conclusion(question, answer, sentence, detail, outlook(deciding), lines)


def _best(factor: str, deciding: list[Finding], found: list[Finding]) -> Conclusion:
    """Many levels of a factor: which has the lowest error, and which others are shown to be higher."""
    words = {"sizes": "training sizes are", "pyramid": "pyramid is"}.get(factor, f"{factor} is")
    measure, top = found[0].measure, found[0].top
    means: dict[str, float] = {}
    for f in deciding:
        sides = ([pair.first for pair in f.pairs], [pair.second for pair in f.pairs])
        for name, groups in zip(f.names, sides, strict=True):
            means[name] = fmean(e for group in groups for e in group.errors(measure, top).values())
    best = min(means, key=lambda name: means[name])
    shown = [f for f in deciding if f.verdict == Verdict.SHOWN]
    of_best: dict[str, bool] = {}
    for f in deciding:
        if best in f.names:
            # Over the seeds that both have, the best over all of its own may have the higher error.
            other_is_higher = (f.seeds.mean > 0) == (f.names[0] == best)
            of_best[f.names[f.names[0] == best]] = f in shown and other_is_higher
    higher, open_ = ([name for name, known in of_best.items() if known is which] for which in (True, False))
    answer = f"{best}, better than {'some' if open_ else 'all'} others" if higher else _NOT_SHOWN
    sentence = f"{best} has the lowest mean error, {means[best]:.2f} %"
    sentence += f"; shown to be higher: {', '.join(higher)}" if higher else ""
    sentence += f"; not shown: {', '.join(open_)}" if open_ else ""
    detail = f"{len(shown)} of {len(deciding)} differences are shown."
    lines = found if len(found) <= _MOST else deciding
    return Conclusion(f"Which {words} best?", answer, f"{sentence}.", detail, outlook(deciding), lines)


def _change(finding: Finding) -> str:
    """``A is 0.15 percentage points lower than B (pooled over l6321, l1), 95 % interval -4.08 to +3.48``."""
    context = f" ({finding.context})" if len(finding.pairs) > 1 else ""
    interval = finding.seeds.interval
    known = "" if interval is None else f", 95 % interval {' to '.join(map(signed, interval))}"
    return finding.change + context + known


def _interval(finding: Finding) -> str:
    """``-0.15 [-4.08, +3.48]``."""
    text, interval = signed(finding.seeds.mean), finding.seeds.interval
    return text if interval is None else f"{text} [{', '.join(map(signed, interval))}]"


def outlook(found: list[Finding]) -> str:
    """What the runs behind findings could show, and what a point would take; empty where no spread is known.

    Of several findings it is that of the largest spread.
    """
    finding = max(found, key=lambda f: f.seeds.std or 0)
    seeds = finding.seeds
    count, level = len(seeds.by_seed), LEVEL / finding.among
    if not seeds.std or seeds.interval is None:
        if count == 1:
            return f"One {unit(seeds.by_seed)} shows nothing about another training."
        return f"The difference is the same for each of the {count} {unit(seeds.by_seed)}s, so there is no spread to judge it by."
    smallest = smallest_shown(seeds.std, count, level, overlap(seeds.by_seed))
    only = "hardly any difference is"
    if smallest < 50:
        only = f"only true differences above about {_rough(smallest)} points are"
    if unit(seeds.by_seed) == "fold":  # more of them have the more in common
        return f"With {count} folds {only} likely to show; more photos would show more."
    needed = _rough(seeds_needed(seeds.std, _POINTS, level))
    text = f"With {count} seeds {only} likely to show; 1 point would take about {needed} seeds"
    if finding.interval is not None:
        images = images_needed(finding.interval, finding.images, _POINTS)
        if images > finding.images:
            text += f" and {_rough(images)} validation images (these are {finding.images:,})"
    return f"{text}."


def _rough(value: float) -> str:
    """Two digits of what is no more certain than that."""
    digits = f"{float(f'{value:.1e}'):,.1f}"
    return digits.removesuffix(".0")
