"""Errors of other packages in one line."""

from __future__ import annotations

from sppcls._util.reason import reason_of


def test_an_error_is_one_line_whatever_it_says() -> None:
    error = ValueError("\n  first \t line\r\n\nsecond")
    assert reason_of(error) == "first line second"
    assert reason_of(error, 7) == "first l"
    assert reason_of(error, first_line=True) == "first line"
    assert reason_of(str(error)) == "first line second"


def test_an_error_without_words_is_named_by_its_type() -> None:
    assert reason_of(KeyError()) == "KeyError"
    assert reason_of(OSError("\n \n"), first_line=True) == "OSError"
    assert reason_of("") == ""
