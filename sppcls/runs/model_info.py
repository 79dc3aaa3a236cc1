"""What a checkpoint says of its network, and what a run resumes from: whether they have the shape that their readers count on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from torch import Tensor

from sppcls._util.figures import KINDS
from sppcls.config.schema import Config
from sppcls.registry import TARGET

_GROUPS = [spec.name for spec in dataclasses.fields(Config) if spec.default is dataclasses.MISSING]

# What a run that is resumed has to know of itself, besides what Lightning keeps.
PROGRESS = {"plateau", "images_seen", "best", "val_results", "bad_images", "train_counts", "epoch_length",
            "pixels_seen", "train_seconds"}  # fmt: skip
_NEEDED = {"sppcls_progress", "epoch", "global_step", "loops", "optimizer_states", "lr_schedulers",
           "pytorch-lightning_version"}  # fmt: skip

# What the optimizers keep of each parameter.
_SLOTS = {"sgd": {"momentum_buffer"}, "adamw": {"step", "exp_avg", "exp_avg_sq"}}


def model_info_problem(checkpoint: dict[str, Any]) -> str | None:
    """What is wrong with ``"sppcls"`` and ``"state_dict"`` of a checkpoint; None if nothing is.

    A file may come from anywhere, so each value is looked at before it is used.
    """
    model_info, weights = checkpoint["sppcls"], checkpoint["state_dict"]
    missing = {
        "architecture",
        "classes",
        "mean",
        "std",
        "train_sizes",
        "val_sizes",
        "config",
    } - model_info.keys()
    if missing:
        return f"incomplete; it lacks {', '.join(sorted(missing))}"
    config, architecture, classes = model_info["config"], model_info["architecture"], model_info["classes"]
    fits = {
        "architecture": isinstance(architecture, dict)
        and _is_plain(architecture)
        and all(isinstance(architecture.get(part), dict) for part in ("backbone", "pyramid", "head"))
        and _is_size(architecture.get("input_size"))
        and _is_count(architecture.get("num_classes")),
        "classes": isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and isinstance(architecture, dict)
        and len(classes) == architecture.get("num_classes"),
        "mean": _are_colours(model_info["mean"]),
        "std": _are_colours(model_info["std"]) and min(model_info["std"]) > 0,
        "train_sizes": _are_sizes(model_info["train_sizes"]),
        "val_sizes": _are_sizes(model_info["val_sizes"]),
        "multi_label": isinstance(model_info.get("multi_label", False), bool),
        "config": isinstance(config, dict)
        and _is_plain(config)
        and all(isinstance(config.get(group, {}), dict) for group in _GROUPS),
    }
    wrong = [name for name, good in fits.items() if not good]
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
    missing = _NEEDED - checkpoint.keys()
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
    loops = checkpoint["loops"]
    fits = {
        "sppcls_progress": _is_progress(progress),
        "epoch": _is_whole(checkpoint["epoch"]),
        "global_step": _is_whole(checkpoint["global_step"]),
        "pytorch-lightning_version": isinstance(checkpoint["pytorch-lightning_version"], str),
        "config.ema": isinstance(config.get("ema", {}).get("enabled"), bool),
        "config.optimizer": isinstance(optimizer, str) and (own or optimizer in _SLOTS),
        "optimizer_states": _are_optimizer_states(
            checkpoint["optimizer_states"], None if own else _SLOTS.get(str(optimizer), set())
        ),
        "lr_schedulers": checkpoint["lr_schedulers"] == [],
        "loops": _is_plain(loops) and _are_loops(loops),
    }
    wrong = [name for name, good in fits.items() if not good]
    return f"damaged: {wrong[0]} is not as sppcls writes it" if wrong else None


def _is_progress(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    plateau, best, bad = value["plateau"], value["best"], value["bad_images"]
    return (
        isinstance(plateau, dict)
        and _is_whole(plateau.get("drops"))
        and _is_whole(plateau.get("waited"))
        and _is_number(plateau.get("best"))
        and _is_whole(value["images_seen"])
        and _is_whole(value["pixels_seen"])
        and _is_number(value["train_seconds"])
        and _are_results(value["val_results"])
        and (
            best is None
            or (
                isinstance(best, dict)
                and _is_whole(best.get("epoch"))
                and any(_is_number(best.get(kind.main)) for kind in KINDS)
                and _are_results(best.get("val_results"))
            )
        )
        and isinstance(bad, list)
        and all(isinstance(line, str) for line in bad)
        and _are_numbers(value["train_counts"], 5)
        and _are_numbers(value["epoch_length"], 2)
        and all(map(_is_count, value["epoch_length"]))
    )


def _are_results(value: Any) -> bool:
    """``val_results`` of a run: sizes to figures by name; none before the first validation."""
    return isinstance(value, dict) and all(
        isinstance(size, str)
        and isinstance(figures, dict)
        and any({"loss", kind.main, kind.beside} <= figures.keys() for kind in KINDS)
        and all(map(_is_number, figures.values()))
        for size, figures in value.items()
    )


def _are_optimizer_states(value: Any, slots: set[str] | None) -> bool:
    """Whether a value is the state of one optimiser that keeps ``slots`` of a parameter; None: whatever it keeps."""
    if not (isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)):
        return False
    groups, state = value[0].get("param_groups"), value[0].get("state")
    if not (isinstance(groups, list) and isinstance(state, dict)):
        return False
    if not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups):
        return False
    numbers = [number for group in groups for number in group["params"]]
    # Of a parameter that has not been updated yet, or without momentum, nothing is kept.
    return numbers == list(range(len(numbers))) and all(
        number in range(len(numbers))
        and isinstance(kept, dict)
        and (
            slots is None
            or not kept
            or (
                kept.keys() == slots
                and all(isinstance(slot, Tensor) and slot.is_floating_point() for slot in kept.values())
            )
        )
        for number, kept in state.items()
    )


def _are_loops(value: Any) -> bool:
    """Whether Lightning finds its place in the run: of what is not there, it would begin at zero and not say so."""
    if not (isinstance(value, dict) and _are_counts(value) and isinstance(value.get("fit_loop"), dict)):
        return False
    for keys in (
        ("epoch_progress", "current", "ready"),
        ("epoch_progress", "current", "processed"),
        ("epoch_progress", "current", "completed"),
        ("epoch_loop.batch_progress", "current", "ready"),
        ("epoch_loop.batch_progress", "current", "completed"),
        ("epoch_loop.batch_progress", "is_last_batch"),
        ("epoch_loop.automatic_optimization.optim_progress", "optimizer", "step", "total", "completed"),
        ("epoch_loop.state_dict", "_batches_that_stepped"),
    ):
        found = value["fit_loop"]
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, int):
            return False
    return True


def _are_counts(value: Any) -> bool:
    """Whether plain values are dicts, down to whole numbers and switches."""
    if isinstance(value, dict):
        return all(map(_are_counts, value.values()))
    return isinstance(value, int) and value >= 0


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


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value > 0


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_numbers(value: Any, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length and all(map(_is_number, value))


def _is_size(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_count, value))


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(_is_size, value))


def _are_colours(value: Any) -> bool:
    return _are_numbers(value, 3) and all(math.isfinite(v) and abs(v) <= 1 for v in value)
