"""From the words after ``-m`` to a list of jobs with readable names."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from hydra.core.override_parser.types import Override

from sppcls.config.checks import check_config
from sppcls.config.compose import compose_unchecked, group_choices, searchpath_words
from sppcls.config.grammar import in_grammar
from sppcls.config.hydra_words import check_hydra_words
from sppcls.config.schema import Config, as_dict
from sppcls.errors import ConfigError
from sppcls.sweeps.overrides import (
    Plan,
    composed,
    filled_in,
    folder_name,
    identity,
    param_word,
    read_command,
    safe_name,
    separate,
    short_key,
    single_values,
    without_odd,
)

CELL = "cell"

# Words that a sweep sets for its jobs itself.
_RESERVED = {
    "run_name": "a sweep names its runs by what differs; name=... names the sweep",
    "ckpt_path": "the same command again resumes every unfinished run of a sweep",
}

# What a file of conf/sweep has: words for all jobs, words for each cell, and values to combine with every cell.
_SHAPE = "must hold fixed: [words], cells: {name: [words]} and params: {key: values}"


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        name: of its folder: the values in which it differs from the others, such as ``multi-seed0``.
        values: these values by key, as text; ``cell`` is the name of a cell of the sweep's file.
        overrides: the words of ``python train.py`` that make this run, without its name and place.
    """

    name: str
    values: dict[str, str]
    overrides: list[str]


@dataclass(frozen=True, kw_only=True)
class SweepPlan(Plan):
    """A sweep before anything runs.

    Attributes:
        varied: keys in which jobs differ; more values of one make the same sweep.
        jobs: in the order to be run: all cells with the first seed, then all with the second, ...
        hydra_words: those of the words that are Hydra's, such as ``hydra/launcher=joblib``.
    """

    varied: list[str]
    jobs: list[Job]
    hydra_words: list[str]


def plan_sweep(words: Sequence[str], config_dir: str | None = None) -> SweepPlan:
    """The jobs of ``python train.py -m <words>``; every job's config is checked.

    Args:
        words: ``key=value`` words, values separated by commas; ``+sweep=NAME`` takes a file of ``conf/sweep``.
        config_dir: a folder with more configs, as Hydra's ``--config-dir``; its ``sweep/`` counts too.

    Raises:
        ConfigError: one line that names the word, and the job if it is one job's fault.
    """
    searchpath_words(config_dir)  # is there such a folder?
    command = read_command(words, "sweep", config_dir, _SHAPE, _RESERVED)
    check_hydra_words(command.hydra, sweep=True)
    cells = command.cells
    params = filled_in(command.varied, command.constant, config_dir)
    combined = [param_word(key, value) for key, value in params.items()]
    # What may be given more values later is varied with one, too, so that the runs keep their names.
    several = {"seed", *command.params}
    constant, choices = separate([*command.constant, *combined], lambda override: _values(override, several))
    if not choices and not cells:
        raise ConfigError(
            "-m: nothing varies; give a key several values, such as seed=0,1,2, or leave out -m"
        )
    base = composed(constant, config_dir)
    varied = ([CELL] if cells else []) + list(choices)
    return SweepPlan(
        name=folder_name(base, command, choices),
        varied=varied,
        jobs=_jobs(constant, cells, choices),
        runs_dir=Path(str(base["runs_dir"])),
        identity=identity(base, varied, cells),
        words=list(words),
        hydra_words=command.hydra,
        config_dir=config_dir,
    )


def job_configs(plan: SweepPlan) -> dict[str, Config]:
    """The checked config of every job, by name.

    Raises:
        ConfigError: names the job and its words.
    """
    configs: dict[str, Config] = {}
    seen: dict[str, str] = {}
    for job in plan.jobs:
        try:
            configs[job.name] = check_config(compose_unchecked(job.overrides, plan.config_dir))
        except ConfigError as error:
            raise job_error(job, error) from None
        same = yaml.safe_dump(as_dict(configs[job.name]))
        if same in seen:
            raise ConfigError(f"jobs {seen[same]} and {job.name} are the same run; leave one of them out")
        seen[same] = job.name
    return configs


def job_error(job: Job, error: Exception) -> ConfigError:
    """An error with the job that it belongs to; nothing has been started yet when it is raised."""
    return ConfigError(f"job {job.name}: {error}; no job was started")


# --- words and values


def _values(override: Override, varied: set[str]) -> list[str] | None:
    """The values of a word that has several or whose key is one of ``varied``."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()] if override.get_key_element() in varied else None
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line}: a sweep needs single values, such as {override.key_or_group}=1,2,3; "
            "`sppcls search` draws from ranges"
        )
    return single_values(override)


def _jobs(constant: list[str], cells: dict[str, list[str]], choices: dict[str, list[str]]) -> list[Job]:
    # Seeds are the outermost loop: whatever is stopped half-way has compared everything with the first seeds.
    seeds: list[str | None] = [*choices.get("seed", [])] or [None]
    others = {key: values for key, values in choices.items() if key != "seed"}
    jobs: list[Job] = []
    for seed, cell, *chosen in itertools.product(seeds, cells or [None], *others.values()):
        values: dict[str, str] = {}
        words = list(constant)
        parts = []
        if cell is not None:
            values[CELL] = cell
            words += in_grammar(cells[cell])
            parts.append(safe_name(cell))
        for key, value in zip(others, map(str, chosen), strict=True):
            values[key] = value
            words.append(f"{key}={value}")
            parts.append(value_name(key, value))
        if seed is not None:
            values["seed"] = seed
            words.append(f"seed={seed}")
            parts.append(value_name("seed", seed))
        jobs.append(Job(_short("-".join(parts) or "run"), values, words))
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:  # values that differ only in characters that a folder cannot have
            numbered = itertools.count(1)
            jobs = [
                Job(f"{job.name}-v{next(numbered)}", job.values, job.overrides) if job.name == name else job
                for job in jobs
            ]
    return jobs


def value_name(key: str, value: str) -> str:
    """How a value is called in the name of a run: ``l421``, ``seed0``, ``levels6_3_2_1``, ``pyramid_none``.

    A choice of a group stands alone where no other group has a choice of that name, ``none`` never.
    """
    key = key.lstrip("+~")
    groups = group_choices()
    if key in groups:
        alone = sum(value in choices for choices in groups.values()) <= 1
        return safe_name(value if alone else f"{key}_{value}")
    text = without_odd(value)
    return f"{short_key(key)}{'_' if text[:1].isalpha() else ''}{text}"


def _short(name: str) -> str:
    """Folder names have an end: most file systems take 255 bytes."""
    if len(name) <= 120:
        return name
    return f"{name[:110].rstrip('-_.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
