"""Commands made from functions: what is read, what is refused, and what the help says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from sppcls.cli.command import Check, command
from sppcls.cli.common import between, whole
from sppcls.cli.main import main
from sppcls.errors import ConfigError, DataError

SEEN: list[dict[str, object]] = []


def refuse_bad(value: str) -> None:
    if value == "bad":
        raise DataError(f"{value}: is bad")


@dataclass(kw_only=True)
class Base:
    """Options that two groups share.

    Args:
        device: where, 100 % of it
    """

    device: str = "auto"


@dataclass(kw_only=True)
class Group(Base):
    """A group of options.

    Args:
        workers: processes
    """

    workers: Annotated[int, whole(0)] = 2


@command
def run(
    first: Annotated[str, Check(refuse_bad)],
    more: tuple[Path, ...] = (),
    *,
    with_: Annotated[tuple[str, ...], Check(refuse_bad)] = (),
    rate: Annotated[float, between(0, 1)] = 0.25,
    kind: Literal["a", "b"] = "a",
    out: Path | None = None,
    config_dir: str,
    on: bool = False,
    group: Group,
) -> int:
    """Do a thing.

    In some way.

    Args:
        first (FIRST): the first word
        more (WORD): further words
        with_ (FILE): others
        rate (R): how fast
        kind: which one
        out (FILE): where to (stdout)
        config_dir (-cd DIR): a folder, of which
            two lines tell
        on: switch it on

    notes:
      laid out by hand
    """
    SEEN.append(dict(locals()))
    return 3


def test_words_become_arguments() -> None:
    SEEN.clear()
    words = [
        "x",
        "-cd",
        "D",
        "y",
        "--rate",
        "0.5",
        "--with",
        "p",
        "q",
        "--on",
        "--workers",
        "0",
        "--kind",
        "b",
    ]
    assert run([*words, "--out", "o", "z"]) == 3
    assert run(["x", "--config-dir", "D"]) == 3
    assert [
        {
            "first": "x", "more": (Path("y"), Path("z")), "with_": ("p", "q"), "rate": 0.5, "kind": "b", "out": Path("o"),
            "config_dir": "D", "on": True, "group": Group(workers=0),
        },
        {
            "first": "x", "more": (), "with_": (), "rate": 0.25, "kind": "a", "out": None, "config_dir": "D", "on": False,
            "group": Group(device="auto", workers=2),
        },
    ] == SEEN  # fmt: skip


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "--config-dir/-cd: missing"),
        (["-cd", "D"], "FIRST: missing"),
        (["x"], "--config-dir/-cd: missing"),
        (["x", "-cd"], "--config-dir/-cd: needs a value"),
        (["x", "-cd", "D", "--rate", "1"], "--rate 1: must be a number between 0 and 1"),
        (
            ["x", "-cd", "D", "--workers", "-1"],
            "--workers -1: must be a whole number of at least 0",
        ),
        (
            ["x", "-cd", "D", "--workers", "1.5"],
            "--workers 1.5: must be a whole number of at least 0",
        ),
        (["x", "-cd", "D", "--kind", "c"], "--kind c: choose from a, b; see"),
        (["x", "-cd", "D", "--work", "1"], "--work: unknown option (did you mean '--workers'?)"),
        (["--confg-dir=D"], "--confg-dir: unknown option (did you mean '--config-dir'?)"),
        (["x", "-cd", "D", "--xyz", "1"], "--xyz: unknown option; see"),
    ],
)
def test_wrong_words_are_one_line_that_names_the_command(words: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run(words)
    text = str(caught.value)
    assert line in text
    assert text.startswith("sppcls ")
    assert text.endswith("--help")
    assert "\n" not in text


@pytest.mark.parametrize("words", [["bad"], ["x", "--with", "good", "bad"]])
def test_checks_come_after_the_reading(words: list[str]) -> None:
    with pytest.raises(DataError, match="^bad: is bad$"):
        run([*words, "-cd", "D"])
    with pytest.raises(ConfigError, match="--slip: unknown option"):
        run([*words, "-cd", "D", "--slip"])


def test_the_help_is_the_docstring(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as caught:
        run(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    words = " ".join(text.split()).replace(
        "--config-dir, -cd DIR", "--config-dir DIR, -cd DIR"
    )  # Python 3.13
    assert "FIRST [WORD ...] --config-dir DIR [options]\n\nDo a thing.\n\nIn some way.\n\n" in text
    assert "Args:" not in text
    for row in (
        "FIRST the first word", "--with FILE [FILE ...] others", "--rate R how fast (0.25)", "--kind {a,b} which one (a)",
        "--out FILE where to (stdout)", "--config-dir DIR, -cd DIR a folder, of which two lines tell",
        "--on switch it on", "--device DEVICE where, 100 % of it (auto)", "--workers WORKERS processes (2)",
    ):  # fmt: skip
        assert row in words
    assert text.endswith("notes:\n  laid out by hand\n")


@pytest.mark.parametrize("verb", ["sizes", "lr", "train"])
def test_of_two_places_the_last_one_counts_in_every_command_as_in_training(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in {
        "data=shapes --data /nope": "data.root=/nope: no such folder",
        "data.root=/one --data=/two": "data.root=/two: no such folder",
        "--data /two data.root=/one": "data.root=/one: no such folder",
        "--data": "--data: name a folder of photos, or a data set such as shapes",
    }.items():
        assert main([verb, *words.split()]) == 1
        assert capsys.readouterr().err == f"sppcls: error: {said}\n"
