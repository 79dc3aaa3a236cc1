"""What a checkpoint says of its network, and what a run resumes from: whether they have the shape that their readers count on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from sppcls._util.figures import KINDS
from sppcls.config.schema import Config
from sppcls.registry import TARGET

_GROUPS = [spec.name for spec in dataclasses.fields(Config) if spec.default is dataclasses.MISSING]

# What the optimizers keep of each parameter.
_SLOTS = {"sgd": {"momentum_buffer"}, "adamw": {"step", "exp_avg", "exp_avg_sq"}}


def _fits(value: Any, shape: Any) -> bool:
    """Whether a value has a shape: a type; a function that says so; ``[shape]``, a list of such; or a dict, whose keys have to
    be there with values of their shapes."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(k in value and _fits(value[k], s) for k, s in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(one, shape[0]) for one in value)
    return isinstance(value, shape) if isinstance(shape, type) else bool(shape(value))


def _several(shape: Any, length: int | None = None) -> Callable[[Any], bool]:
    """A list or tuple of ``length``, or of any length but 0."""

    def is_so(value: Any) -> bool:
        if not isinstance(value, list | tuple) or len(value) != (length or max(1, len(value))):
            return False
        return all(_fits(one, shape) for one in value)

    return is_so


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_colours(value: Any) -> bool:
    return _several(_is_number, 3)(value) and all(math.isfinite(v) and abs(v) <= 1 for v in value)


def _are_results(value: Any) -> bool:
    """``val_results`` of a run: sizes to figures by name; none before the first validation."""
    return isinstance(value, dict) and all(
        isinstance(size, str)
        and isinstance(figures, dict)
        and any({"loss", kind.main, kind.beside} <= figures.keys() for kind in KINDS)
        and all(map(_is_number, figures.values()))
        for size, figures in value.items()
    )


def _is_best(value: Any) -> bool:
    """``best`` of a run: None before the first validation."""
    return value is None or (
        _fits(value, {"epoch": _is_whole, "val_results": _are_results})
        and any(_is_number(value.get(kind.main)) for kind in KINDS)
    )


def _is_plain(value: Any, most: int = 10_000, deepest: int = 10) -> bool:
    """Whether a value is what a config is made of, and of its size: a file may hold a list within itself."""
    waiting = [(value, 0)]
    for seen in range(most):
        if not waiting:
            return True
        inner, depth = waiting.pop()
        if isinstance(inner, dict):
            if depth == deepest or not all(isinstance(name, str) for name in inner):
                return False
            parts = list(inner.values())
        elif isinstance(inner, list | tuple):
            if depth == deepest:
                return False
            parts = list(inner)
        elif inner is None or isinstance(inner, str | int | float):
            continue
        else:
            return False
        if len(waiting) + len(parts) > most - seen:
            return False
        waiting += [(part, depth + 1) for part in parts]
    return not waiting


_SIZE = _several(_is_count, 2)

_MODEL_INFO = {
    "architecture": {
        **dict.fromkeys(("backbone", "pyramid", "head"), dict), "input_size": _SIZE, "num_classes": _is_count,
    },
    "classes": [str],
    "mean": _are_colours,
    "std": lambda value: _are_colours(value) and min(value) > 0,
    "train_sizes": _several(_SIZE),
    "val_sizes": _several(_SIZE),
    "config": lambda value: _is_plain(value) and _fits(value, dict) and all(
        isinstance(value.get(group, {}), dict) for group in _GROUPS
    ),
}  # fmt: skip

# What a run that is resumed has to know of itself, besides what Lightning keeps.
_PROGRESS: dict[str, Any] = {
    "plateau": {"drops": _is_whole, "waited": _is_whole, "best": _is_number},
    "images_seen": _is_whole,
    "best": _is_best,
    "val_results": _are_results,
    "bad_images": [str],
    "train_counts": _several(_is_number, 5),
    "epoch_length": _several(_is_count, 2),
    "pixels_seen": _is_whole,
    "train_seconds": _is_number,
}
PROGRESS = set(_PROGRESS)

