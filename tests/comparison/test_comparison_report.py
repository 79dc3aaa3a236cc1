"""Tables in every format, pictures, and the folder that a report is written to."""

from __future__ import annotations

import csv
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from written_runs import misses, save_answers, write_run

from sppcls.comparison import Comparison, compare
from sppcls.comparison.findings import findings
from sppcls.comparison.report.content import groups_table
from sppcls.comparison.report.notes import reading_notes
from sppcls.comparison.report.pictures import by_group, pictures
from sppcls.comparison.report.tables import Spread, Table, latex_escape
from sppcls.comparison.report.write import FILES, write_report
from sppcls.errors import ConfigError

TABLE = Table("T", ["group_a", "error | %"], [["x & y", Spread(22.083, 1.283, 3)], ["<b>", None]])


def test_one_table_in_four_formats() -> None:
    assert TABLE.markdown().splitlines() == [
        "| group_a | error \\| % |", "|---|---|", "| x & y | 22.08 ± 1.28 (3) |", "| <b> |  |",
    ]  # fmt: skip
    assert list(csv.reader(io.StringIO(TABLE.csv()))) == [
        ["group_a", "error | %", "error | % std", "error | % n"], ["x & y", "22.083", "1.283", "3"], ["<b>", "", "", ""],
    ]  # fmt: skip
    assert r"group\_a & error | \% \\" in TABLE.latex()
    assert r"x \& y & 22.08 $\pm$ 1.28 (3) \\" in TABLE.latex()
    assert [line.split("  ")[0] for line in TABLE.text().splitlines()] == [
        "group_a",
        "-------",
        "x & y",
        "<b>",
    ]


