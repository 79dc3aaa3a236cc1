"""``result.json``: what came out of a run, by names such as ``val_224/top1_error``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sppcls._util.files import read_json, write_json
from sppcls.runs.names import RESULT, figure_names


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write ``result.json``, the sign of a finished run, atomically."""
    write_json(folder / RESULT, result)


def read_result(folder: Path) -> dict[str, Any] | None:
    """What :func:`write_result` wrote, or a version before it; None if training has not finished there."""
    found = read_json(folder / RESULT)
    return None if found is None else _upgraded_result(found)


def _upgraded_result(found: dict[str, Any]) -> dict[str, Any]:
    """Version 0.1 wrote ``{"last": {"224": {"top1_error": ...}}}``: the same by the names that figures have since."""
    last = found.get("last")
    if not isinstance(last, dict) or not any(isinstance(figures, dict) for figures in last.values()):
        return found
    main = found.get("main_size") or next(iter(last))

    def named(group: Any, images: str) -> dict[str, Any]:
        names = {
            name if name in last else f"{name}_{main}": value for name, value in dict(group or {}).items()
        }
        figures = {name: value for name, value in names.items() if isinstance(value, dict)}
        epoch = {"epoch": group["epoch"]} if group and "epoch" in group else {}
        return epoch | figure_names(figures, images)

    test = found.get("test") or {}
    images = {"last": "test", "best": "test_best"}
    return {
        **found,
        **{key: named(found.get(key), "val") for key in ("last", "best", "protocols") if key in found},
        **({"test": {w: named(test[w], images[w]) for w in images if w in test}} if test else {}),
    }
