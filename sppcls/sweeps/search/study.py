"""``sppcls search``: plan, check, draw and train trials one after the other, write down what came of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from sppcls._util.files import write_json
from sppcls._util.reason import reason_of
from sppcls.errors import ConfigError, SppclsError
from sppcls.runs.names import SEARCH
from sppcls.sweeps.folder import claim_folder
from sppcls.sweeps.search.check import SpaceCheck
from sppcls.sweeps.search.parameters import Choices, Range
from sppcls.sweeps.search.report import SearchReport
from sppcls.sweeps.search.space import SearchPlan, plan_search
from sppcls.sweeps.search.trial import TrialOutcome, TrialRun, trial_name
from sppcls.sweeps.stopping import stop_interrupts

STUDY = "study.db"

# A search in which so many trials fail one after the other has a fault that no values will mend.
_FAILURES = 5

# So many draws in a row that are impossible or were tried before: there is nothing left to try.
_WASTED = 50

# What counts as a trial done. A failed one says nothing about its values.
_DONE = ("finished", "pruned", "diverged")

# How each outcome is reported to Optuna. A pruned trial without a value counts as worse than all others, a failed one is
# not learnt from.
_STATES = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "impossible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "repeated": TrialState.FAIL,
}


def run_search(words: Sequence[str], config_dir: str | None = None) -> Path:
    """Do the trials of ``sppcls search <words>`` that are not done yet; returns the search's folder.

    Raises:
        ConfigError: anything that makes a value impossible, before the first trial.
        SppclsError: trials fail one after the other, or the search's folder cannot be used any longer.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    check = SpaceCheck(plan_search(words, config_dir))
    check.space()
    plan = check.plan
    with claim_folder(plan.runs_dir, plan.name, SEARCH, plan.identity) as (folder, known):
        write_json(folder / SEARCH, {"name": folder.name, "identity": plan.identity, "words": plan.words})
        with _storage(folder / STUDY) as storage:
            search = Search(plan, folder, check, _open_study(folder, storage, known is not None))
            with stop_interrupts():
                search.run()
    return folder


