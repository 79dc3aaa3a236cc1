"""A few odd configs and command lines; `tests/long` tries as many as there is time for."""

from __future__ import annotations

from pathlib import Path

from fuzzing.configs import any_values, command_lines, photos, trained


def test_any_values(tmp_path: Path) -> None:
    any_values(photos(tmp_path)).few(100)


def test_what_is_accepted_trains(tmp_path: Path) -> None:
    target = trained(photos(tmp_path))
    target.few(8)
    assert target.seen["trained"]


def test_odd_command_lines() -> None:
    command_lines().few(10)
