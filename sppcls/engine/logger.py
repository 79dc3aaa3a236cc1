"""TensorBoard events in the run folder itself, with an HParams row from the first minute on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


def writer_of(trainer: pl.Trainer) -> SummaryWriter:
    """The TensorBoard writer of a run; on the first process only."""
    assert isinstance(trainer.logger, RunLogger)
    return trainer.logger.experiment


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
