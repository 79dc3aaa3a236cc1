"""One comparison counted on paper: every sign, order and unit of what is shown of it."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from written_runs import misses, save_answers, write_run

from sppcls.cli.main import main
from sppcls.comparison import Comparison, compare
from sppcls.comparison.conclusions import conclusions
from sppcls.comparison.findings import Finding, Verdict, findings
from sppcls.comparison.report.content import conclusion_table, differences_table
from sppcls.comparison.report.pictures import by_group, differences
from sppcls.comparison.statistics import images_needed, seeds_needed, smallest_shown
from sppcls.comparison.style import style_of

# Of 40 images, each 2.5 points: the number that a run of seed 0, 1 and 2 gets wrong.
WRONG = {
    ("single", "l321"): (8, 10, 9),
    ("multi", "l321"): (6, 9, 9),
    ("single", "l1"): (12, 13, 12),
    ("multi", "l1"): (12, 11, 13),
}
BY_SEED = {"l321": (-5.0, -2.5, 0.0), "l1": (0.0, -5.0, 2.5), "pooled": (-2.5, -3.75, 1.25)}
LEVELS = {"l321": [3, 2, 1], "l1": [1]}


def wrong_images(sizes: str, count: int) -> np.ndarray:
    """The first ones; of multi-size runs image 20 stands for the last of them."""
    return misses(40, *range(count)) if sizes == "single" else misses(40, *range(count - 1), 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs, those at several sizes first."""
    folder = tmp_path_factory.mktemp("photos")
    for number, (sizes, pyramid) in enumerate(reversed(WRONG)):
        kind = {"sizes__kind": "alternate", "sizes__sizes": [96, 72]} if sizes == "multi" else {}
        for seed, count in enumerate(WRONG[sizes, pyramid]):
            write_run(
                folder / f"{number}-{seed}",
                seed=seed,
                right=wrong_images(sizes, count),
                pyramid__levels=LEVELS[pyramid],
                **kind,
            )
    return folder


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    return compare([folder])


@pytest.fixture(scope="module")
def of_sizes(comparison: Comparison) -> dict[str, Finding]:
    """By the context."""
    found = {f.context: f for f in findings(comparison) if f.factor == "sizes"}
    return {"pooled" if name.startswith("pooled over ") else name: f for name, f in found.items()}


def test_a_difference_is_several_sizes_minus_one_whichever_ran_first(of_sizes: dict[str, Finding]) -> None:
    assert list(of_sizes) == ["l1", "l321", "pooled"]
    for name, finding in of_sizes.items():
        assert tuple(finding.seeds.by_seed.values()) == pytest.approx(BY_SEED[name])
        test = stats.ttest_1samp(BY_SEED[name], 0)
        assert finding.seeds.interval == pytest.approx(tuple(test.confidence_interval()))
        assert finding.p == pytest.approx(test.pvalue)
        assert finding.verdict == Verdict.NOT_SHOWN
    assert of_sizes["l321"].label == "multi_96_72 - single_96, l321"
    assert of_sizes["pooled"].label == "multi_96_72 - single_96, pooled over l1, l321"
    assert "multi_96_72-l321 is 2.50 percentage points lower than single_96-l321" in str(of_sizes["l321"])


def test_the_pooled_interval_over_images_is_that_of_all_pairs_together(of_sizes: dict[str, Finding]) -> None:
    gain = np.zeros(40)
    for (sizes, _), counts in WRONG.items():
        for count in counts:
            gain += (1 if sizes == "single" else -1) * wrong_images(sizes, count) / 6
    drawn = np.random.default_rng(5).integers(0, 40, (20_000, 40))
    low, high = np.percentile(100 * gain[drawn].mean(1), [2.5, 97.5])
    assert of_sizes["pooled"].images == 40
    assert of_sizes["pooled"].interval == pytest.approx((low, high), abs=0.25)


