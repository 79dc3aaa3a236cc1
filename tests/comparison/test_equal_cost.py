"""Errors at equal cost, the level of guessing and the sheets of inputs, counted on paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from written_runs import misses, write_run

from sppcls.cli.main import main
from sppcls.comparison import Comparison, compare
from sppcls.comparison.board.logdir import write_board
from sppcls.comparison.report.content import equal_cost_table
from sppcls.comparison.report.pictures import by_group, error_by_cost
from sppcls.comparison.report.write import write_report

MULTI = {"sizes__kind": "alternate", "sizes__sizes": [96, 72]}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two epochs of 100 images each, at 96 twice or at 96 and 72; the second validation is 10 points below the first."""
    for seed, wrong in ((0, 8), (1, 12)):  # of 40
        write_run(tmp_path / "runs" / f"one-{seed}", seed=seed, right=misses(40, *range(wrong)))
        write_run(tmp_path / "runs" / f"two-{seed}", seed=seed, right=misses(40, *range(wrong)), **MULTI)
    return tmp_path / "runs"


@pytest.fixture
def comparison(runs: Path) -> Comparison:
    return compare([runs])


def test_at_equal_pixels_the_longer_run_counts_part_of_its_last_epoch(comparison: Comparison) -> None:
    table = equal_cost_table(comparison)
    assert table is not None
    # Both took 10 s; the cheapest saw 100 x (96² + 72²) pixels.
    spent = 100 * (96**2 + 72**2)
    assert table.header == ["group", f"after {spent / 1e9:.3g} gigapixels", "at its end"]
    assert table.title == "Errors at equal cost, val_96/top1_error, %"
    share = 72**2 / 96**2  # of the last epoch at 96, in which the error fell by 10 points
    for label, at_cost in (("single_96", 25.0 + 10 * (1 - share)), ("multi_96_72", 25.0)):
        row = next(row for row in table.rows if row[0] == label)
        assert str(row[1]).split(" ± ")[0] == f"{at_cost:.2f}"
        assert str(row[2]).split(" ± ")[0] == "25.00"


def test_there_is_no_such_table_where_all_cost_the_same(tmp_path: Path) -> None:
    for number, levels in enumerate(([1], [2, 1])):
        write_run(tmp_path / str(number), error=20.0, pyramid__levels=levels)
    assert equal_cost_table(compare([tmp_path])) is None


def test_a_cost_at_which_no_error_is_known_has_no_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of one epoch: when the quickest run had ended, no group had validated all of its seeds.
    for name, levels, seed in (("a", [1], 0), ("b", [1], 1), ("c", [2, 1], 0), ("d", [2, 1], 1)):
        folder = write_run(
            tmp_path / "runs" / name, seed=seed, error=20.0, pyramid__levels=levels, trainer__max_epochs=1
        )
        if name != "a":
            text = (folder / "metrics.csv").read_text()
            (folder / "metrics.csv").write_text(text.replace(f",{96 * 96 * 100},5,", f",{96 * 96 * 100},6,"))
    comparison = compare([tmp_path / "runs"])
    assert sorted({run.last("train_seconds") for run in comparison.runs}) == [5, 6]
    assert equal_cost_table(comparison) is None
    # With pixels that differ, their column stands alone.
    for name, seed in (("e", 0), ("f", 1)):
        folder = write_run(tmp_path / "runs" / name, seed=seed, error=20.0, trainer__max_epochs=2, **MULTI)
        text = (folder / "metrics.csv").read_text()
        (folder / "metrics.csv").write_text(text.replace(",5,96,", ",6,96,"))
    table = equal_cost_table(compare([tmp_path / "runs"]))
    assert table is not None
    assert [name for name in table.header if name.startswith("after ")] == ["after 0.000922 gigapixels"]
    assert main(["compare", str(tmp_path / "runs")]) == 0
    assert "after 0.000922 gigapixels" in capsys.readouterr().out


def test_the_report_has_it_once_on_its_page(comparison: Comparison, tmp_path: Path) -> None:
    write_report(comparison, tmp_path / "out")
    page, text = ((tmp_path / "out" / name).read_text() for name in ("comparison.html", "comparison.md"))
    assert page.count("<h2>Errors at equal cost, val_96/top1_error, %</h2>") == 1
    assert "## Errors at equal cost, val_96/top1_error, %" in text
    assert "Guessing, always the most frequent class: 87.5 %." in text


