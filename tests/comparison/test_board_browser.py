"""The pages of ``sppcls board`` in a real browser: what a person sees there, against what the runs wrote down."""

from __future__ import annotations

import csv
import shutil
import statistics
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from pages import BROWSER, board_of, on_first_screen, tensorboard_of
from written_runs import write_run

from sppcls.cli.main import main
from sppcls.comparison import compare
from sppcls.comparison.report.write import write_report

api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

RUNS = [
    "mean/multi_96_72", "mean/single_96",
    "seed0/multi_96_72", "seed0/single_96", "seed1/multi_96_72", "seed1/single_96",
]  # fmt: skip
MEANS = RUNS[:2]
ANSWER = "Are several sizes better than one? No difference shown"
HEADING = f"{ANSWER} (top-1 error, %)"  # of the errors behind it


@pytest.fixture(scope="module")
def addresses(trained: Path) -> Iterator[dict[str, str]]:
    with board_of(trained) as found:
        yield found


@pytest.fixture
def page(browser: api.Browser) -> Iterator[api.Page]:
    opened = browser.new_page(viewport={"width": 1900, "height": 1200})
    opened.set_default_timeout(120_000)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def final(trained: Path) -> dict[str, dict[str, float]]:
    """Column of ``metrics.csv`` after the last epoch, by TensorBoard run: of each run, and the mean of two."""
    found: dict[str, dict[str, float]] = {}
    for folder, group in (("single", "single_96"), ("multi", "multi_96_72")):
        for seed in (0, 1):
            with open(trained / f"{folder}-seed{seed}" / "metrics.csv", newline="") as file:
                row = list(csv.DictReader(file))[-1]
            found[f"seed{seed}/{group}"] = {k: float(v) for k, v in row.items() if k.startswith("val")}
        first, second = (found[f"seed{seed}/{group}"] for seed in (0, 1))
        found[f"mean/{group}"] = {key: statistics.fmean((first[key], second[key])) for key in first}
    return found


def test_time_series(page: api.Page, addresses: dict[str, str], final: dict[str, dict[str, float]]) -> None:
    page.goto(addresses["Time Series"])
    for name in MEANS:
        page.get_by_text(name, exact=True).first.wait_for()
    # The answer and the error at the main size by epoch and by pixels are pinned; nothing is smoothed.
    cards = page.locator("metrics-pinned-view card-view")
    cards.first.get_by_text(f"answer/{ANSWER}", exact=True).first.wait_for()
    for place, tag in enumerate(("val_96/top1_error", "val_96_by_pixels/top1_error"), start=1):
        card = cards.nth(place)
        card.get_by_text(tag, exact=True).first.wait_for()
        card.get_by_text("Smoothed").wait_for(state="detached")
        for name in MEANS:
            row = card.locator("tb-data-table-content-row, .row").filter(has_text=name).first
            row.wait_for(state="attached")
            assert f"{final[name]['val_96/top1_error']:g}" in row.inner_text().split()


def test_custom_scalars(
    page: api.Page, addresses: dict[str, str], final: dict[str, dict[str, float]]
) -> None:
    page.goto(addresses["Custom Scalars"].partition("&regexInput")[0])
    page.get_by_text(f"{HEADING}: means, bands of ± std over the seeds").wait_for()
    page.get_by_text("Top-1 error, %: every run, and the means").wait_for()
    on_first_screen(page, ANSWER)
    on_first_screen(page, "top-1 error, % at 96, centre view, by epoch")
    page.get_by_text("Ignore outliers in chart scaling").click()
    # Ours come before those that the runs themselves laid out, and the main size before the other.
    titles = page.locator("tf-category-paginated-view .heading").all_inner_texts()
    assert titles[0].startswith(ANSWER)
    assert titles[-1].startswith("validation")
    for kind in ("margin-chart", "multi-line-chart"):
        cards = page.locator(f"tf-custom-scalar-{kind}-card")
        for place, (size, axis) in enumerate(
            product((96, 72), ("epoch", "training pixels", "seconds of training"))
        ):
            title = f"top-1 error, % at {size}, centre view, by {axis}"
            cards.nth(place).get_by_text(title, exact=True).wait_for(state="attached")
    for size, column in ((96, "val_96/top1_error"), (72, "val_72/top1_error")):
        card = page.locator("tf-custom-scalar-multi-line-chart-card").filter(
            has_text=f"at {size}, centre view, by epoch"
        )
        values = hovered(page, card.first.locator("vz-line-chart2"))
        for name in RUNS:
            assert f"{final[name][column]:g}" in values[f"val_{size}/top1_error ({name})"]


