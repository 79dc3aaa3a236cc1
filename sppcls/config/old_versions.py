"""What earlier versions of sppcls wrote, in the keys of this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Group and key of version 0.1, and what the key is called since 0.2.
_RENAMED = {("pyramid", "bins"): "bin_rule"}


def upgraded(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A config, or the architecture in a checkpoint, with the keys of this version; another one stays as it is."""
    groups = dict(saved)
    for (group, old), new in _RENAMED.items():
        values = groups.get(group)
        if isinstance(values, dict) and old in values and new not in values:
            groups[group] = {new if name == old else name: value for name, value in values.items()}
    if "optimizer" in groups and "loss" not in groups:  # a config, not an architecture
        groups["loss"] = {"name": "cross_entropy"}
    return groups
