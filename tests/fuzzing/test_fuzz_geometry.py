"""Sizes, levels, schedules, samplers and regions at random, against their definitions."""

from __future__ import annotations

import pytest

from fuzzing.geometry import GEOMETRY


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry(name: str) -> None:
    target = GEOMETRY[name]
    target.few(150)
    assert target.seen["fine"] > 20
