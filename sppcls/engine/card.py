"""The card of a checkpoint: whether it has the shape that everything which reads it counts on."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor


def card_problem(checkpoint: dict[str, Any]) -> str | None:
    """What is wrong with ``"sppcls"`` and ``"state_dict"`` of a checkpoint; None if nothing is.

    A file may come from anywhere, so each value is looked at before it is used.
    """
    card, weights = checkpoint["sppcls"], checkpoint["state_dict"]
    missing = {"architecture", "classes", "mean", "std", "train_sizes", "val_sizes", "config"} - card.keys()
    if missing:
        return f"incomplete; it lacks {', '.join(sorted(missing))}"
    config, architecture, classes = card["config"], card["architecture"], card["classes"]
    fits = {
        "architecture": isinstance(architecture, dict)
        and all(isinstance(architecture.get(part), dict) for part in ("backbone", "pyramid", "head"))
        and _is_size(architecture.get("input_size"))
        and _is_count(architecture.get("num_classes")),
        "classes": isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and isinstance(architecture, dict)
        and len(classes) == architecture.get("num_classes"),
        "mean": _are_colours(card["mean"]),
        "std": _are_colours(card["std"]) and min(card["std"]) > 0,
        "train_sizes": _are_sizes(card["train_sizes"]),
        "val_sizes": _are_sizes(card["val_sizes"]),
        "config": isinstance(config, dict)
        and all(isinstance(name, str) for name in config)
        and all(isinstance(config.get(group, {}), dict) for group in ("augment", "ema")),
    }
    wrong = [name for name, good in fits.items() if not good]
    if wrong:
        return f"damaged: {wrong[0]} is not as sppcls writes it"
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        return "damaged: state_dict is not a mapping from names to tensors"
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_size(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_count, value))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_size, value))


def _are_colours(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        and all(math.isfinite(v) and abs(v) <= 1 for v in value)
    )
