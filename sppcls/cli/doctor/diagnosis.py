"""One line of the report, and the report."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

from sppcls._util.console import one_line

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Diagnosis:
    """What was found about one thing.

    Attributes:
        level: ``problem``: a run would stop, or its figures would be wrong; ``note``: it works, but worth knowing.
        topic: what was looked at, one word.
        text: what was found.
        do: what to do about it.
    """

    level: Level
    topic: str
    text: str
    do: str = ""


ok = partial(Diagnosis, "ok")
note = partial(Diagnosis, "note")
problem = partial(Diagnosis, "problem")


def as_text(findings: Sequence[Diagnosis], columns: int) -> str:
    """Aligned lines of at most ``columns`` characters, and how many of each level there are."""
    width = max(len(finding.topic) for finding in findings)
    lines: list[str] = []
    for finding in findings:
        head = f"{finding.level:<9}{finding.topic:<{width + 2}}"
        lines += _wrapped(finding.text, head, " " * len(head), columns)
        if finding.do:
            lines += _wrapped(finding.do, " " * len(head) + "-> ", " " * (len(head) + 3), columns)
    problems, notes = (sum(f.level == level for f in findings) for level in ("problem", "note"))
    lines.append(f"\n{_number(problems, 'problem')}, {_number(notes, 'note')}.")
    return "\n".join(lines)


def as_json(findings: Sequence[Diagnosis], **more: Any) -> str:
    """An object with ``findings`` (level, topic, text, do), ``problems`` (their number) and ``more``."""
    problems = sum(finding.level == "problem" for finding in findings)
    return json.dumps({**more, "problems": problems, "findings": [asdict(f) for f in findings]}, indent=1)


def _wrapped(text: str, first: str, others: str, columns: int) -> list[str]:
    return textwrap.wrap(
        one_line(text),
        max(columns, len(first) + 30),
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
    )


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"
