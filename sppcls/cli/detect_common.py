"""What the verbs of ``sppcls detect`` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sppcls.cli.common import add_plugins, add_processor, choose_device, not_negative, positive
from sppcls.errors import ConfigError

if TYPE_CHECKING:
    from sppcls.detection.detector import Detector


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


def add_set(parser: argparse.ArgumentParser, split: str) -> None:
    """``--data``, ``--split`` and ``--scenes``."""
    parser.add_argument(
        "--data",
        metavar="SET",
        required=True,
        help="images with boxes: a VOC folder, COCO JSON, a YOLO folder; or shapes, generated scenes",
    )
    parser.add_argument("--split", metavar="NAME", help=f"of the set ({split})")
    parser.add_argument(
        "--scenes", type=positive, metavar="N", help="generated scenes of shapes (300; val 100)"
    )


def scenes_of(place: str, scenes: int | None) -> int:
    """``--scenes``, 0 for the usual number; raises ConfigError where nothing is generated."""
    if scenes is not None and place != "shapes":
        raise ConfigError(
            f"--scenes {scenes}: {place} has its own images; scenes are generated for shapes only"
        )
    return scenes or 0


def add_detector_options(parser: argparse.ArgumentParser) -> None:
    """``--svd``, ``--device``, ``--threads`` and ``--plugins``."""
    parser.add_argument(
        "--svd",
        type=float,
        metavar="RANK",
        help="fc layers as two thin ones of this rank; below 1: of the rank that keeps this share of the energy",
    )
    add_processor(parser)
    add_plugins(parser)


def load_on(path: str, args: argparse.Namespace) -> Detector:
    """The detector of a file, as the options of :func:`add_detector_options` say."""
    import torch

    from sppcls.detection.detector import load_detector

    place = choose_device(args.device)
    if args.threads:
        torch.set_num_threads(args.threads)
    detector = load_detector(path, place, args.svd)
    for line in detector.about.get("svd", []):
        print(f"sppcls: {line}", file=sys.stderr)
    return detector


def make_folder(folder: str, option: str) -> None:
    """Make a folder to write to, before work begins; raises ConfigError."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option} {folder}: cannot be made ({error.strerror})") from None


def bar(what: str) -> Callable[[Iterable[Any], int], Iterable[Any]]:
    """A progress bar on stderr, where that is a terminal."""
    from tqdm import tqdm

    def shown(items: Iterable[Any], total: int) -> Iterable[Any]:
        wrapped: Iterable[Any] = tqdm(
            items, total=total, desc=what, unit=" images", disable=None, leave=False
        )
        return wrapped

    return shown
