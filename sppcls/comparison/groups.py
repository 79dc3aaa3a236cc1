"""Runs by what was varied: groups, the factors that tell them apart, and the pairs that may be compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from sppcls.comparison.answers import TEST, TEST_BEST, Answers, LabelAnswers, Measure
from sppcls.comparison.find import find_runs
from sppcls.comparison.labels import ABSENT, factors_of, group_labels, level_labels, swept, taken_for_one
from sppcls.comparison.runs import Run
from sppcls.config.same_run import flatten, is_factor
from sppcls.errors import ConfigError

# Which run it is and where it is written: of no interest beside the label of a group.
_NAMES = ("name", "run_name", "runs_dir", "ckpt_path", "seed", "data.fold")
# What decides which images are tested.
_IMAGES = (
    "data.name", "data.root", "data.labels", "data.train_dir", "data.val_dir", "data.test_dir", "data.val_fraction",
    "data.num_val", "data.multi_label", "data.folds", "trainer.limit_val_batches",
)  # fmt: skip


@dataclass
class Group:
    """Finished runs that differ in nothing but their seed.

    Attributes:
        label: short name, one of its own.
        values: of the keys that differ between groups.
        runs: one for each seed, by seed.
        levels: what it is in each factor, in a word: ``{"sizes": "single_224", "pyramid": "l6321"}``.
    """

    label: str
    values: dict[str, Any]
    runs: list[Run]
    levels: dict[str, str]

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
        """What both groups are in the other factors; empty if there are none."""
        return "-".join(level for factor, level in self.first.levels.items() if factor != self.factor)


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
    """

    factors: dict[str, list[str]]
    groups: list[Group]
    pairs: list[Pair]
    refused: list[Refusal]
    problems: list[str]
    unfinished: list[Run]

    @cached_property
    def main(self) -> Measure:
        """Where the headline error is measured: the main measure of most runs."""
        mains = [run.main for group in self.groups for run in group.runs]
        return max(dict.fromkeys(mains), key=mains.count)

    @cached_property
    def measures(self) -> list[Measure]:
        """Everything that any run has an error for: the main one first, then the same view at other sizes; those on the
        test images last."""
        found = {measure for group in self.groups for run in group.runs for measure in run.errors}

        def order(measure: Measure) -> tuple[str, bool, bool, str, int, str]:
            main = (measure.protocol, measure.size) != (self.main.protocol, self.main.size)
            other = measure.protocol != self.main.protocol
            name = measure.protocol if other else ""
            return measure.images, main, other, name, measure.side, measure.size

        return sorted(found, key=order)

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
        answers = (run.answers.get(self.main) for group in self.groups for run in group.runs)
        return (
            next((found.guessing for found in answers if isinstance(found, Answers | LabelAnswers)), None)
            or None
        )

    def name_of(self, measure: Measure, top: int | None = None) -> str:
        """What figures are called everywhere: ``val_224``, or with ``top`` 1 or 5 ``val_224/top1_error``."""
        views = {run.training_view for group in self.groups for run in group.runs}
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


def group_runs(runs: Sequence[Run], problems: Sequence[str] = (), baseline: str | None = None) -> Comparison:
    """Group runs by what was varied, and say which groups may be compared.

    Args:
        runs, problems: from :func:`~sppcls.comparison.find.find_runs`.
        baseline: label of a group that the others are compared with; None: every pair.

    Raises:
        ConfigError: not one run is finished, or no group is called ``baseline``.
    """
    problems = list(problems)
    unfinished = [run for run in runs if not run.finished]
    problems += [
        f"{run.folder}: unfinished, at epoch {run.epochs} of {run.planned_epochs}: left out"
        if run.epochs < run.planned_epochs
        else f"{run.folder}: trained for {run.epochs} epochs, its config says {run.planned_epochs}: left out"
        for run in unfinished
    ]
    finished = [run for run in runs if run.finished]
    if not finished:
        raise ConfigError(f"no run is finished yet; {problems[-1]}")
    settings = [_settings(run) for run in finished]
    problems += _unify_roots(finished, settings)
    factors, lines = factors_of(settings)
    problems += lines
    keys = [key for members in factors.values() for key in members]
    members: dict[str, list[Run]] = {}
    values: dict[str, dict[str, Any]] = {}
    for run, setting in zip(finished, settings, strict=True):
        value = {key: setting.get(key, ABSENT) for key in keys}
        members.setdefault(repr(value), []).append(run)
        values[repr(value)] = value
    groups = []
    levels = level_labels(list(values.values()), factors, [swept(found) for found in members.values()])
    named = zip(group_labels(members, levels), levels, members.items(), strict=True)
    for label, level, (name, found) in named:
        kept, lines = _one_per_seed(found)
        problems += taken_for_one(found, _NAMES) + lines
        groups.append(Group(label, values[name], kept, level))
    comparison = Comparison(factors, groups, [], [], problems, unfinished)
    first = None if baseline is None else comparison.group(baseline)
    for one, other in combinations(groups, 2):
        if first is None:
            _judge(comparison, *sorted((one, other), key=_extent))
        elif first in (one, other):
            _judge(comparison, *((other, one) if other is first else (one, other)))
    # One factor after the other, the sizes first.
    order = sorted(factors, key=lambda factor: factor != "sizes")
    comparison.pairs.sort(key=lambda pair: order.index(pair.factor))
    return comparison


