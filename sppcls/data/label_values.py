"""What people write of an image's labels: one name, several between signs, or a 0 or 1 for each class."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

SEPARATORS = "|;"
"""What stands between the labels of an image where nobody says what."""

MULTI_LABEL = {None: None, True: SEPARATORS, False: None, "comma": ",", "space": " "}
"""What ``data.multi_label`` may be, and the signs that then stand between labels."""

_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def flag(value: Any) -> bool | None:
    """Whether a value says yes or no; None of any other value."""
    return _FLAGS.get(str(value).strip().casefold())


def parts(text: str, separators: str) -> list[str]:
    """The labels in a text; each sign in ``separators`` stands between two."""
    return [part for part in (p.strip() for p in re.split(f"[{re.escape(separators)}]", text)) if part]


def several_in(texts: Iterable[str]) -> bool:
    """Whether ``|`` or ``;`` stands between labels, as far as the texts show it: one of the labels also occurs in another
    text, alone or beside another one. So a class whose name has such a sign is none of it."""
    whole: dict[str, set[str]] = {}
    for text in {text.strip() for text in texts}:
        for part in parts(text, SEPARATORS):
            whole.setdefault(part, set()).add(text)
    return any(len(found) > 1 and any(part != text for text in found) for part, found in whole.items())
