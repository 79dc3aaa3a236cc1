"""What has to be the same for all processes of a run."""

from __future__ import annotations

import hashlib
import json

import torch

from sppcls._version import __version__
from sppcls.config.same_run import change, flatten
from sppcls.config.schema import Config, as_dict
from sppcls.data import Source, Splits
from sppcls.engine.resume import Resume

_ROLES = ("train", "val", "test")


def facts_of(config: Config, splits: Splits, resume: Resume | None) -> dict[str, str]:
    """What must be the same for all processes of a run, each in a few words."""
    keys = {
        key: json.dumps(value)
        for key, value in flatten(as_dict(config)).items()
        if key != "data.root" and change(key) not in ("place", "log", "speed")
    }
    images = {
        f"the {role} split": _content(source) for role, source in splits._asdict().items() if role in _ROLES
    }
    start = "the beginning"
    if resume is not None:
        start = f"epoch {resume.checkpoint['epoch'] + 1}, step {resume.checkpoint['global_step']}"
    return {
        "sppcls": __version__,
        "torch": torch.__version__,
        **keys,
        **images,
        "the place to go on from": start,
    }


def _content(source: Source | None) -> str:
    """How many images there are, and a checksum of their names and classes."""
    if source is None:
        return "none"
    checksum = hashlib.blake2b(json.dumps(source.classes).encode(), digest_size=4)
    for index, target in enumerate(source.targets):
        checksum.update(f"{source.name(index)}\0{target}\0".encode("utf-8", "surrogateescape"))
    return f"{len(source)} images (checksum {checksum.hexdigest()})"