# What Lightning keeps. Of what is missing in its loops, it would begin at zero and not say so.
_CURRENT = {"ready": int, "completed": int}
_LOOPS = {
    "fit_loop": {
        "epoch_progress": {"current": {**_CURRENT, "processed": int}},
        "epoch_loop.batch_progress": {"current": _CURRENT, "is_last_batch": int},
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {"step": {"total": {"completed": int}}}
        },
        "epoch_loop.state_dict": {"_batches_that_stepped": int},
    }
}
_LIGHTNINGS = {
    "epoch": _is_whole,
    "global_step": _is_whole,
    "pytorch-lightning_version": str,
    "lr_schedulers": lambda value: value == [],
    "loops": lambda value: _is_plain(value) and _are_counts(value) and _fits(value, _LOOPS),
}


def model_info_problem(checkpoint: dict[str, Any]) -> str | None:
    """What is wrong with ``"sppcls"`` and ``"state_dict"`` of a checkpoint; None if nothing is.

    A file may come from anywhere, so each value is looked at before it is used.
    """
    model_info, weights = checkpoint["sppcls"], checkpoint["state_dict"]
    missing = _MODEL_INFO.keys() - model_info.keys()
    if missing:
        return f"incomplete; it lacks {', '.join(sorted(missing))}"
    architecture = model_info["architecture"]
    wrong = [name for name, shape in _MODEL_INFO.items() if not _fits(model_info[name], shape)]
    if not _is_plain(architecture):
        wrong.insert(0, "architecture")
    if not wrong and len(model_info["classes"]) != architecture["num_classes"]:
        wrong.append("classes")
    if not isinstance(model_info.get("multi_label", False), bool):
        wrong.append("multi_label")
    if wrong:
        return f"damaged: {wrong[0]} is not as sppcls writes it"
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        return "damaged: state_dict is not a mapping from names to tensors"
    return None


def resume_problem(checkpoint: dict[str, Any]) -> str | None:
    """Why a checkpoint that :func:`model_info_problem` has passed is nothing that a run can resume from; None if it is."""
    progress = checkpoint.get("sppcls_progress", {})
    missing = {"sppcls_progress", "optimizer_states", *_LIGHTNINGS} - checkpoint.keys()
    if not missing and isinstance(progress, dict):
        missing = PROGRESS - progress.keys()
    if missing:
        return (
            f"can be used but not resumed: it lacks {', '.join(sorted(missing))}, "
            "as another version of sppcls, or another program, wrote it"
        )
    config = checkpoint["sppcls"]["config"]
    chosen = config.get("optimizer", {})
    optimizer, own = chosen.get("name"), TARGET in chosen
    slots = None if own else _SLOTS.get(str(optimizer), set())
    good = {
        "sppcls_progress": _fits(progress, _PROGRESS),
        **{name: _fits(checkpoint[name], shape) for name, shape in _LIGHTNINGS.items()},
        "config.ema": isinstance(config.get("ema", {}).get("enabled"), bool),
        "config.optimizer": isinstance(optimizer, str) and (own or optimizer in _SLOTS),
        "optimizer_states": _are_optimizer_states(checkpoint["optimizer_states"], slots),
    }
    wrong = [name for name in good if not good[name]]
    return f"damaged: {wrong[0]} is not as sppcls writes it" if wrong else None


def _are_optimizer_states(value: Any, slots: set[str] | None) -> bool:
    """Whether a value is the state of one optimiser that keeps ``slots`` of a parameter; None: whatever it keeps."""
    if not _fits(value, [{"param_groups": [{"params": list}], "state": dict}]) or len(value) != 1:
        return False
    numbers = [number for group in value[0]["param_groups"] for number in group["params"]]

    def is_state(kept: Any) -> bool:
        # Of a parameter that has not been updated yet, or without momentum, nothing is kept.
        if slots is None or not isinstance(kept, dict) or not kept:
            return isinstance(kept, dict)
        tensors = all(isinstance(slot, Tensor) and slot.is_floating_point() for slot in kept.values())
        return kept.keys() == slots and tensors

    return numbers == list(range(len(numbers))) and all(
        number in range(len(numbers)) and is_state(kept) for number, kept in value[0]["state"].items()
    )


def _are_counts(value: Any) -> bool:
    """Whether plain values are dicts, down to whole numbers and switches."""
    if isinstance(value, dict):
        return all(map(_are_counts, value.values()))
    return isinstance(value, int) and value >= 0
