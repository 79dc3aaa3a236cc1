"""What the verbs of ``sppcls detect`` share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sppcls.cli.common import not_negative, positive


def add_windows(parser: argparse.ArgumentParser) -> None:
    """``--proposals``, ``--limit``, ``--k``."""
    parser.add_argument(
        "--proposals",
        default="selective_search",
        metavar="HOW",
        help="selective_search (needs sppcls[detect]), grid, or a file of windows: .npz, .mat or .json "
        "(selective_search)",
    )
    parser.add_argument("--limit", type=positive, default=2000, metavar="N", help="windows per photo (2000)")
    parser.add_argument(
        "--k", type=positive, default=50, help="of selective search; larger: fewer, coarser windows (50)"
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """``--cache`` and ``--workers``."""
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where windows and maps are kept (~/.cache/sppcls/detect)",
    )
    parser.add_argument("--workers", type=not_negative, default=2, help="processes that search and read (2)")


def bar(what: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """A progress bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    def shown(items: Iterable[Any], total: int) -> Iterable[Any]:
        wrapped: Iterable[Any] = tqdm(
            items, total=total, desc=what, unit=" images", disable=None, leave=False
        )
        return wrapped

    return shown
