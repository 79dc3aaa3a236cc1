"""The choice of a config group that gives certain values: what was typed, such as ``zf5_small``."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from sppcls.config.schema import Config
from sppcls.config.shipped import choices_of


def choice_of(config: Config, group: str, apart: Collection[str] = ()) -> str | None:
    """Name of the file of ``conf/<group>`` with exactly the values of ``config``; None without one.

    Args:
        config: checked.
        group: such as ``backbone``.
        apart: keys of the group that may differ.
    """
    values = dataclasses.asdict(getattr(config, group))
    defaults = {spec.name: spec.metadata["default"] for spec in dataclasses.fields(getattr(config, group))}
    return next(iter(choices_of(group, values, defaults, values.keys() - {*apart})), None)
