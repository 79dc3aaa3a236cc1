"""What an error of other people's code says, as part of one line of ours."""

from __future__ import annotations

import sys
from pathlib import Path


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


def reason_with_line(error: BaseException) -> str:
    """An exception of other people's code in one line, with the line of theirs that raised it.

    Returns:
        ``KeyError: 'x' (parts.py, line 7)``; without the line if none of their code took part.
    """
    reason = " ".join(str(error).split()) or "no reason given"
    _, line = own_line(error)
    return f"{type(error).__name__}: {reason}{line and f' ({line})'}"


def own_line(error: BaseException) -> tuple[str, str]:
    """The innermost function that took part in an exception and belongs neither to sppcls nor to a library.

    Returns:
        ``package.module.Class.method`` and ``parts.py, line 7``; both empty if there is none.
    """
    function = line = ""
    trace = error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__", ""))
        if not code.co_filename.startswith("<") and module.partition(".")[0] not in _LIBRARIES:
            function = f"{module}.{code.co_qualname}"
            line = f"{Path(code.co_filename).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return function, line


# Where a part's own mistakes only come to light.
_LIBRARIES = {"sppcls", "torch", "torchvision", "numpy", "PIL", "pytorch_lightning", "lightning_fabric", "lightning_utilities",
              "hydra", "omegaconf", "torchmetrics", "tensorboard", "timm", *sys.stdlib_module_names} - {"__main__"}  # fmt: skip
