"""From the words of ``sppcls search`` to what is drawn, what is fixed, and how."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sppcls._util.figures import ONE_LABEL, Kind
from sppcls._util.reason import reason_of
from sppcls.config.checks import check_values
from sppcls.config.grammar import hydra_word
from sppcls.config.key import documented, key
from sppcls.config.same_run import is_factor
from sppcls.config.schema import default_values
from sppcls.errors import ConfigError
from sppcls.sweeps.overrides import Plan, composed, folder_name, identity, read_command
from sppcls.sweeps.plan import CELL
from sppcls.sweeps.search.parameters import Choices, Range, check_parameter, draws, read_parameter

_SETTINGS = ("n_trials", "objective", "pruner", "sampler")
_SHAPE = "must hold params: {key: [choices] or {low: , high: , log: , step: }}; it may hold fixed: [words], " \
    "cells: {name: [words]}, n_trials, objective, pruner and sampler"  # fmt: skip

# Keys that a search cannot take, given or drawn.
_RESERVED = {
    "run_name": "a search names its runs itself; name=... names the search",
    "ckpt_path": "the same command again resumes the search",
}

# Keys that a search cannot draw.
_NOT_DRAWN = {
    "seed": "the best of several seeds is luck; train the best values with several seeds instead",
    "trainer.max_epochs": "trials are compared epoch by epoch, so they need the same number of epochs",
}


@documented
@dataclass
class PrunerSettings:
    """Stopping trials early.

    Args:
        name: median: worse than the median of the finished trials at the same epoch
        startup_trials: trials that have to finish before any is stopped
        warmup_epochs: epochs that every trial may run
    """

    name: str = key("median", choices=("median", "none"))
    startup_trials: int = key(5, low=1)
    warmup_epochs: int = key(2, low=0)


@documented
@dataclass
class SamplerSettings:
    """Drawing values.

    Args:
        name: tpe: Optuna's, learns from the trials before; random
        seed: seed of the draws
        startup_trials: random draws before tpe begins
    """

    name: str = key("tpe", choices=("tpe", "random"))
    seed: int = key(0, low=0, high=2**31 - 1)
    startup_trials: int = key(10, low=0)


@documented
@dataclass
class Settings:
    """How a search is done.

    Args:
        n_trials: trials to be done in total, such as n_trials=40
        objective: validation column of metrics.csv that is to be small after the last epoch; null: the main error
    """

    n_trials: int = key(low=1)
    objective: str | None = key(None)
    pruner: PrunerSettings = field(default_factory=PrunerSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)


@dataclass(frozen=True, kw_only=True)
class SearchPlan(Plan):
    """A search before anything runs.

    Attributes:
        constant: words of every trial.
        cells: words by the values of the parameter ``cell``.
        params: what is drawn, by key.
        settings: how.
        identity_by: the identity with an objective.
    """

    constant: list[str]
    cells: dict[str, list[str]]
    params: dict[str, Choices | Range]
    settings: Settings
    identity_by: Callable[[str], str]

    @property
    def objective(self) -> str:
        """That of the settings; until the images are known, the main error of those with one label each."""
        return self.settings.objective or f"val/{ONE_LABEL.main}"

    def of_kind(self, kind: Kind) -> SearchPlan:
        """The plan once the images are known: with their main error as the objective, where none was given."""
        objective = self.settings.objective or f"val/{kind.main}"
        settings = replace(self.settings, objective=objective)
        return replace(self, settings=settings, identity=self.identity_by(objective))

    def trial_words(self, values: Mapping[str, Any]) -> list[str]:
        """The words of ``python train.py`` that make the run of some drawn values."""
        words = list(self.constant)
        for name, value in values.items():
            if name == CELL:
                words += self.cells[value]
            elif isinstance(self.params[name], Choices):
                words.append(f"{name}={value}")
            else:
                words.append(hydra_word(name, value))
        return words


def plan_search(words: Sequence[str], config_dir: str | None = None) -> SearchPlan:
    """What ``sppcls search <words>`` looks for.

    Args:
        words: ``key=value`` words. ``+search=NAME`` takes a file of ``conf/search``; a key with several values
            (``pyramid=l421,l321``) or a range (``optimizer.lr=tag(log,interval(0.001,0.1))``) is drawn.
        config_dir: a folder with more configs; its ``search/`` counts too.

    Raises:
        ConfigError: one line that names the word or key.
    """
    command = read_command(words, "search", config_dir, _SHAPE, _RESERVED, _SETTINGS)
    if command.hydra:
        raise ConfigError(f"{command.hydra[0]}: a search runs its trials itself, one after the other")
    constant, space = draws(command.constant)
    if command.cells:
        space[CELL] = Choices(tuple(command.cells))
    space |= {name: read_parameter(name, values) for name, values in command.varied.items()}
    if not space:
        raise ConfigError(
            "nothing to search: add +search=small, or give a key several values or a range, "
            "such as 'optimizer.lr=tag(log,interval(0.001,0.1))'; see sppcls search --help"
        )
    settings = _settings(command.more, command.apart)
    base = composed(constant, config_dir)
    for key_name, what in space.items():
        if key_name in _NOT_DRAWN or not is_factor(key_name):
            reason = _NOT_DRAWN.get(key_name, "it changes nothing that a run learns")
            raise ConfigError(f"{key_name}: cannot be searched: {reason}")
        if key_name != CELL:
            space[key_name] = check_parameter(key_name, what, constant, config_dir)
    drawn = {key: [type(what).__name__, asdict(what)] for key, what in space.items()}
    plain = yaml.safe_dump(json.loads(json.dumps(drawn)))  # tuples as lists, which YAML writes plainly

    def identity_by(objective: str) -> str:
        return identity(base, list(space), [command.cells, plain, objective])

    return SearchPlan(
        name=folder_name(base, command, space),
        runs_dir=Path(str(base["runs_dir"])),
        identity=identity_by(settings.objective or f"val/{ONE_LABEL.main}"),
        identity_by=identity_by,
        words=list(words),
        constant=constant,
        cells=command.cells,
        params=space,
        settings=settings,
        config_dir=config_dir,
    )


def _settings(file: Mapping[str, Any], words: Sequence[str]) -> Settings:
    """The settings of the file, changed by words such as ``n_trials=40`` and ``pruner=none``."""
    plain = default_values(Settings)
    for name, value in file.items():
        if isinstance(value, dict) and isinstance(plain.get(name), dict):
            plain[name] |= value
        elif value is not None:
            plain[name] = value
    for word in words:
        name, _, text = word.lstrip("+").partition("=")
        try:
            value = yaml.safe_load(text) if text.strip() else text
        except yaml.YAMLError as error:
            raise ConfigError(f"{word}: cannot be read ({reason_of(error)})") from None
        group, _, last = name.partition(".")
        if last and isinstance(plain.get(group), dict):
            plain[group][last] = value
        elif not last and isinstance(plain.get(group), dict):
            plain[group]["name"] = value  # pruner=none is pruner.name=none
        else:
            plain[name] = value
    return check_values(Settings, plain)
