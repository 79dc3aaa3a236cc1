"""Which tests ``python tests/lower_bounds.py`` runs."""

from __future__ import annotations

import pytest
from lower_bounds import FAST, pytest_words


@pytest.mark.parametrize("words", [[], ["-x"], ["-k", "spp"], ["-n", "2"], ["-k", "docs"], ["-k", ""]])
def test_options_and_their_values_narrow_the_fast_tests(words: list[str]) -> None:
    assert pytest_words(words) == [*FAST, *words]


@pytest.mark.parametrize(
    "words", [["tests/nn"], ["-k", "spp", "./tests"], ["tests/test_cli.py::test_x", "-x"]]
)
def test_places_replace_them(words: list[str]) -> None:
    assert pytest_words(words) == words
