"""What the verbs of ``sppcls detect`` share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from sppcls._util.files import check_local
from sppcls.cli.command import Check
from sppcls.cli.common import NotNegative, Positive, Processor, check_checkpoint
from sppcls.errors import ConfigError
from sppcls.runs.names import DETECTOR

if TYPE_CHECKING:
    from sppcls.detection.detector import Detector
    from sppcls.detection.sets import DetectionSet


@dataclass(kw_only=True)
class Windows:
    """Which windows may hold an object.

    Args:
        proposals (HOW): selective_search (needs sppcls[detect]), grid, or a file of windows: .npz, .mat or .json
        limit (N): windows per photo
        k: of selective search; a larger one gives fewer, coarser windows
    """

    proposals: str = "selective_search"
    limit: Positive = 2000
    k: Positive = 50


@dataclass(kw_only=True)
class Work:
    """What is kept for the next command, and who works.

    Args:
        cache (DIR): where windows and maps are kept (~/.cache/sppcls/detect)
        workers: processes that search and read
    """

    cache: Path | None = None
    workers: NotNegative = 2

    @property
    def kept(self) -> Path:
        """The folder of ``--cache``, or the usual one."""
        from sppcls.detection.store import default_cache

        return self.cache or default_cache()


# `sppcls detect train` writes such files.
_DETECTORS = Check(partial(check_checkpoint, names=(DETECTOR,)))
DetectorFile = Annotated[str, _DETECTORS]
DetectorFiles = Annotated[tuple[str, ...], _DETECTORS]

BoxPlace = Annotated[
    str, Check(lambda place: check_local(place, "sppcls reads folders of images with boxes"))
]


@dataclass(kw_only=True)
class BoxSet:
    """Images with boxes, to train on.

    Args:
        data (SET): images with boxes: a VOC folder, COCO JSON, a YOLO folder; or shapes, generated scenes
        split (NAME): split of the set (to train: train, or trainval beside a test; to judge: test, or else val)
        scenes (N): how many scenes of shapes to generate (300 to train, 100 to judge)
    """

    data: BoxPlace
    split: str | None = None
    scenes: Positive | None = None
    purpose: ClassVar[str] = "train"

    def read(self) -> DetectionSet:
        """The images of the split; no pixel is decoded."""
        from sppcls.detection.sets import read_set

        count = scene_count(self.data, self.scenes)
        return read_set(self.data, self.split, purpose=self.purpose, count=count)


@dataclass(kw_only=True)
class JudgedBoxes(BoxSet):
    """Images with boxes, to judge a detector on.

    Args:
        split (NAME): split of the set (test, or else val)
        scenes (N): generated scenes of shapes (100)
    """

    purpose: ClassVar[str] = "test"


def scene_count(place: str, scenes: int | None) -> int:
    """``--scenes``, 0 for the usual number; raises ConfigError where nothing is generated."""
    if scenes is not None and place != "shapes":
        raise ConfigError(
            f"--scenes {scenes}: {place} has its own images; scenes are generated for shapes only"
        )
    return scenes or 0


@dataclass(kw_only=True)
class DetectorUse(Processor):
    """Where a detector runs, and how exactly.

    Args:
        svd (RANK): make two thin layers of each fc layer, of this rank; below 1: of the rank that keeps this share of the
            energy
    """

    svd: float | None = None

    def load_detector(self, path: str) -> Detector:
        """The detector of a file; what ``--svd`` makes of it is said on stderr."""
        from sppcls.detection.detector import load_detector

        detector = load_detector(path, self.use(), self.svd)
        for line in detector.about.get("svd", []):
            print(f"sppcls: {line}", file=sys.stderr)
        return detector


def make_folder(folder: Path, option: str, names: Iterable[str] = (), overwrite: bool = True) -> None:
    """Make a folder to write to, before work begins.

    Raises:
        ConfigError: it cannot be made, or holds a file of one of the names already.
    """
    if not overwrite and (there := next((name for name in names if (folder / name).exists()), None)):
        raise ConfigError(
            f"{option} {folder}: {there} exists already; name another folder, or add --overwrite"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
