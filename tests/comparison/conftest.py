"""Runs to compare: trained once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import BROWSER, FLAGS
from tiny_runs import TINY

import sppcls


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two seeds of single-size and two of multi-size training, each validated at 96 and at 72."""
    folder = tmp_path_factory.mktemp("trained") / "sizes"
    words = [word for word in TINY if not word.startswith("sizes.")]
    for name, sizes in (
        ("single", ["sizes=single_224", "sizes.sizes=[96]"]),
        ("multi", ["sizes.sizes=[96,72]"]),
    ):
        for seed in (0, 1):
            more = [f"name={folder.name}", f"runs_dir={folder.parent}", f"run_name={name}-seed{seed}"]
            config = sppcls.compose([*words, *sizes, "sizes.val_sizes=[96,72]", f"seed={seed}", *more])
            sppcls.train(config)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield started
        started.close()
