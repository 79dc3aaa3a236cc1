"""From a command line to a config: Hydra composes, and its complaints become one line."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sppcls.config import Config, as_dict
from sppcls.config_checks import check_config, suggest, what_it_may_be
from sppcls.errors import CheckpointError, ConfigError

CONFIG_NAME = "train"

# Folders of conf/ that are no part of a run's config: named by evaluation.protocols, +sweep= and +search=.
NO_GROUPS = ("protocol", "sweep", "search")

# Hydra's command line.
_ONE_OF = ("--run", "-r", "--multirun", "-m", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
_OPTIONS_WITH_VALUE = ("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--cfg", "-c", "--package",
                       "-p", "--info", "-i", "--experimental-rerun")  # fmt: skip
_VALUE_NEEDED = tuple(option for option in _OPTIONS_WITH_VALUE if option not in ("--info", "-i"))
_OPTIONS = ("--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion",
            "-sc")  # fmt: skip


def conf_dir() -> Path:
    """The folder of the shipped configs: inside an installed package, at the top level of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def group_choices(extra_dir: str | Path | None = None) -> dict[str, list[str]]:
    """Config groups and their choices, such as ``{"pyramid": ["l1", "l321", ...], ...}``."""
    choices: dict[str, list[str]] = {}
    for root in (conf_dir(), *([Path(extra_dir)] if extra_dir else [])):
        for path in sorted(root.glob("*/**/*.yaml")):
            group, name = path.relative_to(root).parts[0], path.relative_to(root).with_suffix("")
            if group in NO_GROUPS:
                continue
            choices.setdefault(group, []).append(str(Path(*name.parts[1:]).as_posix()))
    return choices


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Config:
    """The checked config of ``python train.py <overrides>``.

    Args:
        overrides: as on the command line, for example ``["pyramid=l421", "optimizer.lr=0.1"]``.
        config_dir: a folder with more configs, as Hydra's ``--config-dir``.

    Raises:
        ConfigError: one line naming the key or group and what it may be.

    Examples:
        >>> config = compose(["pyramid=l421", "optimizer.lr=0.1"])
        >>> config.pyramid.levels, config.optimizer.lr
        ([4, 2, 1], 0.1)
    """
    return check_config(compose_unchecked(overrides, config_dir))


def compose_unchecked(overrides: Sequence[str], config_dir: str | Path | None = None) -> DictConfig:
    """As :func:`compose`, before the values are checked."""
    words = [*overrides, *searchpath_words(config_dir)]
    try:
        with hydra_session():
            return hydra_compose(CONFIG_NAME, overrides=words)
    except Exception as error:  # Hydra raises nearly any type on odd words, and nothing but Hydra runs here
        raise ConfigError(explain(error, overrides, config_dir)) from None


def searchpath_words(config_dir: str | Path | None) -> list[str]:
    """``--config-dir`` as a word that can be handed on.

    Raises:
        ConfigError: there is no such folder.
    """
    if config_dir is None:
        return []
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    place = str(Path(config_dir).resolve()).replace("'", "\\'")
    return [f"hydra.searchpath=['file://{place}']"]


@contextmanager
def hydra_session() -> Iterator[Hydra]:
    """Hydra on our configs; inside a running Hydra program its global state is put back afterwards."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            session = GlobalHydra.instance().hydra
            assert session is not None
            yield session
    finally:
        if outer is not None:
            GlobalHydra.instance().hydra = outer


def explain(error: Exception, overrides: Sequence[str], config_dir: str | Path | None) -> str:
    """Hydra's message, which has several lines, as one that names what is allowed."""
    text = str(error)
    known = group_choices(config_dir)
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if (
            name in known
            and value
            and value not in known[name]
            and (
                f"{name}/{value}" in text
                or (value.startswith("[") and f"'{name}/" in text)  # a list of choices
                or "Config group override" in text  # that it is no string, as in sizes=224
            )
        ):
            return f"{name}={value}: choose from {', '.join(known[name])}{suggest(value, known[name])}"
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        return _unknown_key(unknown.group(1), known)
    for override in overrides:
        name, _, value = override.lstrip("+~").partition("=")
        if (
            text.startswith("Error merging override")
            and override in text
            and (wanted := what_it_may_be(name))
        ):
            return f"{name}={value}: must be {wanted}"
        if "integer string conversion" in text and re.search(
            rf"\d{{{sys.get_int_max_str_digits() + 1}}}", value
        ):
            return f"{name}={value[:20]}...: too long a number"
    if any(
        sign in text
        for sign in (
            "mismatched input",
            "token recognition",
            "LexerNoViable",
            "extraneous input",
            "no viable",
        )
    ):
        reason = text.splitlines()[0]
        return f"{reason}: give key=value words; a value with blanks or = , [ ] {{ }} needs quotes: 'key=\"value\"'"
    return " ".join(text.split())