def test_latex_prints_what_it_is_given() -> None:
    assert latex_escape(r"a_b 5% {x} \c ~^#$&") == (
        r"a\_b 5\% \{x\} \textbackslash{}c \textasciitilde{}\textasciicircum{}\#\$\&"
    )


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A pyramid ablation: three pyramids, one of a name that HTML would take for a tag; two seeds."""
    folder = tmp_path_factory.mktemp("ablation")
    rng = np.random.default_rng(0)
    for name, levels in (("<i>fine</i>", [4, 2, 1]), ("none & nothing", None), ("coarse_1", [1])):
        for seed in (0, 1):
            right = rng.random(200) > 0.3
            run = write_run(
                folder / f"{len(name)}-{seed}", seed=seed, right=right, name=name, pyramid__levels=levels
            )
            for size in (64, 128):
                save_answers(
                    run / "evaluation-last" / f"center_{size}.npz", rng.random(200) > 0.4, size=str(size)
                )
            (run / "evaluation-last" / "errors.csv").write_text("protocol\n")
    return compare([folder])


def test_the_groups_table_has_what_a_reader_asks_for(comparison: Comparison) -> None:
    table = groups_table(comparison)
    assert table.header == [
        "group", "seed numbers", "val_96/top1_error", "val_96/top5_error", "epochs", "images seen",
        "gigapixels seen", "training minutes", "images/s", "million parameters",
    ]  # fmt: skip
    row = next(row for row in table.rows if row[0] == "coarse_1")
    errors = list(
        next(g for g in comparison.groups if g.label == "coarse_1").errors(comparison.main).values()
    )
    assert str(row[2]) == f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f} (2)"
    assert row[4:] == ["2", "200", f"{200 * 96 * 96 / 1e9:.3f}", f"{10 / 60:.2f}", "20.0", "2.500"]
    every = groups_table(comparison, every_measure=True)
    assert "val_64/top1_error" in every.header


def test_an_ablation_is_drawn_in_the_order_of_its_table_with_the_number_of_bins(
    comparison: Comparison,
) -> None:
    axes = by_group(comparison).axes[0]
    bins = {"none & nothing": "no pyramid", "coarse_1": "1 bin", "<i>fine</i>": "21 bins"}
    order = [str(row[0]) for row in groups_table(comparison).rows]
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"{name}\n{bins[name]}" for name in order]
    means = [np.mean(list(comparison.group(name).errors(comparison.main).values())) for name in order]
    assert [text.get_text().split(" ")[0] for text in axes.texts] == [f"{mean:.2f}" for mean in means]


def test_curves_show_the_measured_means(comparison: Comparison) -> None:
    found = pictures(comparison, findings(comparison))
    by_size = found["error_by_size"][1].axes[0]
    group = comparison.groups[0]
    line = next(line for line in by_size.lines if line.get_label() == group.label)
    means = {m.side: np.mean(list(group.errors(m).values())) for m in comparison.measures}
    assert line.get_xdata().tolist() == [64, 96, 128]
    assert line.get_ydata().tolist() == pytest.approx([means[side] for side in (64, 96, 128)])
    pixels, minutes = found["error_by_cost"][1].axes
    assert pixels.lines[0].get_xdata().tolist() == pytest.approx([100 * 96 * 96 / 1e9, 200 * 96 * 96 / 1e9])
    assert minutes.lines[0].get_xdata().tolist() == pytest.approx([5 / 60, 10 / 60])
    assert minutes.lines[0].get_ydata()[-1] == pytest.approx(means[96])


@pytest.fixture(scope="module")
def page(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(comparison, tmp_path_factory.mktemp("report") / "out")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_needs_no_other_file_and_takes_names_for_text(
    comparison: Comparison, tmp_path: Path
) -> None:
    page = write_report(comparison, tmp_path / "out")
    assert {path.name for path in page.parent.iterdir()} == {*FILES}
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert len(parsed.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in parsed.sources)
    assert "i" not in parsed.tags
    assert "<i>fine</i>" in parsed.words
    assert not re.search(r"https?://|@import|<script|<link", text)
    for note in reading_notes(comparison):
        assert note in "".join(parsed.words)
    for name in ("differences", "error_by_group", "error_by_size", "error_by_cost"):
        with Image.open(page.parent / f"{name}.png") as image:
            assert image.width > 800
    assert "no difference shown" in (page.parent / "comparison.md").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO((page.parent / "differences.csv").read_text(encoding="utf-8"))))
    assert len(rows) == 3 * 3 * 2  # pairs, measures, top-1 and top-5


def test_an_older_report_is_replaced_and_nothing_else(page: Path, tmp_path: Path) -> None:
    shutil.copytree(page.parent, tmp_path / "out")
    alone = compare([write_run(tmp_path / "a", error=20)])
    again = write_report(alone, tmp_path / "out")
    assert "1 finished run in 1 group" in again.read_text(encoding="utf-8")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {*FILES} - {
        "error_by_size.png",
        "differences.csv",
        "differences.png",
    }  # which one run gives no cause for
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"--out .*out: holds thesis.txt, which is of no report"):
        write_report(alone, tmp_path / "out")
    with pytest.raises(ConfigError, match="is not a folder"):
        write_report(alone, tmp_path / "out" / "thesis.txt")
    with pytest.raises(ConfigError, match="cannot be"):
        write_report(alone, tmp_path / "out" / "thesis.txt" / "below")


def test_notes_say_what_is_not_comparable(tmp_path: Path) -> None:
    write_run(tmp_path / "a", error=20, device="CPU, 1 thread")
    write_run(tmp_path / "b", error=21, device="one GPU", pyramid__levels=None, trainer__threads=2)
    write_run(tmp_path / "c", error=21, pyramid__levels=[7])
    text = "\n".join(reading_notes(compare([tmp_path])))
    assert "different devices (CPU, 1 thread; one GPU): times do not compare" in text
    assert "different trainer.threads or data.workers" in text
    assert "One seed only, so no spread and no interval over seeds: l321, none, l7." in text


def test_top5_errors_that_are_0_by_definition_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", error=20)
    table = (folder / "metrics.csv").read_text().replace("7.5", "0").replace("5.0", "0")
    (folder / "metrics.csv").write_text(table)
    comparison = compare([tmp_path])
    assert not any("top-5" in name for name in groups_table(comparison).header)
    assert yaml.safe_load((folder / "config.yaml").read_text())["seed"] == 0


def test_runs_that_were_tested_on_a_part_of_the_images_are_said(tmp_path: Path) -> None:
    write_run(tmp_path / "a", right=misses(40, 1), trainer__limit_val_batches=5)
    write_run(tmp_path / "b", right=misses(40, 2), trainer__limit_val_batches=5, pyramid__levels=None)
    notes = reading_notes(compare([tmp_path]))
    assert any(
        "2 of 2 runs were validated with trainer.limit_val_batches: on a part of the images" in note
        for note in notes
    )
    write_run(tmp_path / "whole" / "a", right=misses(40, 1))
    assert not any("limit_val_batches" in note for note in reading_notes(compare([tmp_path / "whole"])))
