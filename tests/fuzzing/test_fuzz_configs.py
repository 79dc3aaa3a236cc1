"""A few odd configs and command lines; `tests/long` tries as many as there is time for."""

from __future__ import annotations

from pathlib import Path

from fuzzing.configs import any_values, base_config, command_lines, photos, train_two_steps, trained


def test_any_values(tmp_path: Path) -> None:
    any_values(photos(tmp_path)).few(100)


def test_what_is_accepted_trains(tmp_path: Path) -> None:
    root = photos(tmp_path)
    assert train_two_steps(base_config(root)) == "trained"
    trained(root).few(8)  # which examples these are depends on the modules that are loaded


def test_odd_command_lines() -> None:
    command_lines().few(10)
