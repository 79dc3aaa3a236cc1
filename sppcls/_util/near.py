"""Which of the words that are allowed was meant by one that is not."""

from __future__ import annotations

from collections.abc import Iterable

# How alike two words have to be (difflib's ratio): optimzer and optimizer are (0.94), labels and levels are not (0.67).
ALIKE = 0.75


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The choice that ``word`` is a slip of, or the only one that begins with it; None if none is near."""
    from difflib import get_close_matches  # takes milliseconds, and only mistakes need it

    known = list(choices)
    begun = [choice for choice in known if choice.startswith(word)] if len(word.lstrip("-")) > 2 else []
    near = get_close_matches(word, known, n=1, cutoff=ALIKE) or (begun if len(begun) == 1 else [])
    return near[0] if near else None


def suggest(word: str, choices: Iterable[str]) -> str:
    """``" (did you mean 'levels'?)"`` or nothing."""
    close = closest(word, choices)
    return f" (did you mean {close!r}?)" if close else ""


def choose_from(word: object, choices: Iterable[object]) -> str:
    """``"choose from levels, mode (did you mean 'levels'?)"``, for a word that is none of the choices."""
    known = [str(choice) for choice in choices]
    return f"choose from {', '.join(known)}{suggest(str(word), known)}"
