"""From a command line to a config: Hydra composes, and its complaints become one line."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from sppcls._util.reason import reason_of
from sppcls.config.checks import all_literal, check_config, resolved
from sppcls.config.data_word import with_data_words
from sppcls.config.defaults import offer_defaults
from sppcls.config.grammar import in_grammar
from sppcls.config.hydra_words import check_hydra_words
from sppcls.config.mistakes import config_error_line, no_key, unknown_option
from sppcls.config.own_files import read_yaml, use_own_reader
from sppcls.config.parts import PARTS, check_plugins
from sppcls.config.schema import Config, as_dict, in_quotes, literal
from sppcls.errors import CheckpointError, ConfigError
from sppcls.registry import DOORS, GIVEN, NOT_IN_FILES, TARGET, allow_plugins, is_own

CONFIG_NAME = "train"

# Folders of conf/ that are no part of a run's config: named by evaluation.protocols, +sweep= and +search=.
NO_GROUPS = ("protocol", "sweep", "search")

# Hydra's command line: options that show or do something else than one run, of which there may be one; and its others.
_ONE_OF = {"--run": "-r", "--multirun": "-m", "--cfg": "-c", "--info": "-i", "--shell-completion": "-sc"}
_OTHERS = {"--config-path": "-cp", "--config-name": "-cn", "--config-dir": "-cd", "--package": "-p",
           "--experimental-rerun": "", "--hydra-help": "", "--resolve": ""}  # fmt: skip
_LONG = {short: long for long, short in {**_ONE_OF, **_OTHERS}.items() if short}
_WITH_VALUE = ("--config-path", "--config-name", "--config-dir", "--cfg", "--package", "--experimental-rerun")
_INFOS = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def conf_dir() -> Path:
    """The folder of the shipped configs: inside an installed package, at the top level of a checkout."""
    package = Path(__file__).resolve().parents[1]
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
    if isinstance(overrides, str) or not all(isinstance(word, str) for word in _listed(overrides)):
        raise ConfigError(
            f"overrides={overrides!r}: give a list of words, such as ['data=folder', 'data.root=PHOTOS']"
        )
    check_hydra_words(overrides)
    typed = name_plugins(overrides)
    words = [*in_grammar(overrides), *searchpath_words(config_dir)]
    try:
        with hydra_session():
            composed = hydra_compose(CONFIG_NAME, overrides=words, return_hydra_config=True)
        _check_hydra(composed.hydra, overrides)
        with open_dict(composed):
            del composed["hydra"]
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
    names = [key_of(override) for override in overrides]
    if any(name.startswith("experiment") for name in names):
        return check_config(given)  # an experiment says everything
    # It was saved resolved, so somebody else put it there, to read what is here.
    if re.search(r"\$\{[^{}']*\}", str(saved)):
        raise ConfigError("the config in the checkpoint holds ${...}, which a saved config never does")
    saved = {name: value for name, value in saved.items() if name != "plugins"}  # a file names none
    for group, argument in (("backbone", "net"), ("data", "sources")):
        if (
            isinstance(saved.get(group), dict)
            and saved[group].get("name") == GIVEN
            and group not in map(_group, names)
        ):
            raise ConfigError(
                f"{path}: this run was given its {argument} from Python; resume there, with sppcls.train(config, {argument}=...)"
            )
    values = resolved(given)
    _check_saved_parts(saved, names, path)
    for group, kept in saved.items():
        if isinstance(kept, dict) and TARGET in kept:
            values[group] = {}  # its keys are its own
    # Keys that the program has learnt since have no value there.
    try:
        merged = OmegaConf.merge(OmegaConf.create(all_literal(values)), all_literal(dict(saved)))
    except OmegaConfBaseException as error:
        reason = reason_of(error.msg or error, first_line=True)
        raise CheckpointError(f"{path}: damaged: config is not as sppcls writes it ({reason})") from None
    config = cast(DictConfig, merged)
    for name in [*names, "ckpt_path"]:
        if not name.startswith("hydra"):
            value = OmegaConf.select(given, name)
            plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            OmegaConf.update(config, name, all_literal(plain), merge=False)
    return check_config(config)


def _check_saved_parts(saved: Mapping[str, Any], names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Refuse callbacks and loggers of Lightning's with texts, such as folders and addresses, that only a file has chosen.

    Raises:
        ConfigError: names the callback or logger, and what to type.
    """
    for group in ("callbacks", "logger"):
        parts = saved.get(group)
        if not isinstance(parts, dict) or group in map(_group, names):
            continue
        for name, values in parts.items():
            if not isinstance(values, dict) or not _is_library(group, values.get(TARGET)):
                continue
            shipped = conf_dir() / group / f"{name}.yaml"
            usual = (read_yaml(shipped) or {}).get(name, {}) if shipped.is_file() else {}
            texts = {
                k: v for k, v in values.items() if isinstance(v, str) and k not in (TARGET, "monitor", "mode")
            }
            odd = [k for k, v in texts.items() if v and v != usual.get(k)]
            if odd:
                raise ConfigError(
                    f"{path}: {group}.{name}.{odd[0]}={texts[odd[0]]}: only the checkpoint says so; type the "
                    f"{group} again, such as {group}=[...], or leave them out: {group}=[]"
                )


