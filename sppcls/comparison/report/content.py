"""What a comparison says: its tables, its sentences, and what a reader has to know to judge them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import fmean

from sppcls.comparison.answers import DETECTION, Measure
from sppcls.comparison.conclusions import Conclusion, conclusions
from sppcls.comparison.equal_cost import COSTS, cost_differs, errors_at
from sppcls.comparison.find import TRIAL
from sppcls.comparison.findings import Finding, correct, findings, p_text, signed, span
from sppcls.comparison.folds import no_interval, unit
from sppcls.comparison.groups import Comparison, Group
from sppcls.comparison.labels import listed
from sppcls.comparison.report.class_mean import class_mean_table, figure_cells, figures_of
from sppcls.comparison.report.tables import Cell, Spread, Table
from sppcls.comparison.runs import Run
from sppcls.comparison.statistics import LEVEL

VERDICT_RULE = (
    "A difference is shown if the 95 % interval over seeds excludes 0 after correction for the number of pairs, and the "
    "one over images does too."
)

# Pairs that are not compared are named one by one, if they are no more.
_EACH = 6


# Columns of the table of groups that a screen has room for.
_SHORT = ("group", "seed numbers", "fold numbers", "gigapixels", "training minutes", "million parameters")
_SHORT_FIGURES = ("/top1_error", "/top5_error", "/map_error")


def for_a_screen(groups: Table) -> Table:
    """The table of groups without the columns that only some readers look for."""
    return groups.only([n.startswith(_SHORT) or n.endswith(_SHORT_FIGURES) for n in groups.header])


def groups_table(comparison: Comparison, every_measure: bool = False) -> Table:
    """A row for each group: errors, and what they cost.

    Args:
        comparison: what to show.
        every_measure: errors at every size and protocol; else those of the validation during training, and those on the
            test images.
    """
    measures, tops = comparison.measures if every_measure else _shown(comparison), comparison.tops
    header = ["group", f"{comparison.unit} numbers"]
    header += [comparison.name_of(measure, top) for measure in measures for top in tops]
    header += [f"{comparison.name_of(comparison.main)}/{figure} %" for figure in figures_of(comparison)]
    header += [name for name, _, _, _ in _COSTS]
    rows: list[list[Cell]] = []
    for group in comparison.groups:
        row: list[Cell] = [group.label, ", ".join(map(str, group.seeds))]
        row += [errors_cell(group, measure, top) for measure in measures for top in tops]
        row += figure_cells(comparison, group)
        for _, cost, per, digits in _COSTS:
            row.append(_cost_cell([cost(run) for run in group.runs], per, digits))
        rows.append(row)
    return Table("Groups (errors in %)", header, rows).used()


def _shown(comparison: Comparison) -> list[Measure]:
    return comparison.validated + comparison.test


# Name, figure, what one unit of it is, and digits.
_COSTS: list[tuple[str, Callable[[Run], float | None], float, int]] = [
    ("epochs", lambda run: None if run.main.protocol == DETECTION else float(run.epochs), 1, 0),
    ("images seen", lambda run: run.last("images_seen"), 1, 0),
    ("gigapixels seen", lambda run: run.last("pixels_seen"), 1e9, 3),
    ("training minutes", lambda run: run.last("train_seconds"), 60, 2),
    ("images/s", lambda run: run.images_per_s, 1, 1),
    ("million parameters", lambda run: run.parameters, 1e6, 3),
]


def _cost_cell(values: list[float | None], unit: float, digits: int) -> Cell:
    known = [value / unit for value in values if value is not None]
    if len(set(known)) == 1 and len(known) == len(values):
        return f"{known[0]:.{digits}f}"  # the same for all seeds, as it was meant to be
    return Spread.of(known, digits)


def errors_cell(group: Group, measure: Measure, top: int = 1) -> Spread | None:
    """Mean error of a group over its seeds; None where it was not measured."""
    return Spread.of(group.errors(measure, top).values())


def measures_table(comparison: Comparison) -> Table | None:
    """A row for each size and protocol, a column for each group; None if the groups' table has them all."""
    if len(comparison.measures) <= len(_shown(comparison)):
        return None
    rows: list[list[Cell]] = [
        [comparison.name_of(measure, top), *(errors_cell(g, measure, top) for g in comparison.groups)]
        for measure in comparison.measures
        for top in comparison.tops
    ]
    header = ["error", *(group.label for group in comparison.groups)]
    return Table("Errors at every size and protocol, %", header, rows)


def differences_table(title: str, found: list[Finding]) -> Table:
    """A row for each pair and measure."""
    each = unit(found[0].seeds.by_seed) if found else "seed"
    header = [
        "A - B", "varied", "error", "verdict", "A - B, points", f"{each}s", f"95 % over {each}s", "95 % over images",
        "p", "p, corrected", f"right only with A / only with B, by {each} (McNemar)",
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
                None if seeds.interval is None else span(*seeds.interval),
                None if f.interval is None else span(*f.interval),
                None if f.p is None else f"{f.p:.4f}",
                None if f.corrected is None else f"{f.corrected:.4f}",
                "; ".join(tests) or None,
            ]
        )
    return Table(title, header, rows).used()


def equal_cost_table(comparison: Comparison) -> Table | None:
    """A row for each group: its error when it had cost as much as the cheapest run; None where that is not known."""
    costs = [cost for cost in COSTS if cost_differs(comparison, cost)]
    spent = [(cost, at) for cost in costs if (at := cost.common(comparison)) is not None]
    measure = comparison.main
    header = ["group", *(f"after {at:.3g} {cost.unit}" for cost, at in spent), "at its end"]
    rows: list[list[Cell]] = []
    for group in comparison.groups:
        errors = [errors_at(group, measure, cost, at) for cost, at in spent]
        rows.append([group.label, *map(Spread.of, errors), errors_cell(group, measure)])
    table = Table(f"Errors at equal cost, {comparison.name_of(measure, 1)}, %", header, rows).used()
    return table if any(name.startswith("after ") for name in table.header) else None


