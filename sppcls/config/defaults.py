"""The defaults of the schema as a config that Hydra composes first, so that every other one holds what differs."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from sppcls.config.schema import default_values

# As it stands in the defaults list of conf/train.yaml.
_NAME = "schema"


def offer_defaults() -> None:
    """Let Hydra find the defaults. Plain values, not a structured config: the checks name the key and what it may be."""
    ConfigStore.instance().store(name=_NAME, node=default_values(), package="_global_", provider="sppcls")