def test_all_are_corrected_as_one_family(comparison: Comparison) -> None:
    found = findings(comparison)
    assert len(found) == 6  # two of each factor and two pooled
    ordered = sorted(found, key=lambda finding: finding.p or 0)
    largest = 0.0
    for rank, finding in enumerate(ordered):
        largest = max(largest, min(1.0, (6 - rank) * (finding.p or 0)))
        assert finding.corrected == pytest.approx(largest)


def test_only_a_right_is_counted_for_a(of_sizes: dict[str, Finding]) -> None:
    # Seed 0 of l321: single misses 0 to 7, multi 0 to 4 and 20. So 5, 6 and 7 are right only with multi, 20 only with single.
    (row,) = csv.DictReader(io.StringIO(differences_table("", [of_sizes["l321"]]).csv()))
    assert row["A - B"] == "multi_96_72-l321 - single_96-l321"
    assert row["A - B, points"] == "-2.50"
    column = "right only with A / only with B, by seed (McNemar)"
    p = stats.binomtest(1, 4).pvalue
    assert row[column].startswith(f"0: 3/1, p = {p:.3f}; 1: 2/1, p = 1.000")


def test_files_of_predictions_are_subtracted_and_counted_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = str(tmp_path / "one.npz"), str(tmp_path / "other.npz")
    save_answers(Path(one), wrong_images("single", 8))
    save_answers(Path(other), wrong_images("multi", 6))
    assert main(["compare", one, other, "--format", "csv"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out.partition("\n\n")[2])))
    assert row["A - B"] == f"{other} - {one}"
    assert (row["A - B, points"], row["right only in A"], row["right only in B"]) == ("-5.00", "3", "1")
    assert main(["compare", one, other]) == 0
    assert (
        f"no difference shown: {other} is 5.00 percentage points lower than {one}" in capsys.readouterr().out
    )


def test_a_conclusion_names_the_error_that_was_measured(comparison: Comparison) -> None:
    measure = comparison.main._replace(multi_label=True)
    found = [dataclasses.replace(finding, measure=measure) for finding in findings(comparison)]
    assert {c.sentence.partition(":")[0] for c in conclusions(found)} == {"100 - mAP"}


def test_the_question_of_the_sizes_comes_first_with_its_answer(comparison: Comparison) -> None:
    sizes, pyramid = conclusions(findings(comparison))
    assert (sizes.question, sizes.answer) == (
        "Are several sizes better than one?",
        "No difference shown",
    )
    assert sizes.sentence == (
        "Top-1 error: multi_96_72 is 1.67 percentage points lower than single_96 (pooled over l1, l321), "
        "95 % interval -8.13 to +4.80."
    )  # -1.67 plus and minus 4.303 x 2.602 / sqrt(3)
    assert (pyramid.question, pyramid.answer) == ("Is l321 better than l1?", "No difference shown")
    table = conclusion_table(sizes)
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["A - B, points"] for row in rows] == ["-0.83", "-2.50", "-1.67"]
    # 36 + 36 of 120 images at several sizes, 37 + 27 at one.
    assert [(row["top-1 error of A, %"], row["top-1 error of B, %"]) for row in rows] == [
        ("30.00", "30.83"), ("20.00", "22.50"), ("25.00", "26.67"),
    ]  # fmt: skip
    # An epoch at 96 and one at 72 against two at 96.
    assert {row["pixels, A to B"] for row in rows} == {f"{100 * ((96**2 + 72**2) / (2 * 96**2) - 1):.0f} %"}


@pytest.mark.parametrize(("change", "answer"), [(-8, "Yes"), (8, "No, they are worse")])
def test_what_is_shown_is_a_yes_or_a_no(tmp_path: Path, change: int, answer: str) -> None:
    for seed, error in enumerate((30.0, 31.0, 33.0)):
        write_run(tmp_path / f"one{seed}", seed=seed, error=error)
        several = {"sizes__kind": "alternate", "sizes__sizes": [96, 72]}
        write_run(tmp_path / f"two{seed}", seed=seed, error=error + change + 0.1 * seed, **several)
    comparison = compare([tmp_path])
    (found,) = conclusions(findings(comparison))
    assert (found.question, found.answer) == ("Are several sizes better than one?", answer)


