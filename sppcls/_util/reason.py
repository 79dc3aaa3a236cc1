"""What another package's error says, as part of one line of ours."""

from __future__ import annotations


def reason_of(error: BaseException | str, most: int | None = None, *, first_line: bool = False) -> str:
    """The text of an error in one line; the name of its type if it has none.

    Args:
        error: an error, or the part of its text that is of use.
        most: characters of it that are kept; None: all.
        first_line: leave out what follows the first line that is not blank, such as pages of advice.
    """
    text = str(error)
    if first_line:
        text = next((line for line in text.splitlines() if line.strip()), "")
    named = "" if isinstance(error, str) else type(error).__name__
    return (" ".join(text.split()) or named)[:most]
