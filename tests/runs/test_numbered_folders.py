"""Folders that are numbered where a name is taken: of runs, sweeps, searches and evaluations."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sppcls.errors import ConfigError
from sppcls.runs.folder import new_folder, numbered_folders


def test_names_that_are_taken_are_passed_over_and_nothing_is_made_beyond(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").write_text("a file")
    found = numbered_folders(tmp_path / "a", "runs_dir=x", "")
    assert [next(found) for _ in range(3)] == [
        (tmp_path / "a", False),
        (tmp_path / "a-2", False),
        (tmp_path / "a-3", True),
    ]
    assert sorted(os.listdir(tmp_path)) == ["a", "a-2", "a-3"]
    assert os.listdir(tmp_path / "a-3") == []


def test_nobody_gets_the_new_folder_of_another(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "new" / "b", "x", ""), range(24)))
    assert {folder.name for folder in folders} == {"b"} | {f"b-{n}" for n in range(2, 25)}


@pytest.mark.parametrize("above", ["file", "file/deeper"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, above: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^runs_dir=x: (.*file is not a folder|cannot write there)"):
        new_folder(tmp_path / above / "c", "runs_dir=x", "")
