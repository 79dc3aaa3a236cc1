"""What all tests share: a configuration small enough to train in seconds."""

from __future__ import annotations

import gc
import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# One thread for each of the two processes of tests, and for the programs that they start. Read when torch is loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from forked import Loaded, Program
from tiers import TIERS, give_tier, tier_of
from tiny_runs import TINY

from sppcls import registry
from sppcls.nn.spp import _warn_larger

TESTS = Path(__file__).resolve().parent


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Leave what all tests load to the end out of Python's search for garbage: each takes half a second with it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test its tier, and put slow files first: then no process is left alone with one at the end."""
    for item in items:
        give_tier(item, TESTS)
    slow_first = TIERS[::-1]
    items.sort(key=lambda item: slow_first.index(tier_of(item.path, TESTS)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``, keep a file in one process, as its tests share trained networks; in the order given above."""
    if config.getvalue("dist") != "load":  # --dist names another way
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(autouse=True)
def _the_same_alone_and_after_others() -> None:
    """Random numbers are the same in every run, and what warns once in a process has not warned yet."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    _warn_larger.cache_clear()


@pytest.fixture(autouse=True)
def _no_parts_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests of this process have registered or named is not there; parts that come with sppcls are."""
    ours = {
        group: {name: part for name, part in parts.items() if part.__module__.startswith("sppcls.")}
        for group, parts in registry._registered.items()
    }
    monkeypatch.setattr(registry, "_registered", ours)
    monkeypatch.delenv(registry.VARIABLE, raising=False)


@pytest.fixture(scope="session")
def tiny_words() -> list[str]:
    """Overrides of a run that takes seconds; its ``runs_dir`` is the caller's to add."""
    return list(TINY)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., list[str]]:
    """Overrides of a run that takes seconds and writes below ``tmp_path/runs``; later overrides win."""

    def overrides(*more: str) -> list[str]:
        names = {word.partition("=")[0] for word in more}
        if "data" in names:
            names |= {"data.num_train", "data.num_val"}  # only the generated images can be given a number
        if "head" in names:
            names.add("head.hidden")
        kept = [word for word in TINY if word.partition("=")[0] not in names]
        return [*kept, f"runs_dir={tmp_path / 'runs'}", *more]

    return overrides


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, ...], dict[str, Any]]]:
    return tmp_path_factory.mktemp("prepared"), {}


@pytest.fixture
def prepared(
    _prepared: tuple[Path, dict[tuple[str, ...], dict[str, Any]]],
    tiny: Callable[..., list[str]],
    tmp_path: Path,
) -> Callable[..., dict[str, Any]]:
    """What ``train(compose(tiny(...)))`` gives and writes, for tests of what comes after it.

    The same words are trained once in a process of tests; each test has a copy below its ``tmp_path/runs``.
    """
    place, results = _prepared

    def copy(*more: str) -> dict[str, Any]:
        from sppcls import compose, train

        words = tuple(word for word in tiny(*more) if not word.startswith("runs_dir="))
        if words not in results:
            results[words] = train(compose([*words, f"runs_dir={place / str(len(results))}"]))
        result = results[words]
        folder = Path(result["folder"])
        here = tmp_path / "runs" / folder.relative_to(folder.parents[1])
        shutil.copytree(folder, here)
        texts = {name: value for name, value in result.items() if isinstance(value, str)}
        return {**result, **{name: text.replace(str(folder), str(here)) for name, text in texts.items()}}

    return copy


@pytest.fixture(scope="session")
def loaded() -> Iterator[Loaded]:
    """What forks the real program."""
    with Loaded() as loaded:
        yield loaded


@pytest.fixture
def program(loaded: Loaded) -> Iterator[Callable[..., Program]]:
    """Start ``python train.py`` as a user would; what still runs at the end of the test is killed.

    As many of the programs that it starts itself as ``children`` says are forked, too, which saves loading them.
    """
    started: list[Program] = []

    def start(words: list[str], start_new_session: bool = False, children: int = 0) -> Program:
        started.append(loaded.start(["train.py", *words], start_new_session, children=children))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture
def unused_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
