"""Sizes, levels, schedules, samplers and regions at random, against their definitions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fuzzing.geometry import GEOMETRY


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry(name: str) -> None:
    target = GEOMETRY[name]
    target.few(150)
    assert target.seen["fine"] > 20