def legend_table(comparison: Comparison) -> Table | None:
    """What the numbers of groups stand for; None where their names say it."""
    rows: list[list[Cell]] = [[group.label, group.spelled] for group in comparison.groups if group.spelled]
    return Table("What the groups are", ["group", "what it is"], rows) if rows else None


def conclusion_table(conclusion: Conclusion) -> Table:
    """A row for each finding behind a conclusion: the two errors, their difference, its interval and the verdict."""
    measure, top = conclusion.findings[0].measure, conclusion.findings[0].top
    error, each = measure.error(top), unit(conclusion.findings[0].seeds.by_seed)
    header = ["A - B", f"{error} of A, %", f"{error} of B, %", "A - B, points", "95 % interval", f"{each}s", "verdict",
              "pixels, A to B", "time, A to B"]  # fmt: skip
    rows: list[list[Cell]] = []
    counts = {len(f.seeds.by_seed) for f in conclusion.findings}
    for f in conclusion.findings:
        firsts, seconds = [pair.first for pair in f.pairs], [pair.second for pair in f.pairs]
        row: list[Cell] = [f.label]
        for groups in (seconds, firsts):
            row.append(f"{fmean(e for g in groups for e in g.errors(measure, top).values()):.2f}")
        seeds, interval = len(f.seeds.by_seed), f.seeds.interval
        unknown = no_interval(f.seeds.by_seed)
        row += [signed(f.seeds.mean), unknown if interval is None else span(*interval)]
        row.append(str(seeds) if len(counts) > 1 else None)
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
    return Table("Runs", ["group", comparison.unit, comparison.name_of(main, 1), "folder"], rows)


def introduction(comparison: Comparison) -> str:
    """What was found and measured, in a few sentences."""
    runs, groups = comparison.runs, len(comparison.groups)
    text = f"{len(runs)} finished run{'s' * (len(runs) != 1)} in {groups} group{'s' * (groups != 1)}"
    varied = listed(comparison.factors) or f"nothing but the {comparison.unit}"
    if varied.endswith(" keys"):
        varied += f" of {', '.join(comparison.factors)}"
    images = f", {comparison.image_count:,} validation images" if comparison.image_count else ""
    when = "" if comparison.main.protocol == DETECTION else ", last epoch"
    main = f"{comparison.main.in_words()} ({comparison.name_of(comparison.main, 1)})"
    return f"{text}; varied: {varied}. Main figure: {main}{images}{when}."


def cells_rule(comparison: Comparison) -> str:
    """What the cells of the tables are."""
    errors = "Errors are in per cent, of the last epoch, "
    if comparison.main.protocol == DETECTION:
        errors = f"{comparison.main.error()}: lower is better; "
    return f"{errors}mean ± std ({comparison.unit}s)."


class Content:
    """Everything that a report or TensorBoard says of a comparison, found once."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @classmethod
    def of(cls, comparison: Comparison) -> Content:
        """That of a comparison: the same one for whoever asks."""
        if comparison.content is None:
            comparison.content = cls(comparison)
        assert isinstance(comparison.content, cls)
        return comparison.content

    @cached_property
    def headline(self) -> list[Finding]:
        """What the pairs show under the main measure, top-1 and, with more than five classes, top-5."""
        return self._under(self.comparison.main)

    @cached_property
    def on_test(self) -> list[Finding]:
        """The same on the test images after the last epoch."""
        return [f for measure in self.comparison.test[:1] for f in self._under(measure)]

    @cached_property
    def elsewhere(self) -> list[Finding]:
        """What the pairs show under every other measure, corrected for all of them: who looks at thirty test sizes finds
        one that looks good."""
        comparison = self.comparison
        others = [m for m in comparison.measures[1:] if m not in comparison.test[:1]]
        by_top = ([f for m in others for f in findings(comparison, m, top)] for top in comparison.tops)
        found = [finding for family in by_top for finding in correct(family)]
        return sorted(found, key=lambda finding: others.index(finding.measure))

    def _under(self, measure: Measure) -> list[Finding]:
        return [f for top in self.comparison.tops for f in findings(self.comparison, measure, top)]

    @cached_property
    def conclusions(self) -> list[Conclusion]:
        """What the headline's top-1 errors answer."""
        return conclusions([finding for finding in self.headline if finding.top == 1])

    @property
    def sentences(self) -> list[str]:
        """One for each pair: under the main measure, and on the test images."""
        return [str(finding) for finding in self.headline + self.on_test if finding.top == 1]

    @cached_property
    def tables(self) -> dict[str, Table]:
        """By name, in the order of reading: those that there is anything for."""
        comparison, name_of = self.comparison, self.comparison.name_of
        on_test = f"Differences on the test images, {', '.join(map(name_of, comparison.test[:1]))}"
        found = {
            "legend": legend_table(comparison),
            "groups": groups_table(comparison),
            "equal_cost": equal_cost_table(comparison),
            "differences": _differences(f"Differences in {name_of(comparison.main)}", self.headline),
            "differences_on_test_images": _differences(on_test, self.on_test),
            "class_mean": class_mean_table(comparison),
            "every_size_and_protocol": measures_table(comparison),
            "differences_elsewhere": _differences("Differences at other sizes and protocols", self.elsewhere),
            "not_compared": refusals_table(comparison),
            "runs": runs_table(comparison),
        }
        return {name: table for name, table in found.items() if table is not None}


def _differences(title: str, found: list[Finding]) -> Table | None:
    return differences_table(title, found) if found else None
