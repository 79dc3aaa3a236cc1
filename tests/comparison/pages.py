"""TensorBoard's pages of a comparison, for a browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEIGHT = 900  # of a first screen
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


@contextmanager
def board_of(runs: Path) -> Iterator[dict[str, str]]:
    """Address of each page, as ``sppcls board`` prints it, while it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sppcls.cli.main", "board", str(runs)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    found = {}
    for line in process.stdout:
        page, _, address = line.strip().partition("  ")
        if "http://" in address:
            found[page] = address.strip()
        if "Ctrl-C ends it" in line:
            break
    try:
        yield found
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def tensorboard_of(folder: Path) -> Iterator[str]:
    """Address of a TensorBoard on ``folder``, once it has read everything there."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--load_fast=false", "--reload_task=blocking", "--reload_interval=0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        said = next(line for line in process.stderr if " at http://" in line)
        yield re.findall(r"http://\S+", said)[0]
    finally:
        process.kill()
        process.communicate(timeout=30)


def on_first_screen(page: Any, text: str) -> None:
    """Wait for a text, and see that it can be read without scrolling."""
    found = page.get_by_text(text).first
    found.wait_for()
    box = found.bounding_box()
    assert box is not None, text
    assert box["x"] >= 0, text
    assert 0 <= box["y"] <= HEIGHT - box["height"], (text, box)
