"""Help texts laid out for the terminal at hand."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from itertools import takewhile

_WIDEST = 118  # longer lines are hard to read
_LEAST = 30  # columns for a meaning beside its label


def help_columns() -> int:
    """Columns of a help text: the terminal's, but at most 118."""
    return min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)


def laid_out(text: str, columns: int | None = None) -> str:
    """Paragraphs filled to the terminal's width; the indented lines of a paragraph are rows of a table.

    A row is ``label  meaning``, with two blanks between them; lines that are indented further continue it.
    """
    width = help_columns() if columns is None else columns
    paragraphs = []
    for paragraph in filter(None, text.strip("\n").split("\n\n")):
        lines = paragraph.splitlines()
        head = list(takewhile(lambda line: not line.startswith(" "), lines))
        shown = textwrap.wrap(" ".join(head), width, break_on_hyphens=False, break_long_words=False)
        paragraphs.append("\n".join([*shown, *_rows(lines[len(head) :], width)]))
    return "\n\n".join(paragraphs)


def _rows(lines: Sequence[str], width: int) -> list[str]:
    rows: list[tuple[str, str]] = []
    for line in lines:
        if rows and _indent(line) > _indent(lines[0]):
            label, meaning = rows.pop()
            rows.append((label, f"{meaning} {line.strip()}"))
        else:
            label, _, meaning = line.strip().partition("  ")
            rows.append((label, meaning.strip()))
    return aligned(rows, width)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def aligned(rows: Sequence[tuple[str, str]], width: int, gap: int = 3) -> list[str]:
    """Labels with their meanings in a column beside them, or below them where too little room is left."""
    label_width = max((len(label) for label, meaning in rows if meaning), default=0)
    beside = 2 + label_width + gap + _LEAST <= width
    lines = []
    for label, meaning in rows:
        first = f"  {label:<{label_width + gap}}" if meaning and beside else f"  {label}"
        start = " " * (2 + label_width + gap if beside else 6)
        if not (meaning and beside):
            lines.append(first)
            first = start
        lines += textwrap.wrap(
            meaning,
            width,
            initial_indent=first,
            subsequent_indent=start,
            break_on_hyphens=False,
            break_long_words=False,
        )
    return lines