def _extent(group: Group) -> tuple[int, int]:
    """Number of training sizes and of bins, where these were varied."""
    sizes, levels = group.values.get("sizes.sizes"), group.values.get("pyramid.levels")
    return len(sizes) if isinstance(sizes, list) else 0, bins(levels) or 0


def bins(levels: object) -> int | None:
    """Number of bins of ``pyramid.levels``; None without a pyramid."""
    if not isinstance(levels, list):
        return None
    return sum(n * n if isinstance(n, int) else n[0] * n[1] for n in levels)


def compare(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], baseline: str | None = None
) -> Comparison:
    """Group the runs below ``paths`` by what was varied.

    Args:
        paths: run folders, sweep folders, or folders above them; or one of these.
        baseline: label of a group that the others are compared with; None: every pair.

    Raises:
        ConfigError: a path cannot be read, there is no finished run, or no group is called ``baseline``.

    Examples:
        >>> comparison = sppcls.compare(["runs/single_vs_multi"])
        >>> [(group.label, group.seeds) for group in comparison.groups], comparison.refused
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | os.PathLike) for path in paths):
        raise ConfigError(f"paths={paths!r}: give folders of runs, such as ['runs/shapes']")
    return group_runs(*find_runs(paths), baseline)


def _settings(run: Run) -> dict[str, Any]:
    # What a sweep varied on purpose is not ignored, were it the number of threads.
    kept = {key: value for key, value in flatten(run.config).items() if is_factor(key) or key in run.values}
    for key in ("data.root", "detection.data", "detection.checkpoint"):
        if kept.get(key):
            kept[key] = os.path.realpath(os.path.expanduser(str(kept[key])))
    return kept


def _unify_roots(runs: Sequence[Run], settings: Sequence[dict[str, Any]]) -> list[str]:
    """One data set may lie in another place on another machine: the images tested tell. A line where it does."""
    tested = {run.answers[run.main].images if run.main in run.answers else None for run in runs}
    roots = dict.fromkeys(str(setting.get("data.root")) for setting in settings)
    if len(roots) == 1 or len(tested) > 1 or None in tested or len({Path(root).name for root in roots}) > 1:
        return []
    for setting in settings:
        setting.pop("data.root", None)
    return [f"taken for one data set, as name and tested images are the same: {', '.join(roots)}"]


def _one_per_seed(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    kept: dict[int, Run] = {}
    lines = []
    for run in sorted(runs, key=lambda run: (run.written.st_mtime_ns, run.name)):
        if run.seed in kept:
            lines.append(f"{kept[run.seed].folder}: {run.folder} is a newer run of the same seed: left out")
        kept[run.seed] = run
    return [kept[seed] for seed in sorted(kept)], lines


def _judge(comparison: Comparison, first: Group, second: Group) -> None:
    keys = [key for key in first.values if repr(first.values[key]) != repr(second.values[key])]
    factors = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    reason = None
    if len(factors) > 1:
        words = ", ".join(factors[:-1]) + f" and {factors[-1]}"
        reason = f"differ in {words} ({', '.join(keys)})"
    elif not set(first.seeds) & set(second.seeds):
        reason = f"have no seed in common ({_list(first.seeds)}; {_list(second.seeds)})"
    else:
        reason = _other_images(first, second, keys) or _nothing_in_common(comparison, first, second)
    if reason is None:
        comparison.pairs.append(Pair(first, second, factors[0], keys))
    else:
        comparison.refused.append(Refusal(first, second, reason, keys if len(factors) > 1 else []))


def _other_images(first: Group, second: Group, keys: Sequence[str]) -> str | None:
    """Why two groups may have been tested on different images; None if they were not."""
    known = False
    for seed in sorted({*first.seeds} & {*second.seeds}):
        one, other = first.run(seed), second.run(seed)
        for measure in one.answers.keys() & other.answers.keys():
            known = known or not measure.images
            if one.answers[measure].images != other.answers[measure].images:
                return "have different test images" if measure.images else "were tested on different images"
    deciding = [key for key in keys if key in _IMAGES]
    return (
        f"may have been tested on different images ({', '.join(deciding)})"
        if deciding and not known
        else None
    )


def _nothing_in_common(comparison: Comparison, first: Group, second: Group) -> str | None:
    """Why no error of one group stands against one of the other; None if some do. A line if the main ones do not."""
    common = {m for m in comparison.measures if first.errors(m).keys() & second.errors(m).keys()}
    if not common:
        return (
            "have no size and protocol in common "
            f"({comparison.name_of(first.runs[0].main)}; {comparison.name_of(second.runs[0].main)})"
        )
    if comparison.main not in common:
        comparison.problems.append(
            f"{first.label} / {second.label}: {comparison.name_of(comparison.main)} is not known of both, so they are compared at other sizes "
            "and protocols only; sizes.val_sizes sets the sizes"
        )
    return None


def _list(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
