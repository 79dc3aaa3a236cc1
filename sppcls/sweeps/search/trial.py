"""One trial: a training run in a process of its own, its errors reported as they come, stopped if they are bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from sppcls.config.compose import searchpath_words
from sppcls.config.grammar import hydra_word
from sppcls.config.schema import Config
from sppcls.engine.module import DivergedError
from sppcls.errors import ConfigError, SppclsError
from sppcls.runs.folder import has_finished
from sppcls.runs.metrics import figure_in, read_metrics
from sppcls.runs.names import LAST, METRICS
from sppcls.sweeps.job import TrainingProcess, remove_dead_attempt
from sppcls.sweeps.search.space import SearchPlan
from sppcls.sweeps.stopping import wait_until_free

# Seconds between two looks at a run's metrics.csv.
_POLL = 0.25

# Seconds that the run of a search that was killed is given to notice it, save and end.
_ORPHAN = 120


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial ended.

    Attributes:
        state: ``finished``, ``pruned``, ``diverged``, ``failed``, ``impossible`` or ``repeated``.
        value: the objective after the last epoch of a finished trial.
        epochs: done.
        seconds: of training.
        reason: one line on why it did not finish.
    """

    state: str
    value: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""


def trial_name(number: int) -> str:
    """``trial-0007``: the name of a trial and of its run folder."""
    return f"trial-{number:04d}"


class TrialRun:
    """The run of one trial in the search's ``folder``; a process that is gone may have begun it."""

    def __init__(
        self, plan: SearchPlan, folder: Path, trial: optuna.Trial, config: Config, say: Callable[[str], None]
    ) -> None:
        self.plan, self.trial, self.config, self.say = plan, trial, config, say
        self.search = folder
        self.folder = folder / trial_name(trial.number)
        self.epochs = config.trainer.max_epochs
        known = trial.study.get_trials(deepcopy=False)[trial.number]
        self._reported = set(known.intermediate_values)

    def run(self) -> TrialOutcome:
        """Train, or resume the training, until the trial has finished or is pruned.

        Raises:
            SppclsError: somebody else has stopped the run; the trial is as good as not ended.
        """
        if not wait_until_free(self.folder, _ORPHAN):  # the run of a search that was killed, until it notices
            raise ConfigError(
                f"{self.folder}: still in use by a run of a search that has ended; stop it first"
            )
        if has_finished(self.folder, self.epochs):
            self._report()
            return self._finished()
        # Decided, and not yet written down, when it was killed.
        if self._reported and self.trial.should_prune():
            return self._outcome("pruned")
        process = TrainingProcess(self._words(), say=self._epoch_line, note=self.say)
        pruned = False
        try:
            while (ended := process.wait(_POLL)) is None:
                if self._report():
                    pruned = True
                    process.stop()
                    ended = process.wait()
                    break
        except BaseException:
            if process.ended is None:
                process.stop()
                process.wait()
            raise
        assert ended is not None
        if ended.status == "finished":
            self._report()
            return self._finished()
        if pruned:
            return self._outcome("pruned")
        if ended.status == "stopped":
            raise SppclsError(
                f"{self.folder.name} was stopped: {ended.reason}; the same command again resumes it"
            )
        return self._outcome("diverged" if DivergedError.SIGN in ended.reason else "failed", ended.reason)

    def _words(self) -> list[str]:
        words = [
            *self.plan.trial_words(self.trial.params),
            hydra_word("runs_dir", self.search.parent),
            hydra_word("name", self.search.name),
            hydra_word("run_name", self.folder.name),
            *searchpath_words(self.plan.config_dir),
        ]
        if (self.folder / LAST).is_file():
            return [*words, hydra_word("ckpt_path", self.folder)]
        remove_dead_attempt(self.folder)
        return words

    def _epoch_line(self, line: str) -> None:
        if line.startswith("epoch"):
            self.say(line)

    def _report(self) -> bool:
        """Hand new rows of metrics.csv to Optuna; whether the trial should be pruned."""
        for row in read_metrics(self.folder).rows:
            epoch, value = int(row["epoch"]), figure_in(row, self.plan.objective)
            if epoch in self._reported or not value:
                continue
            self.trial.report(float(value), epoch)
            self._reported.add(epoch)
            if epoch + 1 < self.epochs and self.trial.should_prune():
                return True
        return False

    def _finished(self) -> TrialOutcome:
        last = self._last_row()
        value = figure_in(last, self.plan.objective)
        if int(last.get("epoch", -1)) + 1 < self.epochs or not value:
            return self._outcome("failed", f"{METRICS} has no {self.plan.objective} of epoch {self.epochs}")
        return self._outcome("finished", value=float(value))

    def _outcome(self, state: str, reason: str = "", value: float | None = None) -> TrialOutcome:
        last = self._last_row()
        epochs = int(last.get("epoch", -1)) + 1
        if state == "pruned":
            epochs = max(self._reported) + 1  # where it was decided; the run may have got a little further
        return TrialOutcome(state, value, epochs, float(last.get("train_seconds") or 0), reason[:500])

    def _last_row(self) -> dict[str, Any]:
        return [{}, *read_metrics(self.folder).rows][-1]