def _unknown_key(full: str, known: Mapping[str, Sequence[str]]) -> str:
    """What to say of a key that is not there; ``known`` are the choices of the groups."""
    parent, _, last = full.rpartition(".")
    if full in known:
        return f"{full}: a group; choose from {', '.join(known[full])}, or set its keys as {full}.KEY=VALUE"
    composed = compose_unchecked([])
    if not parent:
        shipped = OmegaConf.load(conf_dir() / f"{CONFIG_NAME}.yaml")
        siblings = sorted({*known, *map(str, shipped)} - {"experiment", "defaults", "hydra"})
    elif isinstance(inside := OmegaConf.select(composed, parent), DictConfig):
        siblings = list(map(str, inside))
    else:
        groups = [str(k) for k, value in composed.items() if isinstance(value, DictConfig)]
        root = full.partition(".")[0]
        if root in groups:
            return f"{full}: {parent} has no keys of its own"
        return f"{full}: unknown group {root}{suggest(root, groups)}; groups: {', '.join(sorted(groups))}"
    meant = suggest(last, siblings) or _suggest_anywhere(last)
    where = f"; known in {parent}: " if parent else "; known: "
    return f"{full}: unknown key{meant}{where}{', '.join(siblings)}"


def _suggest_anywhere(word: str) -> str:
    """A key of any group whose last part looks like ``word``: ``lr`` means ``optimizer.lr``."""
    composed = OmegaConf.to_container(compose_unchecked([]), resolve=True)
    assert isinstance(composed, dict)
    full: dict[str, str] = {}
    for group, keys in composed.items():
        for key in keys if isinstance(keys, dict) else []:
            full[str(key)] = ".".join((str(group), str(key)))
    close = difflib.get_close_matches(word, list(full), n=1) or [
        name for name in full if word and word in name
    ]
    return f" (did you mean {full[close[0]]!r}?)" if close else ""


def restore(
    saved: Mapping[str, Any], given: DictConfig, overrides: Sequence[str], path: str | os.PathLike[str]
) -> Config:
    """The config of a resumed run: the saved one, changed only by what the command line says.

    Args:
        saved: the config in the checkpoint.
        given: the config composed from the whole command line.
        overrides: the command line's ``key=value`` words.
        path: the checkpoint.

    Raises:
        ConfigError: a value is impossible, or the saved config asks for a variable of this machine.
        CheckpointError: the saved config is none.
    """
    names = [override.lstrip("+~").partition("=")[0].partition("@")[0] for override in overrides]
    if any(name.startswith("experiment") for name in names):
        return check_config(given)  # an experiment says everything
    if "${" in str(saved):  # it was saved resolved, so somebody else put it there, to read what is here
        raise ConfigError("the config in the checkpoint holds ${...}, which a saved config never does")
    # Keys that the program has learnt since have no value there.
    try:
        merged = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(given)), dict(saved))
    except OmegaConfBaseException as error:
        reason = str(error.msg or error).splitlines()[0]
        raise CheckpointError(f"{path}: damaged: config is not as sppcls writes it ({reason})") from None
    config = cast(DictConfig, merged)
    for name in names:
        if not name.startswith("hydra"):
            OmegaConf.update(config, name, OmegaConf.select(given, name), merge=False)
    OmegaConf.update(config, "ckpt_path", given.ckpt_path)
    return check_config(config)


def to_yaml(config: Config) -> str:
    """The resolved config as it is written to ``config.yaml`` in the run folder."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True, width=110)


def command_line_overrides(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """The ``key=value`` words of a Hydra command line, and its ``--config-dir`` if any.

    Raises:
        ConfigError: an option that Hydra does not have, or a word that sets no key.
    """
    overrides: list[str] = []
    config_dir: str | None = None
    words = iter(argv)
    for word in words:
        option, _, value = word.partition("=")
        if option in _OPTIONS_WITH_VALUE:
            value = value if "=" in word else next(words, "")
            if option in _VALUE_NEEDED and (not value or value.startswith("-")):
                raise ConfigError(f"{option}: needs a value; see --help")
            config_dir = value if option in ("--config-dir", "-cd") else config_dir
        elif word.startswith("-"):
            if option not in _OPTIONS:
                meant = _suggest_anywhere(option.lstrip("-").replace("-", "_"))
                raise ConfigError(f"{option}: unknown option{meant}; keys are set as key=value, see --help")
        elif "=" not in word and not word.startswith("~"):
            raise ConfigError(f"{word}: give key=value words, such as trainer.max_epochs=3; see --help")
        else:
            overrides.append(word)
    chosen = [word for word in argv if word.partition("=")[0] in _ONE_OF]
    if len(chosen) > 1:
        raise ConfigError(f"{' '.join(chosen)}: one of them at a time")
    return overrides, os.fspath(config_dir) if config_dir else None
