"""Suggestions for words that were mistyped: only what is close."""

from __future__ import annotations

import pytest

from sppcls._util.near import choose_from, closest, suggest


@pytest.mark.parametrize(
    ("word", "choices", "meant"),
    [
        ("evalute", ["evaluate", "explain"], "evaluate"),
        ("optimzer", ["augment", "optimizer"], "optimizer"),
        ("labels", ["levels", "mode"], None),  # common letters make no slip
        ("eval", ["evaluate", "ensemble"], "evaluate"),  # the one that begins so
        ("exp", ["explain", "export"], None),  # which of them?
        ("ev", ["evaluate"], None),  # too short to mean anything
        ("--fo", ["--format"], None),
        ("", ["evaluate"], None),
    ],
)
def test_the_closest_word_is_close(word: str, choices: list[str], meant: str | None) -> None:
    assert closest(word, choices) == meant
    assert suggest(word, choices) == (f" (did you mean {meant!r}?)" if meant else "")


def test_what_may_be_chosen_comes_before_what_was_meant() -> None:
    assert choose_from("tets", ("val", "test")) == "choose from val, test (did you mean 'test'?)"
    assert choose_from(3, (18, 21)) == "choose from 18, 21"
