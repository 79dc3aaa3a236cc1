"""A short training whose learning rate rises from step to step: which rates lower the loss (Smith 2017, sec. 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from sppcls.config.schema import Config
from sppcls.config.schema_training import SchedulerConfig
from sppcls.engine.fine_tuning import Freezing
from sppcls.engine.learning_rate import LearningRate
from sppcls.engine.losses import step_loss
from sppcls.engine.module import DivergedError
from sppcls.engine.parts import Parts
from sppcls.engine.quiet import quiet_lightning
from sppcls.errors import ConfigError

_SMOOTHING = 0.9
_TOO_HIGH = 4.0  # times the lowest loss, at which the test ends
_NOT_FINITE = "the loss was no finite number any more"


@dataclass
class RateTest:
    """What a test of learning rates has shown.

    Attributes:
        rates: of each update, rising.
        losses: mean loss of each update's images.
        smoothed: the losses with a running mean over about ten updates.
        ended: why it ended before its last update; empty if it did not.
    """

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    smoothed: list[float] = field(default_factory=list)
    ended: str = ""

    @property
    def lowest(self) -> int:
        """The update after which the smoothed loss is lowest."""
        return int(np.argmin(self.smoothed))

    @property
    def steepest(self) -> int | None:
        """The update where the smoothed loss falls fastest by the logarithm of the rate; None if it does not fall.

        The first tenth is left out: the running mean has just begun.
        """
        begin, end = len(self.rates) // 10, self.lowest
        if end - begin < 2:
            return None
        slope = np.gradient(self.smoothed[begin : end + 1], np.log(self.rates[begin : end + 1]))
        return begin + int(slope.argmin())


class RisingRate(LearningRate):
    """A rate that rises exponentially from ``low`` to ``high`` in so many updates."""

    def __init__(self, low: float, high: float, steps: int, config: SchedulerConfig) -> None:
        super().__init__(low, config)
        self.high, self.steps = high, steps

    def at(self, step: int, steps_per_epoch: int, epochs: int, drops: int = 0) -> float:
        return self.base * (self.high / self.base) ** (step / max(1, self.steps - 1))


class _Curve(Callback):
    """Gathers (rate, loss) of every batch, and ends the training when the loss has risen far above its lowest."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self.test = RateTest()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        shared = step_loss(outputs, trainer.accumulate_grad_batches)
        if shared is None:
            return
        loss = float(shared)
        if not math.isfinite(loss):  # on a GPU the module looks only now and then
            self.test.ended = _NOT_FINITE
            trainer.should_stop = True
            return
        self.points.append((float(pl_module.lr), loss))  # type: ignore[arg-type]
        self.test = _smoothed(self.points)
        if self.test.smoothed[-1] > _TOO_HIGH * min(self.test.smoothed):
            self.test.ended = f"the loss was {_TOO_HIGH:g} times its lowest"
            trainer.should_stop = True


def _smoothed(points: list[tuple[float, float]]) -> RateTest:
    test = RateTest()
    mean = 0.0
    for rate, group in groupby(points, key=lambda point: point[0]):
        losses = [loss for _, loss in group]
        test.rates.append(rate)
        test.losses.append(math.fsum(losses) / len(losses))
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * test.losses[-1]
        test.smoothed.append(mean / (1 - _SMOOTHING ** len(test.rates)))
    return test


def find_rate(config: Config, steps: int = 100, low: float = 1e-6, high: float = 1.0) -> RateTest:
    """Train ``steps`` updates at rates that rise from ``low`` to ``high``; nothing is written.

    Images, sizes, augmentation, network, ``init_from``, ``freeze``, loss and optimizer are those of the config; the
    scheduler is not used. On one device.

    Raises:
        ConfigError: rates or steps out of range, or fewer updates in the whole training than 10.
        SppclsError: as training would.
    """
    if not 0 < low < high < math.inf:
        raise ConfigError(f"low={low:g}, high={high:g}: 0 < low < high is needed")
    if config.ckpt_path is not None:
        raise ConfigError(
            f"ckpt_path={config.ckpt_path}: rates are tried from the start; use init_from, or null"
        )
    quiet_lightning()
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    parts = Parts(config, devices=1)
    datamodule = parts.datamodule()
    batches = len(datamodule.batch_sampler())
    updates = config.trainer.max_epochs * math.ceil(batches / config.trainer.accumulate_grad_batches)
    steps = min(steps, updates)
    if steps < 10:
        raise ConfigError(f"steps={steps}: at least 10 updates are needed; the whole training has {updates}")
    module = parts.module(model_info={})
    module.rate = RisingRate(low, high, steps, config.scheduler)
    curve = _Curve()
    freezing = [Freezing(config.freeze, config.freeze_epochs)] if config.freeze else []
    trainer = pl.Trainer(
        **parts.trainer_options(),
        max_steps=steps,
        devices=1,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=[curve, *freezing],
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    try:
        trainer.fit(module, datamodule)
    except DivergedError:
        curve.test.ended = _NOT_FINITE
    if not curve.test.rates:
        raise ConfigError("the loss is no finite number at the lowest rate: choose a lower one")
    return curve.test
