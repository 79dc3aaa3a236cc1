"""Help texts at any width."""

from __future__ import annotations

import contextlib

import pytest

from sppcls.cli.layout import laid_out
from sppcls.cli.main import COMMANDS, main

TEXT = """\
A paragraph of two
lines.

examples:
  run --fast           do it
  run                  do it slowly, with
    care
  a command without a meaning

The end.
"""


def test_rows_stand_beside_or_below_their_labels() -> None:
    assert laid_out(TEXT, 60) == (
        "A paragraph of two lines.\n\n"
        "examples:\n"
        "  run --fast   do it\n"
        "  run          do it slowly, with care\n"
        "  a command without a meaning\n\n"
        "The end."
    )
    assert laid_out(TEXT, 40).splitlines()[2:8] == [
        "examples:", "  run --fast", "      do it", "  run", "      do it slowly, with care",
        "  a command without a meaning",
    ]  # fmt: skip


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("train", "detect")])
def test_every_help_fits_the_terminal(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    # What is typed stays on one line.
    wide = [line for line in text.splitlines() if len(line) > columns and not line.startswith("  sppcls ")]
    assert wide == []
    assert "\nexamples:\n  sppcls " in text


def test_help_before_the_command_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help", "search"], ["search", "--help"], ["help", "detect"], ["detect", "--help"]):
        assert main(words) == 0
    first, second = capsys.readouterr().out.split("usage: sppcls detect")[:2]
    assert first.count("usage: sppcls search") == 2
    assert second
    assert main(["help", "serch"]) == 1
    assert "did you mean 'search'?" in capsys.readouterr().err


def test_the_list_of_commands_fits_a_small_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["detect", "--help"]):
        assert main(words) == 0
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
