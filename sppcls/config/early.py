"""What is refused before torch is loaded, which takes seconds: names of protocols, and folders that are not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sppcls._util.files import check_local
from sppcls._util.near import suggest
from sppcls.config.compose import conf_dir
from sppcls.errors import ConfigError, DataError


def check_early(config: DictConfig) -> None:
    """Look at the protocols and the data folder of a config that has not been checked otherwise.

    Raises:
        ConfigError: no such protocol.
        DataError: no such folder.
    """
    values: Any = OmegaConf.to_container(config)
    protocols, data = values["evaluation"].get("protocols"), values["data"]
    if isinstance(protocols, list) and all(isinstance(name, str) for name in protocols):
        check_protocols(protocols)
    root = data.get("root")
    if data.get("name") in ("folder", "imagenet") and isinstance(root, str) and root != "???":
        check_data_root(root)


def check_data_root(root: str) -> None:
    """Raise DataError if there is no folder ``root``, ConfigError if it is an address."""
    check_local(root, "data.root takes a path")
    if not os.path.exists(root):
        raise DataError(f"data.root={root}: no such folder")
    if not os.path.isdir(root):
        raise DataError(f"data.root={root}: is a file, a folder of class folders is needed")


def check_protocols(names: Iterable[str]) -> None:
    """Raise ConfigError if a protocol, or one of several joined by ``+``, is not there."""
    for name in map(str.strip, names):
        for word in [name] if name.endswith((".yaml", ".yml")) and os.path.isfile(name) else name.split("+"):
            protocol_path(word.strip(), Path())


def protocol_names() -> list[str]:
    """Names of the protocols that come with sppcls."""
    return sorted(path.stem for path in (conf_dir() / "protocol").glob("*.yaml"))


def protocol_path(name: str, beside: Path) -> Path:
    """The file of a protocol that is named, or of a path that counts from the folder ``beside``.

    Raises:
        ConfigError: there is none.
    """
    by_path = name.endswith((".yaml", ".yml"))
    path = beside / name if by_path else conf_dir() / "protocol" / f"{name}.yaml"
    try:
        if path.is_file():
            return path
    except OSError:  # a name that is too long
        pass
    if by_path:
        raise ConfigError(f"protocol {name[:200]}: no such file")
    known = protocol_names()
    hint = f"choose from {', '.join(known)}, a .yaml file, or several joined by +"
    raise ConfigError(f"protocol {name[:100]}: no such protocol{suggest(name, known)}; {hint}")
