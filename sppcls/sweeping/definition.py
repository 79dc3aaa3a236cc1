"""From the words after ``-m`` to a list of jobs with readable names."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from sppcls.composition import compose_unchecked, conf_dir, group_choices, hydra_session
from sppcls.config import Config, as_dict, check_config, suggest
from sppcls.errors import ConfigError

CELL = "cell"

# Words that a sweep sets for its jobs itself.
_RESERVED = {
    "run_name": "a sweep names its runs by what differs; name=... names the sweep",
    "ckpt_path": "the same command again goes on with every unfinished run of a sweep",
}

# What does not change what a run learns or reports, so a sweep may go on with another value.
_FREE = ("ckpt_path", "run_name", "runs_dir", "name", "log")


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


@dataclass(frozen=True)
class SweepPlan:
    """A sweep before anything runs.

    Attributes:
        name: of its folder.
        varied: keys in which jobs differ.
        jobs: in the order to be run: all cells with the first seed, then all with the second, ...
        runs_dir: where the sweep's folder belongs.
        identity: equal for commands that mean the same sweep; more values of a varied key change nothing.
        words: the words it was made from.
        hydra_words: those of them that are Hydra's, such as ``hydra/launcher=joblib``.
        config_dir: folder with more configs.
    """

    name: str
    varied: list[str]
    jobs: list[Job]
    runs_dir: Path
    identity: str
    words: list[str]
    hydra_words: list[str]
    config_dir: str | None


@dataclass
class _File:
    """A file of ``conf/sweep``: words for all jobs, words for each cell, and values to combine with every cell."""

    fixed: list[str] = field(default_factory=list)
    cells: dict[str, list[str]] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)


def plan_sweep(words: Sequence[str], config_dir: str | None = None) -> SweepPlan:
    """The jobs of ``python train.py -m <words>``; every job's config is checked.

    Args:
        words: ``key=value`` words, values separated by commas; ``+sweep=NAME`` takes a file of ``conf/sweep``.
        config_dir: a folder with more configs, as Hydra's ``--config-dir``; its ``sweep/`` counts too.

    Raises:
        ConfigError: one line that names the word, and the job if it is one job's fault.
    """
    hydra_words = [w for w in words if w.lstrip("+~").startswith(("hydra.", "hydra/"))]
    own = [w for w in words if w not in hydra_words]
    names = [w.partition("=")[2] for w in own if _key(w) == "sweep"]
    own = [w for w in own if _key(w) != "sweep"]
    if len(names) > 1:
        raise ConfigError(f"+sweep={names[1]}: one sweep at a time; +sweep={names[0]} is given already")
    file = _read_file(names[0], config_dir) if names else _File()
    for word in own:
        if _key(word) in _RESERVED:
            raise ConfigError(f"{word}: {_RESERVED[_key(word)]}")
    in_cells = {_key(w): cell for cell, cell_words in file.cells.items() for w in cell_words}
    for word in own:
        if _key(word) in in_cells:
            raise ConfigError(
                f"{word}: sweep={names[0]} sets {_key(word)} itself, differently in each of its cells "
                f"({', '.join(file.cells)}); leave it out"
            )
    given = {_key(word) for word in own}
    combined = [f"{key}={_text(value)}" for key, value in file.params.items() if key not in given]
    fixed = [word for word in file.fixed if _key(word) not in given]
    constant, choices = _expand([*fixed, *own, *combined])
    base = _composed(constant, config_dir)
    jobs = _jobs(constant, file.cells, choices)
    varied = ([CELL] if file.cells else []) + list(choices)
    if not any(_key(word) == "name" for word in own):
        parts = [names[0]] if names else [str(base["name"]), *(_short_key(key) for key in choices)]
        base["name"] = "-".join(dict.fromkeys(parts))
    return SweepPlan(
        name=safe_name(str(base["name"])),
        varied=varied,
        jobs=jobs,
        runs_dir=Path(str(base["runs_dir"])),
        identity=_identity(base, varied, file.cells),
        words=list(words),
        hydra_words=hydra_words,
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


def sweep_choices(config_dir: str | None = None) -> dict[str, Path]:
    """Sweep files by name: those that are shipped, and those below ``config_dir``."""
    roots = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    return {path.stem: path for root in roots for path in sorted((root / "sweep").glob("*.yaml"))}


def safe_name(text: str) -> str:
    """A value as part of a folder name, without characters that a shell or Hydra would mind."""
    return _without_odd(text).strip("._-") or "value"


def _without_odd(text: str) -> str:
    return re.sub(r"_+", "_", re.sub(r"[^\w.-]", "_", text)).strip("_")


# --- the file


def _read_file(name: str, config_dir: str | None) -> _File:
    known = sweep_choices(config_dir)
    if name not in known:
        raise ConfigError(f"+sweep={name}: choose from {', '.join(known)}{suggest(name, list(known))}")
    path = known[name]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    shape = "must hold fixed: [words], cells: {name: [words]} and params: {key: values}"
    if not isinstance(content, dict) or set(content) - {"fixed", "cells", "params"}:
        raise ConfigError(f"{path}: {shape}")
    file = _File(content.get("fixed") or [], content.get("cells") or {}, content.get("params") or {})
    lists = [file.fixed, *file.cells.values()] if isinstance(file.cells, dict) else []
    if not lists or not isinstance(file.params, dict) or not all(_is_words(words) for words in lists):
        raise ConfigError(f"{path}: {shape}; a word is text such as pyramid=l421")
    if not file.cells and not file.params:
        raise ConfigError(f"{path}: {shape}; it has nothing to vary")
    return file


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and "=" in word for word in value)


def _text(value: Any, inside: bool = False) -> str:
    """A value of ``params`` as it would stand on the command line: a list is several values, one within it a list."""
    if isinstance(value, list):
        joined = ",".join(_text(item, inside=True) for item in value)
        return f"[{joined}]" if inside else joined
    if value is None or isinstance(value, bool):
        return str(yaml.safe_dump(value)).split()[0]
    return str(value)


# --- words and values


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def _expand(words: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Words with one value, and the values of every key that has several."""
    constant: list[str] = []
    choices: dict[str, list[str]] = {}
    with hydra_session() as session:
        parser = OverridesParser.create(config_loader=session.config_loader)
        for word in words:
            try:
                override = parser.parse_override(word)
                values = _values(override)
            except HydraException as error:
                reason = str(error).splitlines()[0]
                raise ConfigError(f"{word}: {reason}; a value with blanks or = , [ ] needs quotes") from None
            key = override.get_key_element()
            if values is None:
                constant.append(word)
            elif key in choices:
                raise ConfigError(f"{word}: {key} is given twice")
            else:
                choices[key] = values
    return constant, choices