def test_many_levels_name_the_best_and_what_it_is_shown_to_beat(tmp_path: Path) -> None:
    for levels, errors in (
        ([1], (40.0, 41.0, 42.0)),
        ([2, 1], (30.0, 31.1, 31.9)),
        ([3, 1], (30.2, 30.9, 32.5)),
    ):
        for seed, error in enumerate(errors):
            write_run(
                tmp_path / f"{len(levels)}{levels[0]}{seed}", seed=seed, error=error, pyramid__levels=levels
            )
    comparison = compare([tmp_path])
    (found,) = conclusions(findings(comparison))
    assert (found.question, found.answer) == ("Which pyramid is best?", "l21, better than some others")
    assert "l21 has the lowest mean error, 31.00 %; shown to be higher: l1; not shown: l31." in found.sentence


def test_terminal_and_page_begin_with_the_answer(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["compare", str(folder), "--out", str(tmp_path / "out")]) == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert first == "Are several sizes better than one? No difference shown"
    assert "multi_96_72 is 1.67 percentage points lower than single_96" in second
    assert "l1: -0.83 [" in third
    assert "(multi_96_72 minus single_96, 95 % interval), 3 seeds each" in third
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert text.startswith(
        "# Comparison\n\n**Are several sizes better than one? No difference shown.** Top-1 error: multi_96_72 is 1.67"
    )


def test_dots_and_intervals_are_drawn_where_they_are(comparison: Comparison) -> None:
    found = findings(comparison)
    axes = differences(found).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f.label.replace(", ", "\n", 1) for f in found
    ]
    for place, finding in enumerate(found):
        at = [
            line for line in axes.lines if list(line.get_ydata())[:1] == [place] and line.get_xdata()[0] != 0
        ]
        drawn = {round(x, 6) for line in at for x in line.get_xdata()}
        assert {round(x, 6) for x in (*finding.seeds.interval, finding.seeds.mean)} <= drawn
    low, high = by_group(comparison).axes[0].get_xlim()
    assert 10 < low < 15, "the smallest error is 15 %: the axis does not begin at 0"
    assert 32.5 < high < 45


def test_sizes_have_a_colour_and_pyramids_a_marker(comparison: Comparison) -> None:
    look = {(g.levels["sizes"], g.levels["pyramid"]): style_of(comparison, g) for g in comparison.groups}
    for pyramid in LEVELS:
        assert look["single_96", pyramid].colour != look["multi_96_72", pyramid].colour
        assert look["single_96", pyramid].marker == look["multi_96_72", pyramid].marker
    for sizes in ("single_96", "multi_96_72"):
        assert look[sizes, "l1"].colour == look[sizes, "l321"].colour
        assert look[sizes, "l1"].marker != look[sizes, "l321"].marker


def test_the_smallest_difference_that_shows_is_shown_four_times_in_five() -> None:
    rng = np.random.default_rng(0)
    for count, level in ((5, 0.05), (8, 0.05 / 3)):
        true = smallest_shown(2.0, count, level)
        seeds = rng.normal(true, 2.0, (20_000, count))
        assert float((stats.ttest_1samp(seeds, 0, axis=1).pvalue < level).mean()) == pytest.approx(
            0.8, abs=0.04
        )
    for std in (0.3, 2.0, 6.0):
        needed = seeds_needed(std, 1.0)
        assert smallest_shown(std, needed) <= 1
        assert needed == 2 or smallest_shown(std, needed - 1) > 1


def test_images_that_would_show_a_point() -> None:
    # The standard error of 400 images is 2 / 1.96 points; to be 1 / (1.96 + 0.84) it takes 8.16 times as many.
    assert images_needed((-3.0, 1.0), 400, 1.0) == pytest.approx(400 * (2.8016 * 2 / 1.96) ** 2, rel=1e-3)
