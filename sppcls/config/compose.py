"""From a command line to a config: Hydra composes, and its complaints become one line."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from sppcls.config.checks import check_config
from sppcls.config.composition import COMPOSING, compose_once
from sppcls.config.defaults import offer_defaults
from sppcls.config.grammar import in_grammar, in_quotes, literal
from sppcls.config.hydra_words import check_hydra_words
from sppcls.config.mistakes import config_error_line
from sppcls.config.own_files import use_own_reader
from sppcls.config.parts import PARTS, check_plugins
from sppcls.config.schema import Config, as_dict
from sppcls.config.shipped import conf_dir as conf_dir
from sppcls.errors import ConfigError
from sppcls.registry import DOORS, NOT_IN_FILES, allow_plugins, is_own

CONFIG_NAME = "train"

# Folders of conf/ that are no part of a run's config: named by evaluation.protocols, +sweep= and +search=.
NO_GROUPS = ("protocol", "sweep", "search")


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
    if isinstance(overrides, str) or not all(isinstance(word, str) for word in _listed(overrides)):
        raise ConfigError(
            f"overrides={overrides!r}: give a list of words, such as ['data=folder', 'data.root=PHOTOS']"
        )
    check_hydra_words(overrides)
    typed = name_plugins(overrides)
    more = searchpath_words(config_dir)
    roots = [conf_dir(), *([] if config_dir is None else [Path(config_dir)])]

    def compose_all(words: Sequence[str]) -> DictConfig:
        with hydra_session():
            found = hydra_compose(CONFIG_NAME, overrides=[*words, *more], return_hydra_config=True)
        _check_hydra(found.hydra, overrides)
        with open_dict(found):
            del found["hydra"]
        return found

    try:
        with COMPOSING:
            composed = compose_once(in_grammar(overrides), roots, compose_all)
            check_plugins(composed.get("plugins"), typed)
            return without_foreign_defaults(composed, overrides, config_dir)
    except ConfigError:
        raise
    except Exception as error:  # Hydra raises nearly any type on odd words, and nothing but Hydra runs here
        raise ConfigError(config_error_line(error, overrides, group_choices(config_dir))) from None


def without_foreign_defaults(
    composed: DictConfig, overrides: Sequence[str], config_dir: str | Path | None = None
) -> DictConfig:
    """A composed config whose groups with a part of another's lack the defaults of our own parts' keys.

    A key that a file or a word has given the same value stays: only a second composition tells the two apart.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(composed))
    groups = [group for group in PARTS if is_own(group, plain.get(group))]
    if not groups:
        return composed
    words = [*in_grammar(overrides), *searchpath_words(config_dir)]
    try:
        with hydra_session(without=groups):
            given = hydra_compose(CONFIG_NAME, overrides=words)
    finally:
        offer_defaults()
    with open_dict(composed):
        for group in groups:
            for name in plain[group]:
                if name not in DOORS[group].shared and OmegaConf.is_missing(given[group], name):
                    del composed[group][name]
    return composed


# What of Hydra's own section may only be typed: by it Hydra imports, calls or sets something. Files that put a group
# there by another package (defaults: [/backbone@hydra.callbacks.x: mine]) are seen in the composed config alone.
_TYPED_ONLY = ("callbacks", "job_logging", "hydra_logging", "searchpath", "job.env_set", "job.env_copy", "job.chdir",
               "launcher._target_", "sweeper._target_")  # fmt: skip


def _check_hydra(section: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse what a file has put into Hydra's own section.

    Raises:
        ConfigError: names the key.
    """
    typed = [word.lstrip("+~").partition("=")[0].replace("/", ".") for word in overrides]
    usual = _usual_hydra()
    for key in _TYPED_ONLY:
        found = OmegaConf.select(section, key)
        plain = OmegaConf.to_container(found) if OmegaConf.is_config(found) else found
        if key == "searchpath":  # of --config-dir, which is typed
            plain = [path for path in plain or [] if str(path).startswith("pkg://")]
        group = key.partition(".")[0]
        if plain != usual[key] and not any(word.startswith(f"hydra.{group}") for word in typed):
            raise ConfigError(
                f"hydra.{key}: {NOT_IN_FILES}; Hydra's own choices are made by typing hydra/..."
            )


@functools.cache
def _usual_hydra() -> dict[str, Any]:
    with hydra_session():
        section = hydra_compose(CONFIG_NAME, return_hydra_config=True).hydra
    found = {key: OmegaConf.select(section, key) for key in _TYPED_ONLY}
    plain = {key: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for key, v in found.items()}
    return {**plain, "searchpath": []}


def name_plugins(overrides: Sequence[str]) -> list[str]:
    """Import the packages that are typed as ``plugins=[...]``; configs may name their parts from then on.

    Raises:
        ConfigError: one cannot be imported.
    """
    typed = [
        package
        for word in overrides
        if key_of(word) == "plugins"
        for package in re.split(r"[\s,\[\]'\"]+", word.partition("=")[2])
        if package and package != "null"
    ]
    allow_plugins(*typed)
    return typed


def key_of(word: str) -> str:
    """``data`` of ``+data=folder``, ``data.root`` of ``data.root=X``."""
    return word.lstrip("+~").partition("=")[0].partition("@")[0]


def _listed(words: object) -> Sequence[object]:
    return words if isinstance(words, Sequence) else [words]


def searchpath_words(config_dir: str | Path | None) -> list[str]:
    """``--config-dir`` as a word that can be handed on.

    Raises:
        ConfigError: there is no such folder.
    """
    if config_dir is None:
        return []
    if not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    return [f"hydra.searchpath=[{in_quotes(literal(f'file://{Path(config_dir).resolve()}'))}]"]


@contextmanager
def hydra_session(without: Collection[str] = ()) -> Iterator[Hydra]:
    """Hydra on our configs; inside a running Hydra program its global state is put back afterwards.

    ``without``: groups without their defaults, see :func:`~sppcls.config.defaults.offer_defaults`.
    """
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    use_own_reader()
    offer_defaults(without)
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            session = GlobalHydra.instance().hydra
            assert session is not None
            yield session
    finally:
        if outer is not None:
            GlobalHydra.instance().hydra = outer


def to_yaml(config: Config) -> str:
    """The resolved config as it is written to ``config.yaml`` in the run folder."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True, width=110)