class Search:
    """One search in its folder, which the caller has locked: draws, trains, writes down."""

    def __init__(self, plan: SearchPlan, folder: Path, check: SpaceCheck, study: optuna.Study) -> None:
        self.plan, self.folder, self.check, self.study = plan, folder, check, study
        self.report = SearchReport(plan, folder, study)
        self.distributions = {name: _distribution(what) for name, what in plan.params.items()}

    def run(self) -> None:
        """Trials until as many are done as were asked for.

        Raises:
            SppclsError: trials fail one after the other, or somebody else stopped one.
        """
        begun = self._begun()
        self.report.opening(self._done(), len(begun))
        failures = wasted = 0
        try:
            while self._done() < self.plan.settings.n_trials:
                trial = begun.pop(0) if begun else self.ask()
                outcome = self._outcome(trial)
                self._tell(trial, outcome)
                wasted = wasted + 1 if outcome.state in ("impossible", "repeated") else 0
                if outcome.state == "failed":
                    failures += 1
                elif outcome.state in _DONE:
                    failures = 0
                if failures == _FAILURES:
                    raise SppclsError(
                        f"{failures} trials failed one after the other; the last: {outcome.reason}"
                    )
                if wasted == _WASTED:
                    self.report.say(
                        f"{wasted} draws in a row were tried before or cannot be trained: nothing is left to try"
                    )
                    break
        finally:
            self.report.closing(self._done())

    def _done(self) -> int:
        return sum(
            trial.user_attrs.get("outcome") in _DONE for trial in self._trials() if trial.state.is_finished()
        )

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _begun(self) -> list[optuna.Trial]:
        """Trials of a process that is gone: whoever holds the folder runs the only search in it."""
        begun = []
        for trial in self._trials():
            if trial.state != TrialState.RUNNING:
                continue
            if set(trial.params) == set(self.distributions):
                self.study.sampler = self._sampler(trial.number)
                begun.append(optuna.Trial(self.study, trial._trial_id))
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)  # killed while its values were drawn
        return begun

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """One for every trial, so that a search that was interrupted draws as one that was not."""
        settings = self.plan.settings.sampler
        seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
        if settings.name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=settings.startup_trials)

    def ask(self) -> optuna.Trial:
        """A new trial with drawn values."""
        self.study.pruner = self._pruner()
        self.study.sampler = self._sampler(len(self._trials()))
        trial = self.study.ask(self.distributions)
        if (self.folder / trial_name(trial.number)).exists():
            raise ConfigError(
                f"{self.folder / trial_name(trial.number)}: is none of this search; move it away"
            )
        return trial

    def _pruner(self) -> optuna.pruners.BasePruner:
        settings = self.plan.settings.pruner
        if settings.name == "none":
            return optuna.pruners.NopPruner()
        return optuna.pruners.MedianPruner(settings.startup_trials, settings.warmup_epochs)

    def _outcome(self, trial: optuna.Trial) -> TrialOutcome:
        self.study.pruner = self._pruner()
        for other in self._trials():
            if not other.state.is_finished():  # itself, if it was killed while its outcome was written down
                continue
            if other.params == trial.params and other.user_attrs.get("outcome") in _DONE:
                return TrialOutcome("repeated", reason=f"the values of {trial_name(other.number)}")
        try:
            config = self.check.config(trial.params)
        except SppclsError as error:
            self.report.started(trial)
            return TrialOutcome("impossible", reason=str(error))
        self.report.started(trial)
        return TrialRun(self.plan, self.folder, trial, config, self.report.say).run()

    def _tell(self, trial: optuna.Trial, outcome: TrialOutcome) -> None:
        for name, value in (
            ("reason", outcome.reason),
            ("epochs", outcome.epochs),
            ("seconds", outcome.seconds),
            ("outcome", outcome.state),
        ):
            trial.set_user_attr(name, value)
        self.study.tell(trial.number, outcome.value, state=_STATES[outcome.state])
        self.report.ended(outcome)


# --- Optuna


def _distribution(what: Choices | Range) -> optuna.distributions.BaseDistribution:
    if isinstance(what, Choices):
        return optuna.distributions.CategoricalDistribution(what.values)
    if what.whole:
        step = 1 if what.step is None else int(what.step)
        return optuna.distributions.IntDistribution(int(what.low), int(what.high), what.log, step)
    return optuna.distributions.FloatDistribution(what.low, what.high, what.log, what.step)


@contextmanager
def _storage(path: Path) -> Iterator[optuna.storages.RDBStorage]:
    """SQLite: a transaction is there or not, however the process ends, and its locks end with it.

    Raises:
        SppclsError: the file is damaged, of a newer Optuna, or cannot be written.
    """
    try:
        # No pool: its connections would stay open where the file turns out to be no database.
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path.resolve()}", engine_kwargs={"poolclass": sqlalchemy.pool.NullPool}
        )
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError, optuna.exceptions.OptunaError) as error:
        raise _unusable(path, error) from None
    try:
        yield storage
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _unusable(path, error) from None
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _unusable(path: Path, error: Exception) -> SppclsError:
    cause: Any = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    reason = reason_of(getattr(cause, "orig", None) or cause or error, 300)
    return SppclsError(f"{path}: cannot be used ({reason})")


def _open_study(folder: Path, storage: optuna.storages.RDBStorage, known: bool) -> optuna.Study:
    study = optuna.create_study(
        storage=storage, study_name="search", load_if_exists=True, direction="minimize"
    )
    if known and not study.get_trials(deepcopy=False) and any(folder.glob("trial-*")):
        raise ConfigError(
            f"{folder / STUDY}: is empty, but {folder} has trials; move that folder away to search anew"
        )
    return study
