"""What several commands share: arguments, and checks that are made before any work."""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from sppcls._util.console import one_line
from sppcls._util.files import check_local, mode_of
from sppcls.cli.command import Check
from sppcls.errors import CheckpointError, ConfigError, DataError
from sppcls.registry import allow_plugins
from sppcls.runs.names import BEST, LAST, no_file

if TYPE_CHECKING:
    import torch

    from sppcls.config import Config
    from sppcls.nn import SPPClassifier


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """How a whole number from ``low`` on, or up to ``high``, is read."""
    allowed = f"of at least {low}" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        value = int(text) if text.removeprefix("+").isdecimal() else low - 1
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number {allowed}")
        return value

    return read


def between(low: float, high: float = math.inf, ends: bool = False) -> Callable[[str], float]:
    """How a number above ``low`` and below ``high`` is read, or with their ``ends`` from one to the other."""
    allowed = f"greater than {low:g}" if high == math.inf else f"between {low:g} and {high:g}"
    allowed = f"from {low:g} to {high:g}" if ends else allowed

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value < high or (ends and value in (low, high))):
            raise argparse.ArgumentTypeError(f"{text}: must be a number {allowed}")
        return value

    return read


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


def check_checkpoint(checkpoint: str, names: Sequence[str] = (BEST, LAST)) -> None:
    """Refuse what cannot be a checkpoint by its name, before anything that takes seconds is loaded.

    ``names`` are those that such files usually have.

    Raises:
        CheckpointError: one line on what it is instead, and what to name.
    """
    check_local(checkpoint, "sppcls reads checkpoint files")
    path = Path(checkpoint)
    if os.path.isdir(path):
        raise CheckpointError(f"{checkpoint}: {no_file(path, names)}")
    for ends, what in _NO_CHECKPOINT.items():
        if path.suffix.lower() in ends:
            raise CheckpointError(f"{checkpoint}: {what}; CKPT comes first: {' or '.join(names)} of a run")
    if mode_of(path) is None:
        raise CheckpointError(f"{checkpoint}: no such checkpoint")


def check_there(place: str | Path, wants: str) -> None:
    """Refuse a path that leads nowhere, or is an address, before anything that takes seconds is loaded.

    Raises:
        ConfigError: an address; ``wants`` says what is taken.
        DataError: there is nothing.
    """
    check_local(place, wants)
    if not os.path.exists(place):
        raise DataError(f"{place}: no such file or folder")


Positive = Annotated[int, whole(1)]
NotNegative = Annotated[int, whole(0)]
AboveZero = Annotated[float, between(0)]
Names = Annotated[list[str], lambda text: [name for name in text.split(",") if name.strip()]]
CheckpointFile = Annotated[str, Check(check_checkpoint)]
CheckpointFiles = Annotated[tuple[str, ...], Check(check_checkpoint)]
# Obeyed while the words are read: whatever comes after may name parts of the packages.
Plugins = Annotated[str, lambda text: allow_plugins(*filter(None, text.split(",")))]


@dataclass(kw_only=True)
class Processor:
    """Where networks run, and which code they may name.

    Args:
        device: cpu, cuda, cuda:1, ...; auto: a GPU if there is one
        threads (N): CPU threads (torch's choice)
        plugins (PACKAGE[,...]): packages with parts of your own that the checkpoint may name
    """

    device: str = "auto"
    threads: Positive | None = None
    plugins: Plugins | None = None

    def use(self) -> torch.device:
        """The torch device, with torch on as many threads as asked for; raises ConfigError if there is no such device."""
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        name = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError):
            found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
            raise ConfigError(f"--device {self.device}: choose from auto, {', '.join(found)}") from None
        return device

    def load(self, *checkpoints: str) -> SPPClassifier:
        """The network of a checkpoint, or the ensemble of those of several, in evaluation mode.

        Raises:
            CheckpointError: a checkpoint cannot be used.
            ConfigError: no such device.
        """
        device = self.use()
        import torch

        from sppcls.nn import LevelLargerThanMapWarning
        from sppcls.runs.checkpoint import load_classifier

        # Small images are part of the job here, and the warning is about training.
        warnings.filterwarnings("ignore", category=LevelLargerThanMapWarning)
        nets = [
            load_classifier(path, map_location=device).to(memory_format=torch.channels_last)
            for path in checkpoints
        ]
        if len(nets) == 1:
            return nets[0]
        from sppcls.inference.ensemble import ensemble

        return ensemble(nets, names=checkpoints)


@dataclass(kw_only=True)
class Loading(Processor):
    """Where networks run, and how images come to them.

    Args:
        workers (N): processes that read images
        batch_size (N): images at once, where shapes agree
    """

    workers: NotNegative = 2
    batch_size: Positive = 32

    @property
    def reading(self) -> dict[str, Any]:
        """How images come to the network, as keyword arguments of what reads them."""
        return {"workers": self.workers, "batch_size": self.batch_size}


# Before an option that is read as a word; no word that was typed has this sign.
_IN_ORDER = "\0"


@dataclass
class RunWords:
    """What to train.

    Args:
        overrides (key=value): config keys and groups, as for `sppcls train`; `sppcls train --help` lists them
        data (PHOTOS): short for data=folder data.root=PHOTOS
        config_dir (-cd DIR): folder with configs of your own
    """

    overrides: tuple[str, ...] = ()
    _: KW_ONLY
    data: str | None = None
    config_dir: str | None = None

    @staticmethod
    def prepared(words: list[str]) -> list[str]:
        """The words with ``--data`` among those that keep their order: of two values of a key the last one counts."""
        end = words.index("--") if "--" in words else len(words)
        return [_IN_ORDER * (word.partition("=")[0] == "--data") + word for word in words[:end]] + words[end:]

    @staticmethod
    def unknown(option: str, value: str, known: Iterable[str]) -> str:
        """What is wrong with an option that there is not: keys are words, not options."""
        from sppcls.config.compose import group_choices
        from sppcls.config.mistakes import unknown_option

        return unknown_option(option, value, group_choices(), known)

    @property
    def words(self) -> list[str]:
        """The words, with ``--data`` written out where it stands, as of `sppcls train`."""
        from sppcls.config.command_line import read_command_line

        return read_command_line([word.removeprefix(_IN_ORDER) for word in self.overrides]).overrides

    def compose(self) -> Config:
        """The checked config of these words."""
        from sppcls.config.compose import compose

        return compose(self.words, self.config_dir)
