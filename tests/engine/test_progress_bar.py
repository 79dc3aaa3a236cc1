"""The progress bar of a training on a narrow terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from sppcls import compose, train


def test_the_bar_counts_epochs_as_the_lines_do_and_is_whole_on_80_columns(
    tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"COLUMNS": "80", "LINES": "24"}.items():  # tqdm's, where there is no terminal
        monkeypatch.setenv(name, value)
    words = ["trainer.max_epochs=1", "sizes.kind=single", "sizes.sizes=[72]", "log.progress=bar"]
    train(compose(tiny(*words)))
    drawn = re.split(r"[\r\n]", capsys.readouterr().out)
    whole = r"epoch 1/1 \|.+\| 3/3 \[.*, size=72, loss=\d\.\d{3}, top-1 error=\d+\.\d %\]"
    assert any(re.match(whole, line) for line in drawn), drawn
    assert not [line for line in drawn if re.match(r"Epoch 0.* [1-3]/3 ", line)], "Lightning counts from 0"
