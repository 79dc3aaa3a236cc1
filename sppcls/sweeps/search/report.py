"""What a search says while it runs and at its end, and ``trials.csv``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sppcls._util.console import table, terminal_columns, train_command, visible
from sppcls._util.files import write_csv
from sppcls.config.compose import key_of
from sppcls.config.grammar import hydra_word
from sppcls.sweeps.search.space import SearchPlan
from sppcls.sweeps.search.trial import TrialOutcome, trial_name

# Rows of the table at the end.
_BEST = 10


class SearchReport:
    """Lines for the person who watches one search."""

    def __init__(self, plan: SearchPlan, folder: Path, study: optuna.Study) -> None:
        self.plan, self.folder, self.study = plan, folder, study

    def say(self, text: str) -> None:
        """One line, or several."""
        print(visible(text), flush=True)

    def opening(self, done: int, begun: int) -> None:
        """Where the search stands before it is resumed."""
        asked = self.plan.settings.n_trials
        resumed = f"; {begun} begun before {'is' if begun == 1 else 'are'} resumed first" if begun else ""
        nothing = "; nothing to do, a higher n_trials continues" if done >= asked else ""
        self.say(f"Search {self.folder}: {done} of {asked} trials done{resumed}{nothing}")

    def started(self, trial: optuna.Trial) -> None:
        """The values of a trial, before it is trained."""
        self.say(f"\n{trial_name(trial.number)}: {_values_line(trial.params)}")

    def ended(self, outcome: TrialOutcome) -> None:
        """What came of a trial, and which is the best so far."""
        if outcome.state != "repeated":
            text = outcome.state
            if outcome.state == "pruned":
                text = f"pruned at epoch {outcome.epochs}"
            elif outcome.value is not None:
                text = f"finished, {self.plan.objective} {self._figure(outcome.value)}"
            if outcome.seconds:
                text += f", {outcome.seconds / 60:.1f} min"
            text += f": {outcome.reason}" if outcome.reason else ""
            best = self._finished()[:1]
            so_far = (
                f"; best so far {self._figure(best[0].value)} ({trial_name(best[0].number)})" if best else ""
            )
            self.say(f"  {text}{so_far}")
        self._write_csv()

    def closing(self, done: int) -> None:
        """The best trials, how to train the best again, what to think of it, and where to look."""
        self._write_csv()
        objective, asked = self.plan.objective, self.plan.settings.n_trials
        finished = self._finished()
        counts = [trial.user_attrs.get("outcome", "begun") for trial in self._trials() if _shown(trial)]
        states = [f"{counts.count(state)} {state}" for state in dict.fromkeys(sorted(counts))]
        self.say(f"\n{done} of {asked} trials done ({', '.join(states) or 'none begun'}).")
        if finished:
            names = list(self.plan.params)
            rows = [
                [trial_name(t.number), self._figure(t.value), *(_short(t.params[name]) for name in names)]
                for t in finished[:_BEST]
            ]
            self.say(f"\n{table(rows, ['trial', objective, *names], terminal_columns())}\n")
            self._best(finished[0], len(finished))
        self.say(f"All trials: {self.folder / 'trials.csv'}")
        self.say(f"Look at them: tensorboard --logdir {shlex.quote(str(self.folder))}")
        if done < asked:
            self.say("The same command again continues.")

    def _best(self, best: FrozenTrial, finished: int) -> None:
        words = [w for w in self.plan.trial_words(best.params) if key_of(w) != "name"]
        seed = next((w.partition("=")[2] for w in words if key_of(w) == "seed"), "0")
        fresh = [str(number) for number in range(1, 5) if str(number) != seed][:3]
        sweep = [w for w in words if key_of(w) != "seed"]
        sweep += [f"seed={','.join(fresh)}", hydra_word("name", f"{self.folder.name}-best")]
        program = train_command()
        if self.plan.config_dir is not None:
            program += f" --config-dir {shlex.quote(self.plan.config_dir)}"
        self.say(f"The best, {trial_name(best.number)}, again:\n  {program} {shlex.join(words)}")
        self.say(
            f"Its {self.plan.objective} of {self._figure(best.value)} is the best of {finished} finished trials, chosen on the validation images with one seed: "
            f"it flatters.\nTrain it with other seeds before you believe it:\n  {program} -m {shlex.join(sweep)}"
        )

    def _figure(self, value: float | None) -> str:
        """A value of the objective: per cent, or a loss."""
        return f"{value:.{4 if self.plan.objective.endswith('loss') else 2}f}"

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _finished(self) -> list[FrozenTrial]:
        finished = [trial for trial in self._trials() if trial.state == TrialState.COMPLETE]
        return sorted(finished, key=lambda trial: float(trial.value or 0))

    def _write_csv(self) -> None:
        """A row per trial, for other programs."""
        objective, names = self.plan.objective, list(self.plan.params)
        columns = ["trial", "state", objective, "epochs", "seconds", "reason", *names]
        rows = [
            {
                "trial": trial_name(trial.number),
                "state": trial.user_attrs.get("outcome", "begun"),
                objective: trial.value if trial.state == TrialState.COMPLETE else "",
                **{name: trial.user_attrs.get(name, "") for name in ("epochs", "seconds", "reason")},
                **trial.params,
            }
            for trial in filter(_shown, self._trials())
        ]
        write_csv(self.folder / "trials.csv", rows, columns)


def _shown(trial: FrozenTrial) -> bool:
    """Draws that came to nothing are no trials to a person."""
    outcome = trial.user_attrs.get("outcome")
    return outcome != "repeated" and not (outcome is None and trial.state == TrialState.FAIL)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _values_line(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_short(value)}" for name, value in values.items())
