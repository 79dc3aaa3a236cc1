"""The question that a comparison was made for, and its answer in a line."""

from __future__ import annotations

from dataclasses import dataclass

from sppcls.comparison.findings import Finding, Verdict, contrasts, signed
from sppcls.comparison.groups import Comparison
from sppcls.comparison.statistics import LEVEL, images_needed, seeds_needed, smallest_shown

_POINTS = 1.0  # the difference that the outlook asks about


@dataclass(frozen=True)
class Conclusion:
    """What was found about one config group.

    Attributes:
        question: in words.
        answer: a few words: "Yes", "Not shown", ...
        detail: the answer's grounds, in a sentence.
        outlook: what these runs could have shown, and what it would take to show a point; may be empty.
        findings: one for each pair, and the pooled one of each contrast.
    """

    question: str
    answer: str
    detail: str
    outlook: str
    findings: list[Finding]

    def __str__(self) -> str:
        """All of it in one paragraph."""
        return " ".join(filter(None, (self.question, f"{self.answer.upper()}: {self.detail}", self.outlook)))


def conclusions(comparison: Comparison, found: list[Finding]) -> list[Conclusion]:
    """One for each config group that pairs differ in, in their order.

    Args:
        comparison: from :func:`sppcls.compare`.
        found: its findings under one measure and one error.
    """
    result = []
    for factor in dict.fromkeys(pair.factor for pair in comparison.pairs):
        of_factor = [finding for finding in found if finding.factor == factor]
        if not of_factor:
            continue
        single = len(contrasts([pair for f in of_factor for pair in f.pairs])) == 1
        result.append((_one_change if single else _several)(comparison, factor, of_factor))
    return result


def _one_change(comparison: Comparison, factor: str, found: list[Finding]) -> Conclusion:
    """Two levels of a factor, compared once or in several contexts; the pooled line, if there is one, decides."""
    deciding = found[-1]
    first, second = deciding.names
    question = f"Is {second} better than {first}?"
    pair = deciding.pairs[0]
    if factor == "sizes" and _sizes(pair.first.values) == 1 < _sizes(pair.second.values):
        question = "Are several training sizes better than one?"
    answer = {
        Verdict.SHOWN: "Yes"
        if deciding.seeds.mean < 0
        else "No, they are worse"
        if "several" in question
        else "No, it is worse",
        Verdict.NOT_SHOWN: "Not shown",
        Verdict.NETWORKS: "Only these two networks differ",
    }[deciding.verdict]
    lines = [f"{f.context if len(found) > 1 else ''} {_interval(f)}".strip() for f in found]
    counts = sorted({len(f.seeds.by_seed) for f in found})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    detail = (
        f"{', '.join(lines)} percentage points of top-{deciding.top} error ({second} minus {first}, 95 % interval), "
        f"{seeds} seed{'s' * (counts[-1] > 1)} each."
    )
    return Conclusion(question, answer, detail, outlook(deciding), found)


def _several(comparison: Comparison, factor: str, found: list[Finding]) -> Conclusion:
    """Many levels of a factor: which has the lowest error, and which of the others are shown to be worse."""
    words = {"sizes": "training sizes are", "pyramid": "pyramid is"}.get(factor, f"{factor} is")
    measure, top = found[0].measure, found[0].top
    errors = {g.label: list(g.errors(measure, top).values()) for g in comparison.groups}
    means = {label: sum(values) / len(values) for label, values in errors.items() if values}
    best = min(means, key=lambda label: means[label])
    shown = [f for f in found if f.verdict == Verdict.SHOWN]
    of_best = {
        f.names[f.names[0] == best]: f in shown for f in found if len(f.pairs) == 1 and best in f.names
    }
    higher, open_ = ([name for name, known in of_best.items() if known is which] for which in (True, False))
    answer = "Not shown" if not higher else f"{best}, better than {'some' if open_ else 'all'} others"
    detail = f"{best} has the lowest mean error, {means[best]:.2f} %"
    detail += f"; shown to be higher: {', '.join(higher)}" if higher else ""
    detail += f"; not shown: {', '.join(open_)}" if open_ else ""
    detail += f" ({len(shown)} of {len(found)} differences shown)."
    known = [f for f in found if f.seeds.std]
    widest = max(known, key=lambda f: f.seeds.std or 0, default=found[0])
    return Conclusion(f"Which {words} best?", answer, detail, outlook(widest), found)


def _sizes(values: dict[str, object]) -> int:
    sizes = values.get("sizes.sizes")
    return len(sizes) if isinstance(sizes, list) else 0


def _interval(finding: Finding) -> str:
    """``-0.15 [-4.08, +3.48]``."""
    text, seeds = signed(finding.seeds.mean), finding.seeds
    return (
        text
        if seeds.low is None or seeds.high is None
        else f"{text} [{signed(seeds.low)}, {signed(seeds.high)}]"
    )


def outlook(finding: Finding) -> str:
    """What the runs behind a finding could show, and what a point would take; empty where no spread is known."""
    seeds = finding.seeds
    count, level = len(seeds.by_seed), LEVEL / finding.among
    if not seeds.std or seeds.low is None:
        return "One seed shows nothing about another training." if count == 1 else ""
    smallest = smallest_shown(seeds.std, count, level)
    only = (
        f"only true differences above about {_rough(smallest)} points are"
        if smallest < 50
        else "hardly any difference is"
    )
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
