"""Hydra's side of the command line."""

from __future__ import annotations

import os
import stat
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

from sppcls._util.files import check_local, mode_of
from sppcls.config.checks import check_config
from sppcls.config.command_line import CommandLine, read_command_line
from sppcls.config.compose import (
    CONFIG_NAME,
    compose_unchecked,
    conf_dir,
    group_choices,
    name_plugins,
    without_foreign_defaults,
)
from sppcls.config.defaults import offer_defaults
from sppcls.config.early import check_early
from sppcls.config.mistakes import config_error_line
from sppcls.config.own_files import use_own_reader
from sppcls.config.restore import restore
from sppcls.config.schema import Config
from sppcls.errors import CheckpointError, ConfigError, SppclsError
from sppcls.runs.names import BEST, LAST, PREVIOUS, checkpoints_below, no_checkpoint

# Hydra's own flags that print something instead of running.
_NOT_A_RUN = ("--info", "--hydra-help", "--shell-completion", "--cfg")


def run(words: list[str]) -> int:
    """Compose and train. ``words`` are Hydra's arguments.

    Raises:
        SppclsError: one line; for a single run before Hydra starts, where the config is at fault.
    """
    line = read_command_line(words)
    overrides, config_dir = line.overrides, line.config_dir
    name_plugins(overrides)
    if "--multirun" in line.options:
        return _sweep(line)
    for word in overrides:
        if word.lstrip("+~").startswith("sweep="):
            raise ConfigError(f"{word}: is a list of runs; add -m")
    one_run = not any(option in _NOT_A_RUN for option in line.options)
    # Lightning starts the other processes of a run with words of its own for Hydra, after the first one has looked.
    started_by_lightning = "LOCAL_RANK" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    if one_run and not started_by_lightning:
        given = compose_unchecked(overrides, config_dir)
        if "LOCAL_RANK" not in os.environ:  # else one process of several would not be alone in saying it
            resumed = any(word.lstrip("+").startswith("ckpt_path=") for word in overrides)
            if resumed:
                _check_ckpt_path(given)
            else:
                check_early(given)
                check_config(given)
    failed: list[SppclsError] = []
    argv = sys.argv

    def task(given: DictConfig) -> None:
        # Lightning starts the other processes of a distributed run with sys.argv, so it has to be the real one.
        sys.argv = argv
        try:
            _train(
                without_foreign_defaults(given, overrides, config_dir),
                list(HydraConfig.get().overrides.task),
            )
        except SppclsError as error:
            failed.append(error)

    sys.argv = [argv[0], *line.for_hydra()]
    use_own_reader()
    offer_defaults()
    try:
        with _hydra_errors_raised(), _late_help_allowed():
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(config_error_line(error, overrides, group_choices(config_dir))) from None
    finally:
        sys.argv = argv
    if failed:
        raise failed[0]
    return 0


@contextmanager
def _hydra_errors_raised() -> Iterator[None]:
    """Hydra would print its errors, on many lines, and end the process."""
    before = {name: os.environ[name] for name in ("HYDRA_FULL_ERROR",) if name in os.environ}
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        del os.environ["HYDRA_FULL_ERROR"]
        os.environ |= before


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


def _sweep(line: CommandLine) -> int:
    from sppcls.sweeps.launch import run_sweep

    for option in line.options:
        if option in _NOT_A_RUN:
            raise ConfigError(f"{option}: shows one run; leave out -m")
    run_sweep(line.overrides, line.config_dir)
    return 0


def _check_ckpt_path(given: DictConfig) -> None:
    """Refuse what is no checkpoint before anything that takes seconds is loaded.

    Raises:
        CheckpointError: nothing has that name.
    """
    name = str(given.ckpt_path)
    if given.ckpt_path is None or name == "auto" or not name.strip():
        return
    if (mode := mode_of(name)) is not None:
        files = (Path(name) / file for file in (LAST, PREVIOUS, BEST))
        if stat.S_ISDIR(mode) and not any(file.is_file() for file in files):
            raise CheckpointError(f"{name}: {no_checkpoint(Path(name))}")
        return
    check_local(name, "ckpt_path takes a path")
    if name not in ("last", "best"):
        raise CheckpointError(f"ckpt_path={name}: no such checkpoint or run folder")
    newest = checkpoints_below(Path(str(given.runs_dir)), (f"{name}.ckpt",))[:1]
    which = "".join(["a run's folder", *(f"; the newest is {path.parent}" for path in newest)])
    raise CheckpointError(
        f"ckpt_path={name}: name {which}; ckpt_path=auto resumes the newest run of the same configuration"
    )


def _train(given: DictConfig, overrides: list[str]) -> None:
    config = _resumed_config(given, overrides) or check_config(given)
    # Imported here: it takes seconds, and a wrong config should be reported at once.
    if config.detection.checkpoint is not None:
        from sppcls.cli.detect_common import bar
        from sppcls.detection.run import run_detector

        run_detector(config, say=lambda line: print(line, flush=True), progress=bar)
        return
    from sppcls.engine.train import train

    train(config)


def _resumed_config(given: DictConfig, overrides: list[str]) -> Config | None:
    """With ``ckpt_path``, the config of that run with what the command line changes; None to take the given one."""
    if given.ckpt_path is None:
        return None
    from sppcls.engine.resume import find_named

    if given.ckpt_path == "auto":
        return None  # the folder is found by the config, so the config is the given one
    name = str(given.ckpt_path)
    return restore(find_named(name).checkpoint["sppcls"]["config"], given, overrides, Path(name))