def test_guessing_is_the_most_frequent_class_and_is_drawn_only_among_the_data(
    comparison: Comparison, tmp_path: Path
) -> None:
    answers = comparison.groups[0].runs[0].answers[comparison.main]
    labels = answers.labels.tolist()
    level = 100 * (1 - max(map(labels.count, labels)) / 40)
    assert comparison.guessing == pytest.approx(level)
    figure = error_by_cost(comparison)
    assert figure is not None
    assert "guessing" not in [text.get_text() for text in figure.axes[0].texts], "errors of 20 to 40 %"
    for seed in (0, 1):
        right = misses(40, *range(34 if seed else 36))  # 85 and 90 %
        write_run(tmp_path / "poor" / str(seed), seed=seed, right=right)
    poor = compare([tmp_path / "poor"])
    for drawn, limits in (
        (by_group(poor).axes[0], "get_xlim"),
        (error_by_cost(poor).axes[0], "get_ylim"),  # type: ignore[union-attr]
    ):
        assert "guessing" in [text.get_text() for text in drawn.texts]
        assert getattr(drawn, limits)()[0] > 50, "the axes begin where the data are"


def test_tensorboard_has_the_level_and_each_distinct_sheet_of_inputs_once(
    runs: Path, comparison: Comparison, tmp_path: Path
) -> None:
    png = {
        name: b"\x89PNG\r\n\x1a\n" + bytes(8) + (8).to_bytes(4, "big") * 2 + name.encode() for name in "abc"
    }
    for run, size, name in (("one-0", 96, "a"), ("two-0", 96, "a"), ("two-0", 72, "b"), ("two-1", 72, "c")):
        (runs / run / "pictures").mkdir(exist_ok=True)
        (runs / run / "pictures" / f"train_inputs_{size}.png").write_bytes(png[name])
    board = write_board(comparison, tmp_path / "board")
    shown = EventAccumulator(str(board / "comparison"), {IMAGES: 0}).Reload()
    inputs = [tag for tag in shown.Tags()["images"] if tag.startswith("inputs/")]
    assert sorted(inputs) == ["inputs/72", "inputs/96"]
    assert [shown.Images("inputs/72")[0].encoded_image_string] == [png["b"]], "of the first seed"
    level = EventAccumulator(str(board / "mean" / "level of guessing")).Reload()
    assert comparison.guessing is not None
    for tag, end in (
        ("guessing/top1_error", 1),
        ("guessing_by_pixels/top1_error", 2 * 100 * 96**2),
        ("guessing_by_seconds/top1_error", 10),
    ):
        points = [(point.step, point.value) for point in level.Scalars(tag)]
        assert (points[0][0], points[-1][0]) == (0, end)
        assert {value for _, value in points} == {np.float32(comparison.guessing)}
    # Inputs that differ are told apart by their groups.
    (runs / "two-0" / "pictures" / "train_inputs_96.png").write_bytes(png["c"])
    board = write_board(compare([runs]), tmp_path / "board")
    tags = EventAccumulator(str(board / "comparison"), {IMAGES: 0}).Reload().Tags()["images"]
    assert {"inputs/96, single_96", "inputs/96, multi_96_72", "inputs/72"} <= {*tags}


def test_several_schedules_are_pooled_each_by_itself(tmp_path: Path) -> None:
    from sppcls.comparison.conclusions import conclusions
    from sppcls.comparison.findings import findings

    changes = {(96,): 0.0, (96, 72): -3.0, (96, 48): 5.0}
    for place, levels in enumerate(([1], [2, 1])):
        for sizes, change in changes.items():
            for seed in range(3):
                kind = "alternate" if len(sizes) > 1 else "single"
                error = 40.0 + 2 * seed + 10 * place + change + 0.1 * seed * place
                name = f"{place}-{'_'.join(map(str, sizes))}-{seed}"
                write_run(
                    tmp_path / name, seed=seed, error=error, pyramid__levels=levels, sizes__sizes=list(sizes),
                    sizes__kind=kind,
                )  # fmt: skip
    found = findings(compare([tmp_path]))
    (sizes_answer, _) = conclusions(found)
    assert sizes_answer.question == "Are several sizes better than one?"
    pooled = {f.names: f.seeds.mean for f in found if len(f.pairs) > 1 and f.factor == "sizes"}
    assert pooled == {
        ("single_96", "multi_96_72"): pytest.approx(-3.0),
        ("single_96", "multi_96_48"): pytest.approx(5.0),
        ("multi_96_48", "multi_96_72"): pytest.approx(-8.0),
    } or pooled == {
        ("single_96", "multi_96_72"): pytest.approx(-3.0),
        ("single_96", "multi_96_48"): pytest.approx(5.0),
        ("multi_96_72", "multi_96_48"): pytest.approx(8.0),
    }