def _values(override: Override) -> list[str] | None:
    if not override.is_sweep_override():
        return None
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{override.input_line}: a sweep needs single values, such as {override.key_or_group}=1,2,3; "
            "`sppcls search` draws from ranges"
        )
    return list(dict.fromkeys(_plain(value) for value in override.sweep_string_iterator()))


def _plain(value: object) -> str:
    """As it would be written on the command line."""
    return {"True": "true", "False": "false", "None": "null"}.get(str(value), str(value))


def _composed(words: list[str], config_dir: str | None) -> dict[str, Any]:
    from omegaconf import OmegaConf

    composed = OmegaConf.to_container(compose_unchecked(words, config_dir), resolve=True)
    assert isinstance(composed, dict)
    return {str(key): value for key, value in composed.items()}


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
            words += cells[cell]
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
    """How a value is called in the name of a run: ``l421``, ``seed0``, ``levels6_3_2_1``, ``none`` of pyramid ``nospp``.

    A choice of a group stands alone where no other group has a choice of that name.
    """
    key = key.lstrip("+~")
    groups = group_choices()
    if key in groups:
        if (key, value) == ("pyramid", "none"):
            return "nospp"
        alone = sum(value in choices for choices in groups.values()) <= 1
        return safe_name(value if alone else f"{key}_{value}")
    text = _without_odd(value)
    return f"{_short_key(key)}{'_' if text[:1].isalpha() else ''}{text}"


def _short_key(key: str) -> str:
    """The last part of a key, or all of it where other groups have a key of that name."""
    last = key.lstrip("+~").rpartition(".")[2]
    return (
        last if last not in ("name", "kind", "norm", "weights", "scale") else safe_name(key.replace(".", "_"))
    )


def _short(name: str) -> str:
    """Folder names have an end: most file systems take 255 bytes."""
    if len(name) <= 120:
        return name
    return f"{name[:110].rstrip('-_.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _identity(base: dict[str, Any], varied: list[str], cells: dict[str, list[str]]) -> str:
    same = {key: value for key, value in base.items() if key not in _FREE}
    same["data"] = {key: value for key, value in same["data"].items() if key != "workers"}
    same["trainer"] = {key: value for key, value in same["trainer"].items() if key != "threads"}
    # A varied key's own value in the base is none of any job.
    for key in varied:
        group, _, name = key.partition(".")
        if name and isinstance(same.get(group), dict):
            same[group] = {k: v for k, v in same[group].items() if k != name}
        else:
            same.pop(group, None)
    content = yaml.safe_dump([same, sorted(varied), cells], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]
