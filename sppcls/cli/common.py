"""What several commands share: their parsers, and checks that are made before any work."""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sppcls._util.console import one_line
from sppcls._util.files import check_local
from sppcls.errors import CheckpointError, ConfigError, DataError
from sppcls.registry import allow_plugins
from sppcls.runs.names import BEST, LAST

if TYPE_CHECKING:
    from sppcls.nn import SPPClassifier


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line, like every other error of the program."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"sppcls {command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, with options and other words in any order."""
        return self.parse_intermixed_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The positional argument ``checkpoint``."""
    parser.add_argument("checkpoint", metavar="CKPT", help="best.ckpt or last.ckpt of a run")
    add_plugins(parser)


def add_with(parser: argparse.ArgumentParser) -> None:
    """``--with``: more checkpoints, for an ensemble."""
    parser.add_argument(
        "--with",
        dest="others",
        nargs="+",
        default=[],
        metavar="CKPT",
        help="more checkpoints: an ensemble, whose probabilities are the mean of the networks'",
    )


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """``--plugins``, obeyed while the words are read: whatever comes after may name parts of the packages."""
    parser.add_argument(
        "--plugins",
        metavar="PACKAGE[,...]",
        type=lambda text: allow_plugins(*filter(None, text.split(","))),
        help="packages with parts of your own that the checkpoint may name",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``, ``--threads``, ``--workers`` and ``--batch-size``."""
    add_processor(parser)
    parser.add_argument("--workers", type=not_negative, default=2, help="processes that read images (2)")
    parser.add_argument(
        "--batch-size", type=positive, default=32, help="images at once, where shapes agree (32)"
    )


def add_processor(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--threads``."""
    parser.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ..."
    )
    parser.add_argument("--threads", type=positive, help="CPU threads (torch's choice)")


def positive(text: str) -> int:
    """An argument that is a whole number from 1 on."""
    value = int(text) if text.lstrip("+").isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return value


def not_negative(text: str) -> int:
    """An argument that is a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 0")
    return int(text)


def above_zero(text: str) -> float:
    """An argument that is a number greater than 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a number greater than 0")
    return value


def report_bad(fate: str, lines: Collection[str]) -> int:
    """Name the images that were ``fate`` ("left out") on stderr; the exit status: 1 if there are any, else 0."""
    for line in lines:
        print(one_line(f"sppcls: {fate}: {line}"), file=sys.stderr)
    return 1 if lines else 0


# What is taken for a checkpoint, by the end of its name, and what it is.
_NO_CHECKPOINT = {
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"): "is an image",
    (".onnx", ".pt2"): "is an exported network",
    (".npz",): "holds predictions or features; `sppcls compare` takes predictions",
    (".zip", ".tar", ".gz", ".tgz", ".7z"): "is an archive",
    (".yaml", ".yml", ".json", ".csv"): "is no checkpoint",
}


def check_checkpoint(checkpoint: str) -> None:
    """Refuse what cannot be a checkpoint by its name, before anything that takes seconds is loaded.

    Raises:
        CheckpointError: one line on what it is instead, and what to name.
    """
    check_local(checkpoint, "sppcls reads checkpoint files")
    path = Path(checkpoint)
    if os.path.isdir(path):
        there = [str(path / name) for name in (BEST, LAST) if (path / name).is_file()]
        name = " or ".join(there) or path / LAST
        raise CheckpointError(f"{checkpoint}: a folder; name a checkpoint file such as {name}")
    for ends, what in _NO_CHECKPOINT.items():
        if path.suffix.lower() in ends:
            raise CheckpointError(f"{checkpoint}: {what}; CKPT comes first: best.ckpt or last.ckpt of a run")
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{checkpoint}: no such checkpoint") from None
    except (OSError, ValueError) as error:  # such as a name that is too long, or has a zero byte
        raise CheckpointError(f"{checkpoint}: cannot be read ({getattr(error, 'strerror', error)})") from None


def check_there(place: str, wants: str) -> None:
    """Refuse a path that leads nowhere, or is an address, before anything that takes seconds is loaded.

    Raises:
        ConfigError: an address; ``wants`` says what is taken.
        DataError: there is nothing.
    """
    check_local(place, wants)
    if not os.path.exists(place):
        raise DataError(f"{place}: no such file or folder")


def load(checkpoint: str, device: str = "auto", threads: int | None = None) -> SPPClassifier:
    """The network of a checkpoint on a device, in evaluation mode.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: no such device.
    """
    check_checkpoint(checkpoint)
    import torch

    from sppcls.nn import LevelLargerThanMapWarning
    from sppcls.runs.checkpoint import load_classifier

    if threads:
        torch.set_num_threads(threads)
    # Small images are part of the job here, and the warning is about training.
    warnings.filterwarnings("ignore", category=LevelLargerThanMapWarning)
    place = choose_device(device)
    return load_classifier(checkpoint, map_location=place).to(memory_format=torch.channels_last)


def load_together(
    checkpoints: Sequence[str], device: str = "auto", threads: int | None = None
) -> SPPClassifier:
    """The network of a checkpoint, or the ensemble of those of several; errors as of :func:`load`."""
    nets = [load(checkpoint, device, threads) for checkpoint in checkpoints]
    if len(nets) == 1:
        return nets[0]
    from sppcls.inference.ensemble import ensemble

    return ensemble(nets, names=checkpoints)


def choose_device(device: str) -> Any:
    """The torch device of ``--device``; raises ConfigError if there is no such."""
    import torch

    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        place = torch.device(name)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError):
        found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ConfigError(f"--device {device}: choose from auto, {', '.join(['cpu', *found])}") from None
    return place
