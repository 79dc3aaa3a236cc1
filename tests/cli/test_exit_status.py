"""Every slip ends with one line and exit status 1, in every command."""

from __future__ import annotations

import pytest

from sppcls.cli.detect import VERBS
from sppcls.cli.main import COMMANDS, main

EVERY = [[name] for name in COMMANDS if name != "detect"] + [["detect", verb] for verb in VERBS]


@pytest.mark.parametrize(
    "words",
    [
        ["--treshold", "3"],
        ["--treshold=3", "predict", "CKPT"],
        ["predikt"],
        ["detect", "--treshold", "3"],
        ["detect", "tran"],
        *([*words, "--treshold", "3"] for words in EVERY),
        *([name, "foo.bar=1"] for name in ("train", "sizes", "lr")),
        *([name, "/none"] for name in ("evaluate", "compare", "board", "export", "features")),
        ["train", "--data", "/none"],
        ["shards", "/none", "/none2"],
        ["predict", "/none", "/none.jpg"],
        ["compare", "/none", "--format", "pdf"],
    ],
    ids=" ".join,
)
def test_a_slip_is_one_line_and_status_1(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("sppcls: error: ")
    if any("--treshold" in word for word in words):
        assert "--treshold: unknown option" in err
        assert "=3:" not in err
        assert "choose from" not in err


def test_nothing_typed_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["detect"]) == 1
    assert "usage: sppcls <command>" in capsys.readouterr().out
