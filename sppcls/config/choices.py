"""The choice of a config group that gives certain values: what was typed, such as ``zf5_small``."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from functools import cache
from typing import Any

import yaml

from sppcls.config.compose import conf_dir
from sppcls.config.schema import Config


def choice_of(config: Config, group: str, apart: Collection[str] = ()) -> str | None:
    """Name of the file of ``conf/<group>`` with exactly the values of ``config``; None without one.

    Args:
        config: checked.
        group: such as ``backbone``.
        apart: keys of the group that may differ.
    """
    values = dataclasses.asdict(getattr(config, group))
    defaults = {spec.name: spec.metadata["default"] for spec in dataclasses.fields(getattr(config, group))}
    for name, given in _files(group).items():
        if all(key in apart or {**defaults, **given}.get(key) == value for key, value in values.items()):
            return name
    return None


@cache
def _files(group: str) -> dict[str, dict[str, Any]]:
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for path in sorted((conf_dir() / group).glob("*.yaml"))
    }
