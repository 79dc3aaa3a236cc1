"""Steps of fine-tuning that a kill does not change: what a step takes follows from the seed and its number alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sppcls._util.files import replacing
from sppcls.errors import DataError
from sppcls.nn import SPPClassifier
from sppcls.nn.weights import load_data_only

Log = Callable[[int, dict[str, float]], None]
Wrap = Callable[[Iterable[Any], int], Iterable[Any]]
Draw = Callable[[int, np.random.Generator], tuple[Tensor, Tensor]]


def rate(lr: float, step: int, steps: int) -> float:
    """The learning rate of a step, from 0: a tenth of ``lr`` in the last sixth."""
    return lr / 10 if 6 * step >= 5 * steps else lr


def train_steps(
    net: SPPClassifier,
    trained: nn.Module,
    draw: Draw,
    state: Path,
    *,
    steps: int,
    every: int,
    lr: float,
    momentum: float,
    weight_decay: float,
    stream: tuple[int, int],
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
        steps, lr, momentum, weight_decay: of SGD; see :func:`rate`.
        every: steps after which the state is written.
        stream: the seed, and a number that keeps these draws apart from others with that seed.
        log: takes the step and the mean figures of ``every`` steps: loss, error on objects and on background, lr.
        progress: wraps the steps.

    Raises:
        DataError: the state is damaged.
    """
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    begin = _load(state, trained, optimizer)
    figures: list[dict[str, float]] = []
    net.head.train()
    try:
        for step in progress(range(begin, steps), max(0, steps - begin)):
            rng = np.random.default_rng([*stream, step])
            x, y = draw(step, rng)
            # Dropout draws from torch's generator.
            torch.manual_seed(int(rng.integers(1 << 62)))
            for group in optimizer.param_groups:
                group["lr"] = rate(lr, step, steps)
            logits = net.forward_head(x)
            loss = nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            figures.append(_figures(loss, logits, y))
            if (step + 1) % every == 0 or step + 1 == steps:
                means = {name: float(np.nanmean([one[name] for one in figures])) for name in figures[0]}
                log(step + 1, {**means, "lr": rate(lr, step, steps)})
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
    with replacing(path) as temporary:
        torch.save(
            {"head": trained.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, temporary
        )


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
