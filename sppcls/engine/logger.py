"""Where figures go: TensorBoard events in the run folder itself, and whatever loggers of Lightning's a config names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from lightning_utilities.core.imports import RequirementCache
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from sppcls.config.schema import Config
from sppcls.errors import ConfigError
from sppcls.registry import TARGET, build, find


def writer_of(trainer: pl.Trainer) -> SummaryWriter:
    """The TensorBoard writer of a run, on the first process only; without ``logger.tensorboard`` it writes nothing."""
    own = next((logger for logger in trainer.loggers if isinstance(logger, RunLogger)), None)
    return cast(SummaryWriter, _NoWriter()) if own is None else own.experiment


class _NoWriter:
    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def log_figures(trainer: pl.Trainer, figures: Mapping[str, float], epoch: int) -> None:
    """Log the figures of an epoch: to TensorBoard against the epoch, elsewhere at the step with the epoch beside them."""
    writer = writer_of(trainer)
    for name, value in figures.items():
        writer.add_scalar(name, value, epoch)
    log_elsewhere(trainer, figures, epoch)


def log_elsewhere(trainer: pl.Trainer, figures: Mapping[str, float], epoch: int) -> None:
    """Log the figures of an epoch to all loggers but TensorBoard's."""
    for logger in trainer.loggers:
        if not isinstance(logger, RunLogger):
            logger.log_metrics({**figures, "epoch": epoch}, step=trainer.global_step)


def check_loggers(config: Config) -> None:
    """Refuse one of Lightning's loggers whose package is missing, before anything is written.

    Raises:
        ConfigError: names the logger and the package.
    """
    for name, values in config.logger.items():
        module = vars(sys.modules[find("logger", values).__module__]) if values else {}
        needed = [value for value in module.values() if isinstance(value, RequirementCache)]
        if needed and not any(needed):
            raise ConfigError(
                f"logger.{name}: needs a package that is not installed: pip install '{needed[0].requirement}'"
            )


def make_loggers(config: Config, folder: Path) -> list[Logger]:
    """The loggers of a run, TensorBoard's first. ``{folder}`` in a parameter stands for the run's folder.

    Raises:
        ConfigError: a logger cannot be made, such as one whose package is missing.
    """
    loggers: list[Logger] = []
    for name, values in config.logger.items():
        if not values:
            loggers.insert(0, RunLogger(folder))
            continue
        placed = {
            k: v.replace("{folder}", str(folder)) if isinstance(v, str) else v for k, v in values.items()
        }
        logger = build("logger", placed, folder=folder)
        if not isinstance(logger, Logger):
            raise ConfigError(
                f"logger.{name}: {values[TARGET]} gives a {type(logger).__name__}, not a Lightning logger"
            )
        loggers.append(logger)
    return loggers


class RunLogger(TensorBoardLogger):
    """Writes events straight into ``folder``; TensorBoard's run name is the folder's path below ``--logdir``.

    Lightning's own hparams record lists its metrics in one *experiment* summary per run, and TensorBoard takes the
    columns of all runs from a single one of them. Here only the session is written: TensorBoard then unites the
    columns of all runs and offers every scalar as a metric, and a run that is killed keeps its row.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__(save_dir=str(folder), name="", version="", default_hp_metric=False)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Write one flat dict of numbers, booleans and strings as this run's row."""
        _, session_start, _ = hparams(dict(params), {})
        writer = self.experiment._get_file_writer()
        writer.add_summary(session_start)
        writer.flush()

    @rank_zero_only
    def save(self) -> None:
        """Nothing: the resolved config is written once, as ``config.yaml``."""
        self.experiment.flush()
