"""Steps of fine-tuning that a kill does not change: what a step takes follows from the seed and its number alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sppcls._util.files import replacing
from sppcls.detection.progress import Wrap
from sppcls.errors import ConfigError, DataError
from sppcls.nn import SPPClassifier
from sppcls.nn.weights import load_data_only

Log = Callable[[int, dict[str, float]], None]
Draw = Callable[[int, np.random.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TuningRules:
    """How layers are fine-tuned.

    Attributes:
        steps: mini-batches; 0: no fine-tuning. The paper has 300,000.
        lr: learning rate; a tenth of it in the last sixth of the steps. The paper has 1e-4, 1e-5 for so many more steps.
        momentum, weight_decay: of SGD.
        seed: of the windows drawn, the new layer and dropout.
        convolutions: mini-batches after these that train the convolutions as well, which the paper does not: see
            :mod:`~sppcls.detection.convolutions`.
        convolutions_lr: their learning rate, a tenth of it in the last sixth; 1e-3 in Fast R-CNN.
    """

    steps: int = 0
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0
    convolutions: int = 0
    convolutions_lr: float = 0.001

    def __post_init__(self) -> None:
        for name in ("steps", "convolutions"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} {getattr(self, name)}: must be at least 0")
        for name in ("lr", "convolutions_lr"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} {getattr(self, name)}: must be greater than 0")

    @property
    def any(self) -> bool:
        """Whether there is any fine-tuning."""
        return self.steps + self.convolutions > 0


@dataclass(frozen=True)
class Steps:
    """Some steps of fine-tuning.

    Attributes:
        count: their number.
        lr: learning rate; see :func:`rate`.
        every: steps after which the state is written.
        stream: keeps these draws apart from others of the same seed.
    """

    count: int
    lr: float
    every: int
    stream: int


def rate(lr: float, step: int, steps: int) -> float:
    """The learning rate of a step, from 0: a tenth of ``lr`` in the last sixth."""
    return lr / 10 if 6 * step >= 5 * steps else lr


def train_steps(
    net: SPPClassifier,
    trained: nn.Module,
    draw: Draw,
    state: Path,
    rules: TuningRules,
    steps: Steps,
    *,
    log: Log,
    progress: Wrap,
) -> None:
    """Train a network on batches of pooled windows, in place, or go on where it was stopped.

    The backbone stays in evaluation mode, for the statistics of its batch norm.

    Args:
        net: its last class is the background.
        trained: the part of it whose weights learn.
        draw: gives the pooled vectors (N, length) and labels (N,) of a step, drawn by the generator that it gets.
        state: file that the run goes on from after a kill.
        rules: momentum and weight decay of SGD, and the seed.
        steps: which steps these are.
        log: takes the step and the mean figures since the state was written: loss, error on objects and on background, lr.
        progress: wraps the steps.

    Raises:
        DataError: the state is damaged.
    """
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, steps.lr, rules.momentum, weight_decay=rules.weight_decay)
    begin = _load(state, trained, optimizer)
    figures: list[dict[str, float]] = []
    net.head.train()
    try:
        for step in progress(range(begin, steps.count), max(0, steps.count - begin)):
            rng = np.random.default_rng([rules.seed, steps.stream, step])
            x, y = draw(step, rng)
            # Dropout draws from torch's generator.
            torch.manual_seed(int(rng.integers(1 << 62)))
            for group in optimizer.param_groups:
                group["lr"] = rate(steps.lr, step, steps.count)
            logits = net.forward_head(x)
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            figures.append(_figures(loss, logits, y))
            if (step + 1) % steps.every == 0 or step + 1 == steps.count:
                means = {name: float(np.nanmean([one[name] for one in figures])) for name in figures[0]}
                log(step + 1, {**means, "lr": rate(steps.lr, step, steps.count)})
                _save(state, trained, optimizer, step + 1)
                figures.clear()
    finally:
        net.head.eval()


def _figures(loss: Tensor, logits: Tensor, y: Tensor) -> dict[str, float]:
    wrong = (logits.argmax(1) != y).float()
    background = y == logits.shape[1] - 1
    return {
        "loss": float(loss.detach()),
        "error on objects": 100 * float(wrong[~background].mean()),
        "error on background": 100 * float(wrong[background].mean()),
    }


def _save(path: Path, trained: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    state = {"head": trained.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
    with replacing(path) as temporary:
        torch.save(state, temporary)


def _load(path: Path, trained: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The step to go on from; 0 if there is no state."""
    try:
        state = load_data_only(path)
        trained.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except FileNotFoundError:
        return 0
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise DataError(f"{path}: damaged; remove it, and fine-tuning begins anew") from error
