"""Each page is asked "is multi-size better?": the answer is on its first screen, whether there are 2, 12 or 60 runs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pages import BROWSER, HEIGHT, board_of, on_first_screen, tensorboard_of
from PIL import Image
from written_runs import write_run

from sppcls.cli.main import main
from sppcls.comparison import Comparison, compare
from sppcls.comparison.report.write import write_report
from sppcls.comparison.style import style_of

api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

WIDTH = 1440
QUESTION, ANSWER = "Are several sizes better than one?", "No difference shown"
PYRAMIDS = ([1], [2, 1], [3, 2, 1], [4, 3, 2, 1], [6, 3, 2, 1])
SIZES = ([224], [224, 180], [224, 160], [224, 128])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((1, 2, 1), id="2 runs", marks=pytest.mark.long),
        pytest.param((2, 2, 3), id="12 runs"),
        pytest.param((5, 4, 3), id="60 runs", marks=pytest.mark.long),
    ],
)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pyramids x sizes x seeds, where no difference can be shown."""
    pyramids, sizes, seeds = request.param
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for place, (levels, sides, seed) in enumerate(product(PYRAMIDS[:pyramids], SIZES[:sizes], range(seeds))):
        write_run(
            folder / f"{place:02}",
            seed=seed,
            right=rng.random(200) > 0.4,
            pyramid__levels=levels,
            sizes__sizes=sides,
            sizes__kind="alternate" if len(sides) > 1 else "single",
            trainer__max_epochs=4,
        )
    return folder


@pytest.fixture(scope="module")
def comparison(runs: Path) -> Comparison:
    return compare([runs])


@pytest.fixture(scope="module")
def addresses(runs: Path) -> Iterator[dict[str, str]]:
    with board_of(runs) as found:
        yield found


@pytest.fixture
def page(browser: api.Browser) -> Iterator[api.Page]:
    opened = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    opened.set_default_timeout(60_000)
    yield opened
    opened.close()


def shows_colour(page: api.Page, colour: str) -> bool:
    """Whether at least 20 pixels of what is on the screen are near a colour such as ``#0072B2``."""
    with Image.open(io.BytesIO(page.screenshot())) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(2) < 12).sum()) >= 20


def test_the_report(page: api.Page, comparison: Comparison, tmp_path: Path) -> None:
    page.goto(write_report(comparison, tmp_path / "out").as_uri())
    on_first_screen(page, QUESTION)
    on_first_screen(page, ANSWER)
    on_first_screen(page, "multi_224_180 - single_224")
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    # The groups have one colour for each of the training sizes; a page of 60 runs begins with the answers alone.
    if len(comparison.groups) <= 4:
        for group in comparison.groups:
            assert shows_colour(page, style_of(comparison, group).colour)


# The first screens of the others, with fewer runs: tests/comparison/test_board_browser.py.
@pytest.mark.parametrize(
    "name",
    [
        "Time Series",
        *(
            pytest.param(name, marks=pytest.mark.long)
            for name in ("Scalars", "Custom Scalars", "Images", "Text")
        ),
    ],
)
def test_the_answer_and_the_means_come_first(
    page: api.Page, addresses: dict[str, str], comparison: Comparison, name: str
) -> None:
    page.goto(addresses[name])
    on_first_screen(page, f"{QUESTION} {ANSWER}")
    if name in ("Images", "Text"):
        return
    # Time Series goes by the alphabet, the others by the order of the runs.
    labels = [group.label for group in comparison.groups]
    for label in (sorted(labels) if name == "Time Series" else labels)[:4]:
        on_first_screen(page, f"mean/{label}")
    assert page.get_by_text("seed0/").locator("visible=true").count() == 0
    title = (
        "top-1 error, % at 224, centre view, by epoch" if name == "Custom Scalars" else "val_224/top1_error"
    )
    on_first_screen(page, title)


@pytest.fixture(scope="module")
def plain(runs: Path) -> Iterator[str]:
    """Address of a TensorBoard that was started by hand on the folder of the runs, after they were compared."""
    assert main(["compare", str(runs)]) == 0
    with tensorboard_of(runs) as address:
        yield address


@pytest.mark.parametrize("name", ["timeseries", "scalars", "custom_scalars", "images", "text", "hparams"])
def test_tensorboard_by_itself_begins_with_the_answer(page: api.Page, plain: str, name: str) -> None:
    page.goto(f"{plain}#{name}")
    on_first_screen(page, f"{QUESTION} {ANSWER}")


def test_hparams_begin_with_the_means_their_spread_and_their_seeds(
    page: api.Page, addresses: dict[str, str], comparison: Comparison
) -> None:
    page.goto(addresses["HParams"])
    for text in ("sizes", "val_224/top1_error", "std over seeds", "multi_224_180", "single_224"):
        on_first_screen(page, text)
    heading = page.locator("tf-hparams-table-view").get_by_text(f"{QUESTION} {ANSWER}").first
    assert heading.bounding_box()["x"] < WIDTH / 2, "before what was varied"
    table = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
    table.get_by_text("mean/").first.wait_for()
    first = {
        cell.inner_text().strip() for cell in table.all() if (box := cell.bounding_box()) and box["y"] < 260
    }
    assert any(text.startswith("mean/") for text in first)
    assert not any(text.startswith("seed0/") for text in first) or len(comparison.groups) < 4