def test_scalars(page: api.Page, addresses: dict[str, str], final: dict[str, dict[str, float]]) -> None:
    page.goto(addresses["Scalars"])
    for text in (*MEANS, "val_96/top1_error", f"final_by_group/{HEADING}"):
        on_first_screen(page, text)
    page.get_by_text("Ignore outliers in chart scaling").click()
    chart = page.locator("tf-scalar-card").filter(has_text="val_96/top1_error").first
    values = hovered(page, chart.locator("vz-line-chart2").first)
    assert {*values} & {*RUNS} == {*MEANS}
    for name in MEANS:
        assert f"{final[name]['val_96/top1_error']:g}" in values[name]


def hovered(page: api.Page, chart: api.Locator) -> dict[str, list[str]]:
    """What a chart says under the mouse at its right end: the words of each line, by name."""
    chart.scroll_into_view_if_needed()
    page.wait_for_function(
        "chart => chart.querySelectorAll('path').length > 1 || chart.shadowRoot?.querySelectorAll('path').length > 1",
        arg=chart.element_handle(),
    )
    page.wait_for_timeout(1000)  # until the axes have stopped moving
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.93, box["y"] + box["height"] * 0.4)
    page.locator("tr").filter(has_text=RUNS[0]).locator("visible=true").first.wait_for()
    rows = [row.inner_text().strip().split("\t") for row in page.locator("tr").locator("visible=true").all()]
    return {row[0]: row[1:] for row in rows}


def table_of(cells: api.Locator) -> list[list[str]]:
    """Words of a table's cells, row by row from left to right, without the empty ones."""
    rows: dict[int, dict[int, str]] = {}
    for cell in cells.all():
        box, text = cell.bounding_box(), cell.inner_text().strip()
        if box is not None and text:
            rows.setdefault(round(box["y"] + box["height"] / 2), {})[round(box["x"])] = text
    return [[row[x] for x in sorted(row)] for _, row in sorted(rows.items())]


def test_hparams(page: api.Page, addresses: dict[str, str], final: dict[str, dict[str, float]]) -> None:
    page.goto(addresses["HParams"])
    cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
    for name in RUNS:
        cells.get_by_text(name[:12]).first.wait_for()
    table = table_of(cells)
    # What was varied, as it was typed, then the errors; nothing that is the same for all.
    assert table[0][:7] == [
        "Trial ID", "Show Metrics", HEADING, "seed", "sizes", "val_96/top1_error", "std over seeds",
    ]  # fmt: skip
    found = {row[0]: row[1:] for row in table[1:]}
    assert list(found) == RUNS
    for name, row in found.items():
        kind, _, group = name.partition("/")
        first, second = (final[f"seed{seed}/{group}"]["val_96/top1_error"] for seed in (0, 1))
        mean, std = (first + second) / 2, statistics.stdev((first, second))
        if kind == "mean":
            cells = [f"{mean:.2f} +/- {std:.2f} (2)", "mean", group, f"{mean:#.5g}", f"{std:#.5g}", "2.0000"]
        else:
            cells = [kind[4:], group, f"{(first, second)[int(kind[4:])]:#.5g}"]
        assert row[: len(cells)] == cells


