"""What a comparison says: its tables, its sentences, and what a reader has to know to judge them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from sppcls.comparison.answers import DETECTION, Measure
from sppcls.comparison.conclusions import Conclusion
from sppcls.comparison.equal_cost import COSTS, cost_differs, errors_at
from sppcls.comparison.find import TRIAL
from sppcls.comparison.findings import Finding, correct, findings, informative_top5, p_text, signed, span
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.report.class_mean import figure_cells, figures_of
from sppcls.comparison.report.tables import Cell, Spread, Table
from sppcls.comparison.runs import Run
from sppcls.comparison.statistics import LEVEL, interval_half_width, mean_and_std

VERDICT_RULE = (
    "A difference is shown if the 95 % interval over seeds excludes 0 after correction for the number of pairs, and the "
    "one over images does too."
)


# Pairs that are not compared are named one by one, if they are no more.
_EACH = 6


def headline(comparison: Comparison) -> list[Finding]:
    """What the pairs show under the main measure, top-1 and, with more than five classes, top-5."""
    tops = (1, 5) if informative_top5(comparison) else (1,)
    return [finding for top in tops for finding in findings(comparison, comparison.main, top)]


def on_test(comparison: Comparison) -> list[Finding]:
    """What the pairs show on the test images after the last epoch, top-1 and, with more than five classes, top-5."""
    tops = (1, 5) if informative_top5(comparison) else (1,)
    return [f for top in tops for measure in comparison.test[:1] for f in findings(comparison, measure, top)]


def elsewhere(comparison: Comparison) -> list[Finding]:
    """What the pairs show under every other measure, corrected for all of them: who looks at thirty test sizes finds
    one that looks good."""
    tops = (1, 5) if informative_top5(comparison) else (1,)
    others = [measure for measure in comparison.measures[1:] if measure not in comparison.test[:1]]
    found = {top: [f for measure in others for f in findings(comparison, measure, top)] for top in tops}
    corrected = {top: iter(correct(found[top])) for top in tops}
    return [
        next(corrected[top]) for measure in others for top in tops for f in found[top] if f.measure == measure
    ]


def groups_table(comparison: Comparison, every_measure: bool = False) -> Table:
    """A row for each group: errors, and what they cost.

    Args:
        comparison: what to show.
        every_measure: errors at every size and protocol; else those of the validation during training, and those on the
            test images.
    """
    measures = comparison.measures if every_measure else _shown(comparison)
    tops = (1, 5) if informative_top5(comparison) else (1,)
    header = ["group", "seed numbers"]
    header += [comparison.name_of(measure, top) for measure in measures for top in tops]
    header += [f"{comparison.name_of(comparison.main)}/{figure} %" for figure in figures_of(comparison)]
    header += [name for name, _, _ in _COSTS]
    rows: list[list[Cell]] = []
    for group in comparison.groups:
        row: list[Cell] = [group.label, ", ".join(map(str, group.seeds))]
        row += [errors_cell(group, measure, top) for measure in measures for top in tops]
        row += figure_cells(comparison, group)
        for _, figure, digits in _COSTS:
            row.append(_cost_cell([figure(run) for run in group.runs], digits))
        rows.append(row)
    return Table("Groups (errors in %)", header, rows).used()


def _shown(comparison: Comparison) -> list[Measure]:
    runs = [run for group in comparison.groups for run in group.runs]
    validated = [m for m in comparison.measures if any(run.column(m) for run in runs)]
    return validated + comparison.test


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value / scale


def _parameters(run: Run) -> float | None:
    count = run.result.get("parameters")
    return count / 1e6 if isinstance(count, int | float) else None


_COSTS: list[tuple[str, Callable[[Run], float | None], int]] = [
    ("epochs", lambda run: None if run.main.protocol == DETECTION else float(run.epochs), 0),
    ("images seen", lambda run: run.last("images_seen"), 0),
    ("gigapixels seen", lambda run: _scaled(run.last("pixels_seen"), 1e9), 3),
    ("training minutes", lambda run: _scaled(run.last("train_seconds"), 60), 2),
    ("images/s", lambda run: run.images_per_s, 1),
    ("million parameters", _parameters, 3),
]


def _cost_cell(values: list[float | None], digits: int) -> Cell:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(set(known)) == 1 and len(known) == len(values):
        return f"{known[0]:.{digits}f}"  # the same for all seeds, as it was meant to be
    return Spread(*mean_and_std(known), len(known), digits)


def errors_cell(group: Group, measure: Measure, top: int = 1) -> Spread | None:
    """Mean error of a group over its seeds; None where it was not measured."""
    values = list(group.errors(measure, top).values())
    return Spread(*mean_and_std(values), len(values)) if values else None


def measures_table(comparison: Comparison) -> Table | None:
    """A row for each size and protocol, a column for each group; None if the groups' table has them all."""
    if len(comparison.measures) <= len(_shown(comparison)):
        return None
    tops = (1, 5) if informative_top5(comparison) else (1,)
    rows: list[list[Cell]] = [
        [
            comparison.name_of(measure, top),
            *(errors_cell(g, measure, top) for g in comparison.groups),
        ]
        for measure in comparison.measures
        for top in tops
    ]
    header = ["error", *(group.label for group in comparison.groups)]
    return Table("Errors at every size and protocol, %", header, rows)


