"""Runs by what was varied: groups, the factors that tell them apart, and the pairs that may be compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from sppcls.comparison.find import find_runs
from sppcls.comparison.groups import Comparison, Group, Pair, Refusal
from sppcls.comparison.labels import (
    ABSENT,
    differing,
    factors_of,
    group_labels,
    level_labels,
    listed,
    numbered,
    settings_of,
    taken_for_one,
)
from sppcls.comparison.runs import Run
from sppcls.errors import ConfigError

# Which run it is and where it is written: of no interest beside the label of a group.
_NAMES = ("name", "run_name", "runs_dir", "ckpt_path", "seed", "data.fold")
# What decides which images are tested.
_IMAGES = (
    "data", "data.root", "data.labels", "data.train_dir", "data.val_dir", "data.test_dir", "data.val_fraction",
    "data.num_val", "data.multi_label", "data.folds", "trainer.limit_val_batches",
)  # fmt: skip


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


def group_runs(runs: Sequence[Run], problems: Sequence[str] = (), baseline: str | None = None) -> Comparison:
    """Group runs by what was varied, and say which groups may be compared.

    Args:
        runs, problems: from :func:`~sppcls.comparison.find.find_runs`.
        baseline: label of a group that the others are compared with; None: every pair.

    Raises:
        ConfigError: not one run is finished, or no group is called ``baseline``.
    """
    problems = [*problems, *(_why_unfinished(run) for run in runs if not run.finished)]
    finished = [run for run in runs if run.finished]
    if not finished:
        raise ConfigError(f"no run is finished yet; {problems[-1]}")
    settings = [settings_of(run) for run in finished]
    problems += _unify_roots(finished, settings)
    factors, lines = factors_of(settings)
    problems += lines
    keys = [key for of_factor in factors.values() for key in of_factor]
    alike: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for run, setting in zip(finished, settings, strict=True):
        value = {key: setting.get(key, ABSENT) for key in keys}
        alike.setdefault(repr(value), (value, []))[1].append(run)
    values, members = zip(*alike.values(), strict=True)
    full = level_labels(members, values, factors)
    columns = [numbered([level[factor] for level in full], factor) for factor in factors]
    levels = [dict(zip(factors, row, strict=True)) for row in zip(*columns, strict=True)] or [{}]
    names = group_labels(members, levels)
    groups = []
    for label, value, found, level, words in zip(names, values, members, levels, full, strict=True):
        kept, lines = _one_per_seed(found)
        problems += taken_for_one(found, _NAMES) + lines
        said = [f"{level[f]}: {word}" if level[f] != word else word for f, word in words.items()]
        numbers = levels != full or (len(names) > 1 and names[0] == "group 1")
        groups.append(Group(label, value, kept, level, "; ".join(said) if numbers else ""))
    unfinished = [run for run in runs if not run.finished]
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
    """Number of training sizes and of bins."""
    run = group.runs[0]
    return len(run.sizes), run.bins or 0


def _why_unfinished(run: Run) -> str:
    done, planned = run.epochs, run.planned_epochs
    if done < planned:
        return f"{run.folder}: unfinished, at epoch {done} of {planned}: left out"
    return f"{run.folder}: trained for {done} epochs, its config says {planned}: left out"


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
    factors: dict[str, list[str]] = {}
    for key in differing(first.values, second.values):
        factors.setdefault(key.partition(".")[0], []).append(key)
    reason = None
    if len(factors) > 1:
        *most, last = factors
        reason = f"differ in {', '.join(most)} and {last} ({listed(factors)})"
    elif not set(first.seeds) & set(second.seeds):
        reason = f"have no seed in common ({_list(first.seeds)}; {_list(second.seeds)})"
    else:
        reason = _other_images(first, second, keys) or _nothing_in_common(comparison, first, second)
    if reason is None:
        comparison.pairs.append(Pair(first, second, next(iter(factors)), keys))
    else:
        several = [key for found in factors.values() for key in found] if len(factors) > 1 else []
        comparison.refused.append(Refusal(first, second, reason, several))


def _other_images(first: Group, second: Group, keys: Sequence[str]) -> str | None:
    """Why two groups may have been tested on different images; None if they were not."""
    known = False
    for seed in sorted({*first.seeds} & {*second.seeds}):
        one, other = first.run(seed), second.run(seed)
        for measure in one.answers.keys() & other.answers.keys():
            known = known or not measure.images
            if one.answers[measure].images != other.answers[measure].images:
                return "have different test images" if measure.images else "were tested on different images"
    deciding = ", ".join(key for key in keys if key in _IMAGES)
    return f"may have been tested on different images ({deciding})" if deciding and not known else None


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