def _is_library(group: str, target: Any) -> bool:
    return any(str(target).startswith(f"{library}.") for library in DOORS[group].libraries)


def _group(key: str) -> str:
    return key.partition(".")[0]


def to_yaml(config: Config) -> str:
    """The resolved config as it is written to ``config.yaml`` in the run folder."""
    return yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True, width=110)


class CommandLine(NamedTuple):
    """The words of a Hydra command line, whatever their order.

    Attributes:
        overrides: its ``key=value`` words, as they were typed.
        options: Hydra's options by their long names, with their values; of one without, it is empty.
    """

    overrides: list[str]
    options: dict[str, str]

    @property
    def config_dir(self) -> str | None:
        """The folder with more configs, if one is named."""
        return self.options.get("--config-dir")

    def for_hydra(self) -> list[str]:
        """The same for Hydra's parser, which takes words in its grammar, and options before them."""
        options = [part for option, value in self.options.items() for part in (option, value) if part]
        return [*options, *in_grammar(self.overrides)]


def read_command_line(argv: Sequence[str]) -> CommandLine:
    """Tell words from options, with ``--data PLACE`` written out; after ``--`` all are words.

    Raises:
        ConfigError: an option that Hydra does not have, or a word that sets no key.
    """
    overrides: list[str] = []
    options: dict[str, str] = {}
    words = with_data_words(argv, group_choices()["data"])
    only_words = False
    while words:
        word = words.pop(0)
        if only_words or not word.startswith("-"):
            if "=" not in word and not word.startswith("~"):
                raise ConfigError(no_key(word, group_choices()))
            overrides.append(word)
            continue
        if word == "--":
            only_words = True
            continue
        option, equals, value = word.partition("=")
        long = _LONG.get(option, option)
        following = words[0] if words and not words[0].startswith("-") else ""
        if long in _WITH_VALUE:
            if not equals:
                value = following
                del words[: bool(following)]
            if not value or value.startswith("-"):
                raise ConfigError(f"{option}: needs a value; see --help")
        elif long == "--info":
            if not equals and following in _INFOS:
                value = words.pop(0)
            value = value or "all"
        elif long not in _ONE_OF and long not in _OTHERS:
            if not equals and "=" not in following:
                value = following
            raise ConfigError(unknown_option(option, value, group_choices()))
        if long == "--config-dir":
            value = os.path.expanduser(value)
        options[long] = value
    chosen = [option for option in options if option in _ONE_OF]
    if len(chosen) > 1:
        raise ConfigError(f"{' '.join(chosen)}: one of them at a time")
    return CommandLine(overrides, options)


def command_line_overrides(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """The ``key=value`` words of a Hydra command line, and its ``--config-dir`` if any.

    Raises:
        ConfigError: as :func:`read_command_line`.
    """
    line = read_command_line(argv)
    return line.overrides, line.config_dir
