"""When two configs mean the same run: one answer for resuming, sweeps and comparisons.

Each key of the schema says what another value of it changes (``changes`` of :func:`sppcls.config.key.key`):

==========  ==========================================  ===========  =========  =======  ==========
changes     what                                        auto finds   same       factor   may change
                                                        the run      sweep               in a run
==========  ==========================================  ===========  =========  =======  ==========
state       what a checkpoint consists of               no           no         yes      no
weights     the weights after an epoch                  no           no         yes      yes
length      how many epochs there are                   yes          no         yes      yes
validation  sizes validated at: which epoch is best     no           no         no       yes
tests       tests besides the validation                yes          no         no       yes
name        which of several equal runs it is           no           yes        no       yes
speed       how fast it is; numbers only by rounding    yes          yes        no       yes
place       where files are, what is checked before     yes          yes        no       yes
log         what is written beside the checkpoints      yes          yes        no       yes
==========  ==========================================  ===========  =========  =======  ==========

"auto finds the run": ``ckpt_path=auto``. "Same sweep": the same folder; its finished runs are not trained or tested
again, so another length or other tests are another sweep. "Factor": of a comparison, except the seed and
``data.fold``, which repeat a run. "In a run": by an explicit ``ckpt_path``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sppcls.config.key import Change, all_keys
from sppcls.config.schema import Config, default_values

_NOT_FOUND_BY_AUTO: tuple[Change, ...] = ("state", "weights", "validation", "name")
_ANOTHER_SWEEP: tuple[Change, ...] = ("state", "weights", "length", "validation", "tests")
_FACTORS: tuple[Change, ...] = ("state", "weights", "length")

# Repetitions of a run: by another start, or on another fold of the images.
_REPETITIONS = ("seed", "data.fold")

# Groups whose keys, those of parts from elsewhere included, shape the network.
_NETWORK = ("backbone", "pyramid", "head")


@cache
def known_changes() -> dict[str, Change]:
    """What every key of the schema changes, by full name such as ``optimizer.lr``."""
    return {name: spec.metadata["changes"] for name, spec in all_keys(Config).items()}


def change(key: str) -> Change:
    """What another value of a key changes. One that the schema does not have may change anything."""
    known, name = known_changes(), key
    while name:
        if name in known:
            return known[name]
        name = name.rpartition(".")[0]  # an entry of a mapping
    return "state" if key.partition(".")[0] in _NETWORK else "weights"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config by full keys, such as ``optimizer.lr``."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested config by full keys; what an older version of sppcls did not have yet has its default."""
    return {**flatten(default_values()), **flatten(config)}


def run_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What two nested configs must agree on for ``ckpt_path=auto`` to take one run for the other's."""
    return _with(config, _NOT_FOUND_BY_AUTO)


def sweep_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the nested configs of two sweeps must agree on, besides what they vary, to share a folder."""
    return _with(config, _ANOTHER_SWEEP)


def is_factor(key: str) -> bool:
    """Whether runs that differ in this key are compared as different ones, not as repetitions."""
    return key not in _REPETITIONS and change(key) in _FACTORS


def is_fixed(key: str) -> bool:
    """Whether no checkpoint of a run can be resumed with another value of this key."""
    return change(key) == "state"


def _with(config: Mapping[str, Any], changes: tuple[Change, ...]) -> dict[str, Any]:
    flat = with_defaults(config)
    kept = {key: value for key, value in flat.items() if change(key) in changes}
    limit = flat.get("trainer.limit_val_batches")
    if limit is not None:
        # Counted in batches, it makes their size decide which images are validated.
        size = flat.get("data.val_batch_size") or flat.get("data.batch_size")
        product = type(limit) is int and type(size) is int
        kept["trainer.limit_val_batches"] = limit * size if product else [limit, size]
    return kept
