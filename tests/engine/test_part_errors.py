"""A mistake in a part of one's own: one line that names the part, the file and the line; the traceback is in the log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import Dataset

import sppcls
from sppcls.errors import ConfigError, DataError, PartError, SppclsError
from sppcls.nn import SpatialPyramidPooling2d, SPPClassifier

Words = Callable[..., list[str]]


class Shades(Dataset[Any]):
    def __init__(self, count: int, first: int = 0, error: Exception | None = None) -> None:
        self.targets = [first + index % 2 for index in range(count)]
        self.error = error

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if self.error is not None and index == 3:
            raise self.error
        return Image.new("RGB", (70, 60), (250, 10, 10) if index % 2 else (10, 10, 250)), self.targets[index]


class Unlabelled(Shades):
    """Its class numbers are in its items alone."""

    def __init__(self, count: int, first: int) -> None:
        super().__init__(count, first)
        self.numbers = self.__dict__.pop("targets")

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (70, 60)), self.numbers[index]


class Broken(nn.Module):
    """Fails while training alone, so that nothing notices before."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.convolution, self.error = nn.Conv2d(3, 8, 5, stride=4, padding=2), error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and x.requires_grad is False and x.device.type == "cpu":
            raise self.error
        return self.convolution(x)


class Careless(Callback):
    def on_train_batch_start(self, *args: Any) -> None:
        {}["key"]


def network(trunk: nn.Module | None = None) -> SPPClassifier:
    trunk = trunk or nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU())
    return SPPClassifier(trunk, SpatialPyramidPooling2d([2, 1]), nn.Linear(40, 2))


@pytest.fixture
def words(tiny: Words) -> Words:
    return lambda *more: [w for w in tiny(*more) if not w.startswith("data.num_")]


def train(words: list[str], **given: Any) -> dict[str, Any]:
    parts = {"net": network(), "sources": (Shades(16), Shades(6)), **given}
    return sppcls.train(sppcls.compose(words), **parts)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (
            lambda: {"net": network(Broken(RuntimeError("mat1 and mat2 differ")))},
            r"^test_part_errors\.Broken\.forward failed: RuntimeError: mat1 and mat2 differ \(test_part_errors\.py, line 6\d\); "
            r"the traceback is in .*train\.log$",
        ),
        (
            lambda: {"callbacks": [Careless()]},
            r"^test_part_errors\.Careless\.on_train_batch_start failed: KeyError: 'key' \(test_part_errors\.py, line 6\d\); ",
        ),
        (
            lambda: {"sources": (Shades(16, error=TypeError("no such thing")), Shades(6))},
            r"^train: item 3 failed: TypeError: no such thing \(test_part_errors\.py, line 3\d\); ",
        ),
    ],
)
def test_a_mistake_in_training_is_one_line(
    given: Callable[[], dict[str, Any]], line: str, words: Words, tmp_path: Path
) -> None:
    with pytest.raises(PartError, match=line) as caught:
        train(words(), **given())
    assert caught.value.__cause__ is not None
    (log,) = tmp_path.rglob("train.log")
    text = log.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in text
    assert "test_part_errors.py" in text
    assert "size" not in str(caught.value).replace(str(log), "")


def test_a_mistake_in_a_loader_process_is_the_same_line(words: Words, tmp_path: Path) -> None:
    sources = (Shades(16, error=TypeError("no such thing")), Shades(6))
    with pytest.raises(
        PartError, match=r"^train: item 3 failed: TypeError: no such thing \(.*, line 3\d\); "
    ) as caught:
        train(words("data.workers=1"), sources=sources)
    assert "\n" not in str(caught.value)
    (log,) = tmp_path.rglob("train.log")
    assert "__getitem__" in log.read_text(encoding="utf-8")


def test_an_image_that_cannot_be_read_is_still_left_out(words: Words) -> None:
    outcome = train(words(), sources=(Shades(16, error=OSError("truncated")), Shades(6)))
    result = (Path(outcome["folder"]) / "train.log").read_text(encoding="utf-8")
    assert "train/00003: OSError: truncated (test_part_errors.py, line" in result


def test_a_mistake_that_shows_before_training_is_no_matter_of_sizes(words: Words, tmp_path: Path) -> None:
    class Forgetful(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.nothing(x)  # type: ignore[no-any-return]

    with pytest.raises(
        ValueError,
        match=r"fails on an image of \d+x\d+: AttributeError: .*nothing.*test_part_errors\.py, line",
    ):
        network(Forgetful(nn.Conv2d(3, 8, 5)))

    class Late(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.undefined  # type: ignore[attr-defined, no-any-return]

    net = network()
    net.head = Late(40, 2)  # type: ignore[assignment]
    with pytest.raises(
        ConfigError, match=r"^net: AttributeError: .*undefined.* \(test_part_errors\.py, line \d+\)$"
    ):
        train(words(), net=net)
    assert not list(tmp_path.rglob("train.log"))


@pytest.mark.parametrize("kind", [Shades, Unlabelled])
def test_labels_from_one_on_are_off_by_one(kind: Any, words: Words) -> None:
    with pytest.raises(
        DataError, match=r"^train: class numbers are 1 to 2; they begin at 0: off by one, subtract 1"
    ):
        train(words(), sources=(kind(16, first=1), kind(6, first=1)))


def test_a_missing_package_of_a_logger_is_found_before_anything_is_written(
    words: Words, tmp_path: Path
) -> None:
    from pytorch_lightning.loggers.wandb import _WANDB_AVAILABLE

    if _WANDB_AVAILABLE:
        pytest.skip("wandb is installed")
    with pytest.raises(
        SppclsError, match=r"^logger\.wandb: needs a package that is not installed: pip install 'wandb"
    ):
        train(words("logger=[tensorboard,wandb]"))
    assert not list(tmp_path.rglob("*.yaml"))
