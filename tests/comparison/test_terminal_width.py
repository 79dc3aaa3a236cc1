"""Tables on a terminal: no line of one is wider than it, and nothing is lost without a word."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from written_runs import misses, write_run

from sppcls._util.console import table
from sppcls.cli.main import main


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        write_run(folder / f"a{seed}", right=misses(100, *range(20 + seed)), seed=seed)
        write_run(
            folder / f"b{seed}",
            right=misses(100, *range(30)),
            seed=seed,
            sizes__sizes=[96, 64],
            sizes__kind="alternate",
        )
    return folder


def blocks_of(text: str) -> list[list[str]]:
    """The tables in a text: runs of lines around a rule of dashes, without the titles above them."""
    paragraphs = [paragraph.splitlines() for paragraph in text.split("\n\n")]
    found = []
    for lines in paragraphs:
        rules = [i for i, line in enumerate(lines) if re.fullmatch("-[- ]+", line)]
        found += [lines[i - 1 :] for i in rules]
    return found


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_tables_fit_the_terminal(runs: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["compare", str(runs)]) == 0
    blocks = blocks_of(screen.getvalue())
    assert blocks
    assert all(len(line) <= width for block in blocks for line in block)
    names = {name for block in blocks for name in re.split("  +", block[0])}
    rest = re.search(r"In the report, too: (.+)\.\n", screen.getvalue())
    named = set(rest[1].split(", ")) if rest else set()
    # The columns of the same table in a file, which has all of them.
    monkeypatch.setattr(sys, "stdout", file := io.StringIO())
    assert main(["compare", str(runs)]) == 0
    whole = {name for block in blocks_of(file.getvalue()) for name in re.split("  +", block[0])}
    assert len(whole) > 10
    assert names | named == whole
    assert not names & named


def test_a_table_is_folded_by_whole_columns() -> None:
    rows = [["a", "12345", "x", "1"], ["bb", "1", "yy", "22"]]
    assert table(rows, ["id", "n", "text", "m"], columns=13) == (
        "id      n\n--  -----\na   12345\nbb      1\n\n"
        "id  text   m\n--  ----  --\na   x      1\nbb  yy    22"
    )  # fmt: skip
    assert table(rows, ["id", "n", "text", "m"], columns=1).count("id") == 3
    assert table(rows, ["id", "n", "text", "m"]).count("id") == 1