def differences_table(title: str, found: list[Finding]) -> Table:
    """A row for each pair and measure."""
    header = [
        "A - B", "varied", "error", "verdict", "A - B, points", "seeds", "95 % over seeds", "95 % over images",
        "p", "p, corrected", "right only with A / only with B, by seed (McNemar)",
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for f in found:
        seeds, (first, second) = f.seeds, f.names
        tests = [f"{seed}: {t.only_second}/{t.only_first}, {p_text(t.p)}" for seed, t in f.tests.items()]
        rows.append(
            [
                f"{second} - {first}" + (f" ({f.context})" if len(f.pairs) > 1 else ""),
                f.factor,
                f.error,
                str(f.verdict),
                signed(seeds.mean),
                str(len(seeds.by_seed)),
                None if seeds.low is None or seeds.high is None else span(seeds.low, seeds.high),
                None if f.interval is None else span(*f.interval),
                None if f.p is None else f"{f.p:.4f}",
                None if f.corrected is None else f"{f.corrected:.4f}",
                "; ".join(tests) or None,
            ]
        )
    return Table(title, header, rows).used()


def equal_cost_table(comparison: Comparison) -> Table | None:
    """A row for each group: its error when it had cost as much as the cheapest run; None if all cost the same."""
    spent = {cost: cost.common(comparison) for cost in COSTS if cost_differs(comparison, cost)}
    measure = comparison.main
    header = ["group", *(f"after {at:.3g} {cost.unit}" for cost, at in spent.items()), "at its end"]
    rows: list[list[Cell]] = []
    for group in comparison.groups:
        errors = [errors_at(group, measure, cost, at) for cost, at in spent.items() if at is not None]
        cells = [Spread(*mean_and_std(found), len(found)) if found else None for found in errors]
        rows.append([group.label, *cells, errors_cell(group, measure)])
    title = f"Errors at equal cost, {comparison.name_of(measure, 1)}, %"
    return Table(title, header, rows) if spent else None


def conclusion_table(conclusion: Conclusion) -> Table:
    """A row for each finding behind a conclusion: the two errors, their difference, its interval and the verdict."""
    measure, top = conclusion.findings[0].measure, conclusion.findings[0].top
    error = measure.error(top)
    header = ["A - B", f"{error} of A, %", f"{error} of B, %", "A - B, points", "95 % interval", "seeds", "verdict",
              "pixels, A to B", "time, A to B"]  # fmt: skip
    rows: list[list[Cell]] = []
    counts = {len(f.seeds.by_seed) for f in conclusion.findings}
    for f in conclusion.findings:
        firsts, seconds = ([getattr(pair, end) for pair in f.pairs] for end in ("first", "second"))
        row: list[Cell] = [f.label]
        for groups in (seconds, firsts):
            row.append(f"{fmean(e for g in groups for e in g.errors(measure, top).values()):.2f}")
        low, high = f.seeds.low, f.seeds.high
        unknown = "one seed" if len(f.seeds.by_seed) == 1 else "no spread"
        row += [signed(f.seeds.mean), unknown if low is None or high is None else span(low, high)]
        row.append(str(len(f.seeds.by_seed)) if len(counts) > 1 else None)
        several = f.p is not None and f.p <= LEVEL < (f.corrected or 0)
        row.append(f"{f.verdict}{f' (one of {f.among} comparisons)' if several else ''}")
        row += [_ratio(seconds, firsts, key) for key in ("pixels_seen", "train_seconds")]
        rows.append(row)
    return Table(conclusion.question, header, rows).used()


def _ratio(groups: Sequence[Group], others: Sequence[Group], key: str) -> str | None:
    """How much more or less the runs of ``groups`` cost in all: ``-18 %``."""
    sums = []
    for side in (groups, others):
        values = [run.last(key) for group in side for run in group.runs]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or not any(known):
            return None
        sums.append(fmean(known))
    more = round(100 * (sums[0] / sums[1] - 1))
    return f"{more:+} %" if more else "same"


def refusals(comparison: Comparison) -> list[tuple[str, str]]:
    """What is not compared, and why: every pair, or of many how often there is each reason."""
    refused = comparison.refused
    if len(refused) <= _EACH:
        return [(f"{r.first.label} / {r.second.label}", r.reason) for r in refused]
    reasons = [r.reason for r in refused]
    if all(TRIAL in run.values for group in comparison.groups for run in group.runs):
        # Trials differ in whatever was drawn differently: one reason, with nearly as many lists of keys as pairs.
        drawn = ", ".join(dict.fromkeys(key for r in refused for key in r.keys))
        reasons = [f"differ in several of {drawn}" if r.keys else r.reason for r in refused]
    counts = Counter(reasons)
    return [(f"{count} pair{'s' * (count > 1)}", reason) for reason, count in counts.items()]


def refusals_table(comparison: Comparison) -> Table | None:
    """Pairs that are not compared, and why."""
    if not comparison.refused:
        return None
    return Table("Not compared", ["groups", "because they"], [list(row) for row in refusals(comparison)])


def runs_table(comparison: Comparison) -> Table:
    """A row for each run behind the groups."""
    main = comparison.main
    rows: list[list[Cell]] = [
        [
            group.label,
            str(run.seed),
            f"{run.errors[main][0]:.2f}" if main in run.errors else None,
            str(run.folder),
        ]
        for group in comparison.groups
        for run in group.runs
    ]
    return Table("Runs", ["group", "seed", comparison.name_of(main, 1), "folder"], rows)


def introduction(comparison: Comparison) -> str:
    """What was found and measured, in a few sentences."""
    runs = [run for group in comparison.groups for run in group.runs]
    groups = len(comparison.groups)
    text = f"{len(runs)} finished run{'s' * (len(runs) != 1)} in {groups} group{'s' * (groups != 1)}"
    varied = ", ".join(k for keys in comparison.factors.values() for k in keys) or "nothing but the seed"
    counts = {len(run.answers[run.main]) for run in runs if run.main in run.answers}
    images = f", {counts.pop():,} validation images" if len(counts) == 1 else ""
    when = "" if comparison.main.protocol == DETECTION else ", last epoch"
    main = f"{comparison.main.in_words()} ({comparison.name_of(comparison.main, 1)})"
    return f"{text}; varied: {varied}. Main figure: {main}{images}{when}."


def reading_notes(comparison: Comparison) -> list[str]:
    """What a reader has to know to judge the numbers."""
    runs = [run for group in comparison.groups for run in group.runs]
    detectors = comparison.main.protocol == DETECTION
    last = (
        "Errors are those of the weights after the last epoch. The best epoch of a run is chosen on the very images "
        "that it is judged by, so its error flatters."
    )
    first = (
        "The error of a detector is what its mean average precision (VOC's rules, IoU 0.5) lacks of 100 per cent, so "
        "lower is better. Its intervals over images are of 1,000 resamples."
        if detectors
        else last
    )
    if comparison.main.multi_label:
        first = (
            "Images may have several labels: the error is what the mean average precision over the classes lacks of 100 per "
            f"cent, so lower is better. Its intervals over images are of 1,000 resamples. {last}"
        )
    notes = [
        first,
        "Cells are mean ± sample standard deviation over the seeds (number of seeds).",
    ]
    counts = sorted({len(run.answers[run.main]) for run in runs if run.main in run.answers})
    if len(counts) == 1 and not comparison.main.of_precision:
        notes.append(f"Tested on {counts[0]:,} images: one image is {100 / counts[0]:.3g} points.")
    limited = [run for run in runs if (run.config.get("trainer") or {}).get("limit_val_batches")]
    if limited:
        notes.append(
            f"{len(limited)} of {len(runs)} runs were validated with trainer.limit_val_batches: on a part of the images, "
            "spread over the classes."
        )
    notes += _test_notes(comparison, runs)
    if not informative_top5(comparison) and not comparison.main.of_precision:
        notes.append("Every top-5 error is 0, as it is with at most five classes, and left out.")
    if comparison.pairs:
        notes.append(
            "A difference is A minus B, paired by seed: below 0 A has the lower error. It counts as shown if its t interval over the seeds "
            "excludes 0 after Holm's correction for the number of pairs and pooled lines, and, where the answers "
            "for every image were kept, the bootstrap interval over the images (errors averaged over the seeds, 10,000 "
            "resamples) excludes 0 too. 'No difference shown' does not mean that there is none. The intervals themselves "
            "are not corrected. The pooled lines average the difference over several pairs, seed by seed."
        )
    if comparison.pairs and len(comparison.measures) > 1:
        notes.append(
            f"The measure to decide by is {comparison.name_of(comparison.main, 1)}, chosen beforehand. Of many other sizes and protocols some "
            "differ by chance: there the correction is for all of them and all pairs together."
        )
    most = max((len(group.runs) for group in comparison.groups), default=0)
    if comparison.pairs and 2 <= most <= 4:
        half = interval_half_width(most)
        notes.append(
            f"Few seeds show large differences only: with {most} the interval reaches {half:.1f} standard deviations of "
            f"the difference to each side, with 5 it would be {interval_half_width(5):.1f}."
        )
    alone = [group.label for group in comparison.groups if len(group.runs) == 1]
    if alone:
        notes.append(f"One seed only, so no spread and no interval over seeds: {', '.join(alone)}.")
    if any(cost_differs(comparison, cost) for cost in COSTS):
        notes.append(
            "An error at equal cost is that of a training under way, between two validations. One that was planned for this "
            "cost would have lowered its learning rate by then, and may have ended lower."
        )
    return notes + _cost_notes(runs)


def _test_notes(comparison: Comparison, runs: list[Run]) -> list[str]:
    """What to know of errors on the test images, where there are any."""
    if not comparison.test:
        return []
    measure = comparison.test[0]
    have = [run for run in runs if measure in run.errors]
    counts = sorted({len(run.answers[measure]) for run in have if measure in run.answers})
    text = f"{counts[0]:,} test images" if len(counts) == 1 else "Test images"
    text += f" were looked at once, when training had finished ({len(have)} of {len(runs)} runs)"
    return [
        f"{text}. They have chosen neither an epoch nor a learning rate, so they are the better judge, of the last epoch "
        "and of the best one alike, as long as nobody chooses among many runs by them."
    ]


def _cost_notes(runs: list[Run]) -> list[str]:
    notes = []
    devices = {str(run.result["device"]) for run in runs if "device" in run.result}
    if len(devices) > 1:
        notes.append(f"Trained on different devices ({'; '.join(sorted(devices))}): times do not compare.")
    setups = {tuple(run.config.get(g, {}).get(k) for g, k in (("trainer", "threads"), ("data", "workers"))) for run in runs}  # fmt: skip
    if len(setups) > 1:
        notes.append("Trained with different trainer.threads or data.workers: times do not compare.")
    versions = {str(run.result["sppcls"]) for run in runs if "sppcls" in run.result}
    old = sum(not run.result for run in runs)
    if len(versions) > 1:
        notes.append(f"Trained by different versions of sppcls: {', '.join(sorted(versions))}.")
    if old:
        notes.append(
            f"{old} of {len(runs)} runs are of a version without result.json: their number of parameters is not known, "
            "and their times leave out the first step."
        )
    return notes
