"""The config of a run that is resumed: the saved one, and what the command line changes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sppcls._util.reason import reason_of
from sppcls.config.checks import all_literal, check_config, resolved
from sppcls.config.compose import conf_dir, key_of
from sppcls.config.own_files import read_yaml
from sppcls.config.schema import Config
from sppcls.errors import CheckpointError, ConfigError
from sppcls.registry import DOORS, GIVEN, TARGET


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
        raise ConfigError(f"{path}: its config holds ${{...}}, which a saved config never does")
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