def test_hparams_of_tensorboard_by_itself_begin_with_the_answer_and_the_errors(
    page: api.Page, trained: Path, final: dict[str, dict[str, float]], tmp_path: Path
) -> None:
    # Runs have more columns than TensorBoard shows at first.
    shutil.copytree(trained, tmp_path / "runs")
    assert main(["compare", str(tmp_path / "runs")]) == 0
    with tensorboard_of(tmp_path / "runs") as address:
        page.goto(f"{address}#hparams")
        cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
        cells.get_by_text("single-seed1").first.wait_for()
        header, *rows = table_of(cells)
    assert header[2:5] == [HEADING, "seed", "sizes"]
    assert header[7] == "final/val_96/top1_error", "after the five columns of what was varied, for every row"
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == 6
    for group, folder in (("single_96", "single"), ("multi_96_72", "multi")):
        errors = [final[f"seed{seed}/{group}"]["val_96/top1_error"] for seed in (0, 1)]
        for seed in (0, 1):
            assert f"{errors[seed]:#.5g}" in found[f"{folder}-seed{seed}"]
        mean = f"{statistics.fmean(errors):.2f} +/- {statistics.stdev(errors):.2f} (2)"
        row = [mean, "mean", group, f"{statistics.fmean(errors):#.5g}"]
        assert found[f"{group}, mean of runs"][:4] == row


def test_images(page: api.Page, addresses: dict[str, str]) -> None:
    page.goto(addresses["Images"])
    on_first_screen(page, ANSWER)
    for name in (f"answer/{ANSWER}", *(f"comparison/error_by_{what}" for what in ("group", "size", "cost"))):
        card = page.locator("tf-image-loader").filter(has_text=name)
        image = card.locator("img")
        image.wait_for()
        page.wait_for_function("image => image.naturalWidth > 700", arg=image.element_handle())
        assert card.get_by_text("comparison", exact=True).count() == 1  # the run that it is of


def test_text(page: api.Page, addresses: dict[str, str], final: dict[str, dict[str, float]]) -> None:
    page.goto(addresses["Text"])
    page.get_by_text("comparison/1_answer", exact=True).first.wait_for()
    page.get_by_role("heading", name=ANSWER).wait_for()
    on_first_screen(page, ANSWER)
    for group in ("single_96", "multi_96_72"):
        card = page.locator("tf-text-loader").filter(has_text="comparison/2_errors")
        text = card.locator(f"tr:has(> td:text-is('{group}'))").inner_text()
        for column in ("val_96/top1_error", "val_72/top1_error"):
            pair = [final[f"seed{seed}/{group}"][column] for seed in (0, 1)]
            assert f"{statistics.fmean(pair):.2f} ± {statistics.stdev(pair):.2f} (2)" in text


def test_a_wide_table_of_the_report_scrolls_in_its_own_box(browser: api.Browser, tmp_path: Path) -> None:
    for number in range(2):
        name = f"an_experiment_with_a_long_name_{number}"
        sizes = [224, 192, 160, 128, 96]
        write_run(tmp_path / name, error=20, name=name, optimizer__lr=number + 1.0, sizes__sizes=sizes)
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto(write_report(compare([tmp_path]), tmp_path / "out").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 1300, "the page itself does not scroll"
    folded = page.locator("details").filter(has_text="Groups, every figure")
    folded.locator("summary").click()
    box = folded.locator(".scroll")
    assert box.evaluate("box => box.scrollWidth - box.clientWidth") > 50, "wide enough for this test"
    box.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "box => box.scrollLeft + box.clientWidth >= box.scrollWidth - 1", arg=box.element_handle()
    )
    name, last = box.locator("tbody tr").first.locator("td:first-child, td:last-child").all()
    # Whose row it is stays in sight, and the last column has come into it.
    assert name.bounding_box()["x"] == box.bounding_box()["x"]
    assert last.bounding_box()["x"] + last.bounding_box()["width"] <= 1300
    page.close()
