"""What Hydra composes of files, kept: a sweep, a search and a notebook ask for the same choices again and again.

Hydra merges the files that the words choose (``backbone=zf5``) and then sets the other words' values (``optimizer.lr=1``).
The first takes a tenth of a second and is the same as long as the choices and the files are.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

Stamp = tuple[int, ...]  # of a file: which it is, when it was written or changed, and its bytes
_KEPT = 256  # 4 MB
COMPOSING = threading.RLock()
"""Held while anything is composed: Hydra has one state in a process."""

_kept: OrderedDict[tuple[str, ...], tuple[bytes, dict[str, Stamp]]] = OrderedDict()
_noting: list[dict[str, Stamp]] = []


def stamp(path: str) -> Stamp:
    """What a file has as long as nobody writes or replaces it; nothing for none."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def note(path: str) -> None:
    """Say, before it is read, that a file goes into what is being composed."""
    for files in _noting:
        files[path] = stamp(path)


@contextmanager
def _noted() -> Iterator[dict[str, Stamp]]:
    files: dict[str, Stamp] = {}
    _noting.append(files)
    try:
        yield files
    finally:
        _noting.pop()


def compose_once(
    words: Sequence[str], roots: Sequence[Path], compose: Callable[[Sequence[str]], DictConfig]
) -> DictConfig:
    """``compose(words)``, whose files are read once.

    Args:
        words: in Hydra's grammar.
        roots: folders whose folders are the groups.
        compose: has Hydra compose.

    Raises:
        HydraException, OmegaConfBaseException: of wrong words, as Hydra does.
    """
    chosen: list[str] = []
    values: list[Override] = []
    for word, override in zip(words, OverridesParser.create().parse_overrides(list(words)), strict=True):
        group = override.key_or_group
        if group.startswith("hydra") or override.is_sweep_override():
            return compose(words)
        is_group = any(os.path.isdir(f"{root}/{group}") for root in roots)
        if is_group and not isinstance(override.value(), dict):  # of a group a dict sets values
            chosen.append(word)
        elif override.package is not None or override.is_add() or override.is_delete():
            return compose(words)  # what is there decides what they mean
        else:
            values.append(override)
    config = _of_choices(chosen, roots, compose)
    try:
        for override in values:
            OmegaConf.update(
                config, override.key_or_group, override.value(), force_add=override.is_force_add()
            )
    except OmegaConfBaseException:
        return compose(words)  # says what is wrong
    return config


def _of_choices(
    words: Sequence[str], roots: Sequence[Path], compose: Callable[[Sequence[str]], DictConfig]
) -> DictConfig:
    key = (*map(os.path.realpath, roots), "", *words)  # another folder may come to have the name
    if key in _kept:
        pickled, files = _kept[key]
        if all(stamp(path) == then for path, then in files.items()):
            _kept.move_to_end(key)
            return _unpickled(pickled)
    with _noted() as files:
        pickled = pickle.dumps(compose(words))
    _kept[key] = pickled, files
    if len(_kept) > _KEPT:
        _kept.popitem(last=False)
    return _unpickled(pickled)


def _unpickled(pickled: bytes) -> DictConfig:
    config: DictConfig = pickle.loads(pickled)
    return config
