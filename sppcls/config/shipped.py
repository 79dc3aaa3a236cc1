"""The config files that come with sppcls, read without Hydra."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml


def conf_dir() -> Path:
    """The folder of the shipped configs: inside an installed package, at the top level of a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def choices_in(group: str) -> dict[str, dict[str, Any]]:
    """What each file of ``conf/<group>`` holds, by the name that is typed, such as ``zf5_small``."""
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for path in sorted((conf_dir() / group).glob("*.yaml"))
    }


def choices_of(
    group: str, values: Mapping[str, Any], defaults: Mapping[str, Any], keys: Collection[str]
) -> list[str]:
    """The choices of a config group that give these values, as far as ``keys`` go.

    Args:
        group: such as ``backbone``.
        values: of its keys.
        defaults: values where a file says nothing.
        keys: those that have to agree.
    """
    return [
        name
        for name, given in choices_in(group).items()
        if all({**defaults, **given}.get(key) == values.get(key) for key in keys)
    ]
