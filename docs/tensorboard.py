"""Pictures of the pages of a comparison: ``python docs/tensorboard.py SWEEP`` writes ``docs/tensorboard/``.

``sppcls compare SWEEP`` comes before it. Needs Playwright (``pip install "sppcls[dev]"``) and a Chromium on the PATH.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

OUT = Path(__file__).resolve().parent / "tensorboard"
WIDTH, HEIGHT = 1440, 900


def main(sweep: str) -> None:
    """Take a picture of the report, and of each page of the board and of a TensorBoard that was started by hand."""
    OUT.mkdir(exist_ok=True)
    browser_file = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    by_hand = ["--logdir", sweep, "--port=0", "--load_fast=false", "--reload_task=blocking"]
    by_hand += ["--reload_interval=0"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_file, args=["--no-sandbox", "--disable-gpu"]
        )
        _take(browser, "report", (Path(sweep).resolve() / "comparison" / "comparison.html").as_uri())
        for command, pages in (
            (["sppcls.cli.main", "board", sweep], _of_the_board),
            (["tensorboard.main", *by_hand], _of_tensorboard_by_itself),
        ):
            with subprocess.Popen(
                [sys.executable, "-m", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as server:
                assert server.stdout is not None
                for name, address in pages(server.stdout):
                    _take(browser, name, address)
                server.terminate()
        browser.close()


def _of_the_board(said: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and address of each page that ``sppcls board`` has printed."""
    addresses = {}
    for line in said:
        name, _, address = line.strip().partition("  ")
        if "http://" in address:
            addresses[name] = address.strip()
        if "Ctrl-C ends it" in line:
            break
    yield from addresses.items()


def _of_tensorboard_by_itself(said: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The pages that look different from those of the board."""
    address = next(found[0] for line in said if (found := re.findall(r"http://\S+/", line)))
    yield "plain", address
    yield "plain_hparams", f"{address}#hparams"


def _take(browser: Browser, name: str, address: str) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(address)
    if address.startswith("http"):
        page.wait_for_timeout(12_000)  # charts are drawn bit by bit, and none says that it is whole
        if name == "Images":
            page.get_by_text("Show actual image size").click()
            page.wait_for_timeout(3000)
    _save(page.screenshot(), OUT / f"{name.lower().replace(' ', '_').replace('time_s', 'times')}.png")
    page.close()


def _save(png: bytes, path: Path) -> None:
    """As a PNG of 256 colours: a third of the size, and no eye sees it."""
    with Image.open(io.BytesIO(png)) as image:
        colours = Image.Quantize.MAXCOVERAGE  # also those of thin lines
        image.convert("RGB").quantize(256, colours, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
