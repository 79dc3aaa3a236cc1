"""Hydra's side of the command line."""

from __future__ import annotations

import os
import sys
from argparse import Action, ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sppcls.composition import (
    CONFIG_NAME,
    command_line_overrides,
    compose,
    compose_unchecked,
    conf_dir,
    explain,
    restore,
)
from sppcls.config import Config
from sppcls.config_checks import check_config
from sppcls.errors import ConfigError, SppclsError

# Hydra's own flags that print something instead of running.
_NOT_A_RUN = ("--info", "-i", "--hydra-help", "--version", "--shell-completion", "-sc", "--cfg", "-c")


def run(words: list[str]) -> int:
    """Compose and train. ``words`` are Hydra's arguments.

    Raises:
        SppclsError: one line; for a single run before Hydra starts, where the config is at fault.
    """
    overrides, config_dir = command_line_overrides(words)
    if {"-m", "--multirun"} & set(words):
        return _sweep(words, overrides, config_dir)
    for word in overrides:
        if word.lstrip("+~").startswith("sweep="):
            raise ConfigError(f"{word}: is a list of runs; add -m")
    one_run = not any(word.split("=")[0] in _NOT_A_RUN for word in words)
    if one_run and "LOCAL_RANK" not in os.environ:
        compose_unchecked(overrides, config_dir)
        if not any(word.lstrip("+").startswith("ckpt_path=") for word in overrides):
            compose(overrides, config_dir)
    failed: list[SppclsError] = []
    argv = sys.argv

    def task(given: DictConfig) -> None:
        # Lightning starts the other processes of a distributed run with sys.argv, so it has to be the real one.
        sys.argv = argv
        try:
            _train(given, list(HydraConfig.get().overrides.task))
        except SppclsError as error:
            failed.append(error)

    sys.argv = [argv[0], *words]
    try:
        with _hydra_errors_raised(), _late_help_allowed():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides, config_dir)) from None
    finally:
        sys.argv = argv
    if failed:
        raise failed[0]
    return 0


@contextmanager
def _hydra_errors_raised() -> Iterator[None]:
    """Hydra would print its errors, on many lines, and end the process."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _late_help_allowed() -> Iterator[None]:
    """Hydra 1.3 has a help text that is made when it is shown; Python from 3.14 on refuses what is no string before."""
    parser: Any = ArgumentParser
    check = getattr(parser, "_check_help", None)
    if check is None:
        yield
        return

    def check_strings(self: ArgumentParser, action: Action) -> None:
        if isinstance(action.help, str):
            check(self, action)

    parser._check_help = check_strings
    try:
        yield
    finally:
        parser._check_help = check


def _sweep(words: list[str], overrides: list[str], config_dir: str | None) -> int:
    from sppcls.sweeping.launch import run_sweep

    for word in words:
        if word.split("=")[0] in _NOT_A_RUN:
            raise ConfigError(f"{word}: shows one run; leave out -m")
    run_sweep(overrides, config_dir)
    return 0


def _train(given: DictConfig, overrides: list[str]) -> None:
    config = _resumed_config(given, overrides) or check_config(given)
    # Imported here: it takes seconds, and a wrong config should be told at once.
    from sppcls.training import train

    train(config)


def _resumed_config(given: DictConfig, overrides: list[str]) -> Config | None:
    """With ``ckpt_path``, the config of that run with what the command line changes; None to take the given one."""
    if given.ckpt_path is None:
        return None
    from sppcls.engine.resuming import find_named

    if given.ckpt_path == "auto":
        return None  # the folder is found by the config, so the config is the given one
    name = str(given.ckpt_path)
    return restore(find_named(name).checkpoint["sppcls"]["config"], given, overrides, Path(name))
