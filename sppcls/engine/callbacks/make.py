"""The callbacks of a run, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning.callbacks import Callback, WeightAveraging

from sppcls.config.schedule import first_averaged
from sppcls.config.schema import Config
from sppcls.engine.callbacks.ema import ema_with_warmup
from sppcls.engine.callbacks.explain_pyramid import ExplainPyramid
from sppcls.engine.callbacks.final_test import FinalTest
from sppcls.engine.callbacks.gradients import GradientNorm
from sppcls.engine.callbacks.high_loss import HighLoss
from sppcls.engine.callbacks.pictures import Pictures
from sppcls.engine.callbacks.predictions import SavePredictions
from sppcls.engine.callbacks.protocols import ProtocolErrors, ProtocolErrorsAtEnd
from sppcls.engine.callbacks.report import EpochReport
from sppcls.engine.callbacks.saving import Saving
from sppcls.engine.callbacks.swa import StochasticWeightAveraging
from sppcls.engine.fine_tuning import Freezing
from sppcls.engine.resume import ConfirmResume
from sppcls.errors import ConfigError
from sppcls.evaluation.protocols import Protocol
from sppcls.registry import TARGET, build


def make_callbacks(
    config: Config,
    folder: Path,
    hyperparameters: dict[str, object],
    protocols: Sequence[Protocol],
    *,
    memory: Callback,
    saving: Saving,
    progress: Callback,
    own: Sequence[Callback] = (),
) -> list[Callback]:
    """All callbacks of a run in the order in which they are called.

    Lightning moves ``saving`` and other checkpoint callbacks to the end. What the order keeps true: averaged weights
    are in place for every test; the look at memory may refuse a run before :class:`ConfirmResume` writes its config,
    and that before the report takes rows out of ``metrics.csv``; people's own callbacks see the figures of an epoch
    before it is saved, so that a stop by one is saved, too; the tests at the end come last.

    Args:
        config: of the run.
        folder: of the run.
        hyperparameters: the row of TensorBoard's HParams page.
        protocols: tested at the end, and every ``evaluation.every`` epochs.
        memory, saving, progress: made before, as others have to know them.
        own: those of the config (:func:`own_callbacks`), and those given from Python.
    """
    callbacks: list[Callback] = [memory, ConfirmResume(folder, config)]
    callbacks += [EpochReport(folder, hyperparameters, config.best_by), SavePredictions(folder), HighLoss()]
    callbacks += [*own, saving, progress]
    if config.freeze:
        callbacks.append(Freezing(config.freeze, config.freeze_epochs))
    if config.logger:
        callbacks.append(GradientNorm(config.log.every_n_steps))
    if config.log.images:
        callbacks += [Pictures(folder), ExplainPyramid(folder)]
    if config.ema.enabled:
        callbacks.insert(0, WeightAveraging(avg_fn=ema_with_warmup(config.ema.decay)))
    if config.swa.enabled:
        first = first_averaged(config.swa.start, config.trainer.max_epochs)
        callbacks.insert(0, StochasticWeightAveraging(first, config.swa.batch_norm_images))
    if protocols:
        errors = ProtocolErrors(protocols, config.evaluation.every)
        callbacks = [errors, *callbacks, ProtocolErrorsAtEnd(folder, errors)]
    callbacks.append(FinalTest(folder, protocols))
    _check_order(callbacks)
    return callbacks


def own_callbacks(config: Config) -> list[Callback]:
    """The callbacks that a config names.

    Raises:
        ConfigError: one cannot be made, or is none.
    """
    made = []
    for name, values in config.callbacks.items():
        callback = build("callbacks", values)
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"callbacks.{name}: {values[TARGET]} gives a {type(callback).__name__}, not a Lightning callback"
            )
        made.append(callback)
    return made


# Each comes before the other wherever both are there.
_ORDER = (
    (WeightAveraging, ProtocolErrorsAtEnd),
    (StochasticWeightAveraging, ProtocolErrorsAtEnd),
    (ConfirmResume, EpochReport),
    (EpochReport, Saving),
    (Freezing, GradientNorm),
    (SavePredictions, Saving),
    (ProtocolErrors, EpochReport),
    (ProtocolErrorsAtEnd, FinalTest),
)


def _check_order(callbacks: Sequence[Callback]) -> None:
    position = {type(callback): number for number, callback in enumerate(callbacks)}
    for before, after in _ORDER:
        if before in position and after in position:
            assert position[before] < position[after], f"{before.__name__} after {after.__name__}"
