"""Grouping runs, refusing to compare, and what is said about a pair."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from written_runs import misses, save_answers, write_run, write_sweep

from sppcls.comparison import Comparison, Measure, compare
from sppcls.comparison.findings import Finding, Verdict, findings
from sppcls.comparison.report.content import refusals
from sppcls.errors import ConfigError


def labels(comparison: Comparison) -> list[str]:
    return [group.label for group in comparison.groups]


def some_right(seed: int, error: float, count: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).random(count) >= error / 100


def write_groups(folder: Path, seeds: int, **groups: Any) -> Comparison:
    """Groups with other learning rates; each a list with what the network of each seed got right, or its error."""
    for rate, (name, members) in enumerate(groups.items()):
        for seed in range(seeds):
            given = members[seed]
            kind = "right" if isinstance(given, np.ndarray) else "error"
            write_run(folder / f"{name}-{seed}", seed=seed, **{kind: given}, optimizer__lr=float(rate + 1))
    return compare([folder])


def only(comparison: Comparison) -> Finding:
    (found,) = findings(comparison)
    return found


def test_seeds_are_replicates_and_what_does_not_matter_is_no_factor(tmp_path: Path) -> None:
    for seed in range(3):
        write_run(
            tmp_path / f"a{seed}", seed=seed, error=20 + seed, data__workers=seed, trainer__threads=seed + 1,
            run_name=f"run {seed}", sizes__val_sizes=[96], log__images=bool(seed), ckpt_path="auto",
        )  # fmt: skip
    comparison = compare([tmp_path])
    assert comparison.factors == {}
    assert [group.seeds for group in comparison.groups] == [[0, 1, 2]]
    assert comparison.groups[0].errors(comparison.main) == {0: 20, 1: 21, 2: 22}
    assert comparison.pairs == []


def test_groups_are_named_after_what_was_varied(tmp_path: Path) -> None:
    write_run(tmp_path / "a", error=20)
    write_run(tmp_path / "b", error=20, pyramid__levels=None)
    write_run(tmp_path / "c", error=20, sizes__kind="alternate", sizes__sizes=[96, 72])
    write_run(tmp_path / "d", error=20, optimizer__lr=0.5)
    comparison = compare([tmp_path])
    assert labels(comparison) == [
        "single_96-l321-lr=0.01", "single_96-none-lr=0.01", "multi_96_72-l321-lr=0.01", "single_96-l321-lr=0.5",
    ]  # fmt: skip
    a, b, c, d = labels(comparison)
    # The sizes first; one size and fewer bins are what the others are judged against.
    assert [(p.first.label, p.second.label, p.factor) for p in comparison.pairs] == [
        (a, c, "sizes"), (b, a, "pyramid"), (a, d, "optimizer"),
    ]  # fmt: skip
    assert [pair.context for pair in comparison.pairs] == [
        "l321-lr=0.01",
        "single_96-lr=0.01",
        "single_96-l321",
    ]


def test_names_of_experiments_and_words_of_a_sweep_come_first(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", error=20, name="with")
    write_run(tmp_path / "runs" / "b", error=20, name="without", pyramid__levels=None)
    assert labels(compare([tmp_path / "runs"])) == ["with", "without"]
    jobs = {f"{cell}-seed0": {"cell": cell, "seed": "0"} for cell in ("zebra", "ape")}
    write_sweep(tmp_path / "sweep", jobs)
    write_run(tmp_path / "sweep" / "ape-seed0", error=20)
    write_run(tmp_path / "sweep" / "zebra-seed0", error=20, pyramid__levels=None)
    assert labels(compare([tmp_path / "sweep"])) == ["zebra", "ape"]
    write_sweep(tmp_path / "words", {f"{p}-seed0": {"pyramid": p, "seed": "0"} for p in ("none", "l1")})
    write_run(tmp_path / "words" / "none-seed0", error=20, pyramid__levels=None)
    write_run(tmp_path / "words" / "l1-seed0", error=20, pyramid__levels=[1])
    assert labels(compare([tmp_path / "words"])) == ["pyramid=none", "l1"]


def test_more_than_one_difference_is_refused_and_named(tmp_path: Path) -> None:
    write_sweep(tmp_path, {f"{c}-seed0": {"cell": c, "seed": "0"} for c in ("spp", "nospp")})
    write_run(tmp_path / "spp-seed0", error=20)
    write_run(
        tmp_path / "nospp-seed0",
        error=22,
        pyramid__levels=None,
        sizes__kind="alternate",
        sizes__sizes=[96, 72],
    )
    comparison = compare([tmp_path])
    assert comparison.pairs == []
    (refusal,) = comparison.refused
    assert (refusal.first.label, refusal.second.label) == ("spp", "nospp")
    assert refusal.reason == "differ in sizes and pyramid (sizes.kind, sizes.sizes, pyramid.levels)"


def test_other_images_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", right=misses(40, 1), data__root="here")
    write_run(tmp_path / "b", right=misses(30, 1), data__root="there")
    write_run(tmp_path / "c", error=20, data__root="elsewhere")
    reasons = [refusal.reason for refusal in compare([tmp_path]).refused]
    assert reasons[0] == "were tested on different images"
    assert reasons[1:] == ["may have been tested on different images (data.root)"] * 2


def test_one_data_set_in_two_places_is_one_data_set(tmp_path: Path) -> None:
    write_run(tmp_path / "a", right=misses(40, 1), data__root="/one/photos")
    write_run(tmp_path / "b", right=misses(40, 2), data__root="/two/photos", pyramid__levels=None)
    comparison = compare([tmp_path])
    assert list(comparison.factors) == ["pyramid"]
    assert len(comparison.pairs) == 1
    assert comparison.problems == [
        "taken for one data set, as name and tested images are the same: /one/photos, /two/photos"
    ]


def test_what_a_sweep_varied_on_purpose_is_a_factor(tmp_path: Path) -> None:
    write_sweep(tmp_path, {f"{n}-seed0": {"trainer.threads": str(n), "seed": "0"} for n in (1, 2)})
    for threads in (1, 2):
        write_run(tmp_path / f"{threads}-seed0", error=20, trainer__threads=threads)
    comparison = compare([tmp_path])
    assert comparison.factors == {"trainer": ["trainer.threads"]}
    assert labels(comparison) == ["threads=1", "threads=2"]


def test_no_seed_in_common_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", seed=0, error=20)
    write_run(tmp_path / "b", seed=1, error=20, pyramid__levels=None)
    (refusal,) = compare([tmp_path]).refused
    assert refusal.reason == "have no seed in common (seed 1; seed 0)"


def test_groups_without_a_measure_in_common_are_named_and_not_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path / "large", error=20)
    write_run(tmp_path / "large1", seed=1, error=20)
    write_run(tmp_path / "small", error=20, sizes__sizes=[72])
    write_run(tmp_path / "both", error=20, sizes__sizes=[96, 72], sizes__kind="alternate")
    comparison = compare([tmp_path])
    assert comparison.main == Measure("center", "96")
    (refusal,) = comparison.refused
    assert {refusal.first.label, refusal.second.label} == {"single_96", "single_72"}
    assert refusal.reason == "have no size and protocol in common (val_96; val_72)"
    (line,) = comparison.problems
    assert line.startswith("single_72 / multi_96_72: val_96 is not known of both, so")
    assert len(findings(comparison)) == 1  # multi_96_72 and single_96
    assert len(findings(comparison, Measure("center", "72"))) == 1


def test_unfinished_runs_are_left_out_and_named(tmp_path: Path) -> None:
    write_run(tmp_path / "a", error=20, trainer__max_epochs=20)
    half = write_run(tmp_path / "b", seed=1, error=20, epochs=7, trainer__max_epochs=20)
    more = write_run(tmp_path / "c", seed=2, error=20, epochs=25, trainer__max_epochs=20)
    comparison = compare([tmp_path])
    assert comparison.groups[0].seeds == [0]
    assert f"{half}: unfinished, at epoch 7 of 20: left out" in comparison.problems
    assert f"{more}: trained for 25 epochs, its config says 20: left out" in comparison.problems
    with pytest.raises(ConfigError, match="no run is finished yet; .*at epoch 7 of 20"):
        compare([half])


def test_of_two_runs_of_a_seed_the_newer_one_counts(tmp_path: Path) -> None:
    older = write_run(tmp_path / "z", error=20)
    newer = write_run(tmp_path / "a", error=30)
    os.utime(older / "metrics.csv", (1, 1))
    comparison = compare([tmp_path])
    assert comparison.groups[0].errors(comparison.main) == {0: 30}
    assert comparison.problems == [f"{older}: {newer} is a newer run of the same seed: left out"]


def test_a_key_that_older_versions_did_not_have_is_said_and_is_no_factor(tmp_path: Path) -> None:
    write_run(tmp_path / "a", error=20, old=True)
    write_run(tmp_path / "b", error=20, pyramid__levels=None, optimizer__foreach=True)
    comparison = compare([tmp_path])
    assert list(comparison.factors) == ["pyramid"]
    assert comparison.problems == [
        "not in the config of every run, and taken to be the same in all: optimizer.foreach=True"
    ]


def test_a_baseline_is_the_first_of_every_pair(tmp_path: Path) -> None:
    comparison = write_groups(tmp_path, 2, a=[20.0, 21.0], b=[22.0, 21.0], c=[20.0, 20.5])
    assert len(comparison.pairs) == 3
    against = compare([tmp_path], baseline="lr=2.0")
    assert [(p.first.label, p.second.label) for p in against.pairs] == [
        ("lr=2.0", "lr=1.0"),
        ("lr=2.0", "lr=3.0"),
    ]
    with pytest.raises(ConfigError, match=r"--baseline lr=7: no such group; choose from lr=1.0, lr=2.0"):
        compare([tmp_path], baseline="lr=7")


def test_a_clear_difference_is_shown(tmp_path: Path) -> None:
    a = [some_right(seed, 40) for seed in range(3)]
    b = [right | (np.random.default_rng(9 + seed).random(400) < 0.5) for seed, right in enumerate(a)]
    found = only(write_groups(tmp_path, 3, a=a, b=b))
    assert found.verdict == Verdict.SHOWN
    assert found.interval is not None
    assert found.interval[1] < 0
    assert found.images == 400
    expected = stats.ttest_rel([100 * (~r).mean() for r in b], [100 * (~r).mean() for r in a])
    assert found.p == pytest.approx(expected.pvalue)
    assert "difference shown. lr=2.0 is " in str(found)
    assert " percentage points lower than lr=1.0" in str(found)
    assert "over 3 seeds" in str(found)


def test_a_difference_smaller_than_the_spread_is_not(tmp_path: Path) -> None:
    found = only(write_groups(tmp_path, 3, a=[20.0, 25.0, 22.0], b=[21.0, 22.0, 24.0]))
    assert found.verdict == Verdict.NOT_SHOWN
    assert "no difference shown. lr=2.0 and lr=1.0 are equal over 3 seeds, 95 % interval -" in str(found)


def test_few_images_veto_what_the_seeds_show(tmp_path: Path) -> None:
    # About one image of 40 more for every seed: steady over the seeds, but hardly anything in images.
    a = [misses(40, 1, 2, 3), misses(40, 1, 2, 3, 4), misses(40, 1, 2)]
    b = [misses(40, 1, 2, 3, 9, 8), misses(40, 1, 2, 3, 4, 9), misses(40, 1, 2, 9, 8)]
    found = only(write_groups(tmp_path, 3, a=a, b=b))
    assert found.p is not None
    assert found.seeds.by_seed == pytest.approx({0: 5.0, 1: 2.5, 2: 5.0})
    assert found.p < 0.05
    assert found.interval is not None
    assert found.interval[0] == 0
    assert found.verdict == Verdict.NOT_SHOWN


def test_several_pairs_are_corrected(tmp_path: Path) -> None:
    a, b, c = [20.0, 21.0, 22.0], [21.0, 22.8, 23.4], [20.5, 20.0, 22.4]
    assert only(write_groups(tmp_path / "two", 3, a=a, b=b)).verdict == Verdict.SHOWN
    found = findings(write_groups(tmp_path / "three", 3, a=a, b=b, c=c))
    plain = [stats.ttest_rel(second, first).pvalue for first, second in ((a, b), (a, c), (b, c))]
    assert [f.p for f in found] == pytest.approx(plain)
    assert plain[0] == min(plain)
    assert found[0].corrected == pytest.approx(3 * plain[0])
    assert plain[0] < 0.05 < 3 * plain[0]
    assert found[0].verdict == Verdict.NOT_SHOWN
    assert str(found[0]).endswith(
        "so the seeds alone decide; p = 0.026, but 0.078 as one of several comparisons"
    )


def test_the_same_difference_for_every_seed_has_no_interval(tmp_path: Path) -> None:
    found = only(write_groups(tmp_path, 2, a=[20.0, 22.0], b=[21.0, 23.0]))
    assert found.verdict == Verdict.NOT_SHOWN
    assert "the same for each" in str(found)


def test_one_seed_speaks_of_two_networks_only(tmp_path: Path) -> None:
    a = misses(100, *range(20))
    b = misses(100, 0, 1)
    found = only(write_groups(tmp_path / "shown", 1, a=[a], b=[b]))
    assert found.verdict == Verdict.NETWORKS
    assert found.tests[0].p == pytest.approx(stats.binomtest(0, 18).pvalue)
    text = str(found)
    assert "no interval over seeds" in text
    assert "of 100 images 0 were right only with lr=1.0, 18 only with lr=2.0" in text
    assert text.endswith("this says nothing about another training run")
    none = only(write_groups(tmp_path / "none", 1, a=[20.0], b=[10.0]))
    assert none.verdict == Verdict.NOT_SHOWN
    assert str(none).endswith("nothing can be said of this difference")


def test_other_measures_are_compared_where_both_have_them(tmp_path: Path) -> None:
    for name, levels in (("a", None), ("b", [2, 1])):
        folder = write_run(tmp_path / name, right=misses(40, 1), pyramid__levels=levels)
        save_answers(folder / "evaluation-last" / "full_64.npz", misses(40, 1, 2), protocol="full", size="64")
        (folder / "evaluation-last" / "errors.csv").write_text("protocol\n")
    shutil.rmtree(tmp_path / "a" / "predictions")
    comparison = compare([tmp_path])
    assert comparison.measures == [Measure("center", "96"), Measure("full", "64")]
    (full,) = findings(comparison, Measure("full", "64"))
    assert full.images == 40
    assert findings(comparison)[0].images == 0
    assert findings(comparison, Measure("full", "7")) == []


def test_cells_that_differ_in_nothing_that_counts_are_said_to_be_one_group(tmp_path: Path) -> None:
    cells = {"one": 1, "two": 2, "other": 1}
    write_sweep(tmp_path, {f"{cell}-seed0": {"cell": cell, "seed": "0"} for cell in cells})
    for cell, threads in cells.items():
        levels = None if cell == "other" else [3, 2, 1]
        write_run(
            tmp_path / f"{cell}-seed0",
            error=20,
            trainer__threads=threads,
            run_name=cell,
            pyramid__levels=levels,
        )
    comparison = compare([tmp_path])
    assert len(comparison.groups) == 2
    assert comparison.problems[0] == "one, two: taken for one group, as nothing differs but trainer.threads"
    assert len(comparison.problems) == 2  # and that the older of the two is left out


def test_trials_of_a_search_go_by_their_names(tmp_path: Path) -> None:
    search = tmp_path / "small"
    for number in range(3):
        write_run(
            search / f"trial-000{number}",
            error=20,
            optimizer__lr=0.1 * number + 0.1,
            pyramid__levels=[number + 1],
        )
    (search / "search.json").write_text("{}")
    assert labels(compare([search])) == ["trial-0000", "trial-0001", "trial-0002"]
    assert labels(compare([search / "trial-0002", search / "trial-0001"])) == ["trial-0002", "trial-0001"]


def test_many_pairs_that_are_not_compared_are_counted_by_what_differs(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    for number in range(4):
        write_run(
            folder / f"a{number}", error=20, optimizer__lr=0.1 * number + 0.1, pyramid__levels=[number + 1]
        )
    comparison = compare([folder])
    pyramid_and_rate = "differ in pyramid and optimizer (pyramid.levels, optimizer.lr)"
    assert [reason for _, reason in refusals(comparison)] == [pyramid_and_rate] * 6
    # With its own batch size a fifth run differs from the others in three.
    write_run(folder / "b", error=20, optimizer__lr=9.0, pyramid__levels=None, data__batch_size=2)
    assert refusals(compare([folder])) == [
        ("6 pairs", pyramid_and_rate),
        ("4 pairs", "differ in data, pyramid and optimizer (data.batch_size, pyramid.levels, optimizer.lr)"),
    ]
    # Trials of a search draw every key, so that all that differs stands in one line.
    (folder / "search.json").write_text("{}")
    assert refusals(compare([folder])) == [
        ("10 pairs", "differ in several of pyramid.levels, optimizer.lr, data.batch_size")
    ]


def test_what_the_seeds_alone_decide_says_so(tmp_path: Path) -> None:
    alone = "the answers for each image were not kept for all of these runs, so the seeds alone decide"
    assert alone in str(only(write_groups(tmp_path / "errors", 2, a=[20.0, 22.0], b=[21.0, 26.0])))
    right = [some_right(seed, 20) for seed in range(4)]
    assert alone not in str(only(write_groups(tmp_path / "kept", 2, a=right[:2], b=right[2:])))
    for path in (tmp_path / "kept").glob("b-1/predictions/*.npz"):
        path.unlink()
    assert alone in str(only(compare([tmp_path / "kept"])))
