"""Pictures of the TensorBoard pages of a comparison: ``python docs/tensorboard.py SWEEP`` writes ``docs/tensorboard/``.

Needs Playwright (``pip install "sppcls[dev]"``) and a Chromium on the PATH.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).resolve().parent / "tensorboard"
WIDTH, HEIGHT = 1440, 900


def main(sweep: str) -> None:
    """Start the board of a sweep, and take a picture of each page."""
    OUT.mkdir(exist_ok=True)
    browser_file = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with (
        subprocess.Popen(
            [sys.executable, "-m", "sppcls.cli.main", "board", sweep], stdout=subprocess.PIPE, text=True
        ) as board,
        sync_playwright() as playwright,
    ):
        addresses = {}
        assert board.stdout is not None
        for line in board.stdout:
            name, _, address = line.strip().partition("  ")
            if "http://" in address:
                addresses[name] = address.strip()
            if "Ctrl-C ends it" in line:
                break
        browser = playwright.chromium.launch(
            executable_path=browser_file, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, address in addresses.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(address)
            page.wait_for_timeout(6000)  # charts are drawn bit by bit, and none says that it is whole
            _arrange(page, name)
            _save(page.screenshot(), OUT / f"{name.lower().replace(' ', '_').replace('time_s', 'times')}.png")
            page.close()
        browser.close()
        board.terminate()


def _arrange(page: Page, name: str) -> None:
    """What a person would click to see more."""
    if name == "Time Series":
        page.get_by_role("button", name="Settings").first.click()  # closes the pane
    elif name == "Images":
        page.get_by_text("Show actual image size").click()
    page.wait_for_timeout(2500)


def _save(png: bytes, path: Path) -> None:
    """As a PNG of 128 colours: a fifth of the size, and no eye sees it."""
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
