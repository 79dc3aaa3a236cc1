"""The defaults of the schema as a config that Hydra composes first, so that every other one holds what differs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hydra.core.config_store import ConfigStore

from sppcls.config.schema import default_values

# As it stands in the defaults list of conf/train.yaml.
_NAME = "schema"


def offer_defaults(without: Collection[str] = ()) -> None:
    """Let Hydra find the defaults. Plain values, not a structured config: the checks name the key and what it may be.

    Args:
        without: groups whose keys are missing instead, so that a key which has a value was given it by somebody.
    """
    values: dict[str, Any] = default_values()
    for group in without:
        values[group] = dict.fromkeys(values[group], "???")  # OmegaConf's word
    ConfigStore.instance().store(name=_NAME, node=values, package="_global_", provider="sppcls")
