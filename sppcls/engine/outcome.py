"""What came out of a run: what ``train`` returns, ``result.json``, and the closing lines."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from sppcls._util.console import one_line, say
from sppcls._util.figures import FIGURES, MULTI_LABEL, Kind
from sppcls._util.tensorboard import TIME_SERIES
from sppcls._version import __version__
from sppcls.config.build import parameter_count
from sppcls.config.schema import Config
from sppcls.data import size_label
from sppcls.data.names import few
from sppcls.engine.callbacks.final_test import FinalTest
from sppcls.engine.callbacks.protocols import ProtocolErrorsAtEnd, protocol_figures
from sppcls.engine.module import ClassificationModule
from sppcls.engine.summary import device_label, guessing_error, validation_count
from sppcls.evaluation.class_errors import ClassError, class_mean, read_class_errors, write_class_errors
from sppcls.runs.folder import lacks_result
from sppcls.runs.names import BEST, CLASSES, LAST, PREDICTIONS, PREVIOUS, SEARCH, SWEEP, figure_names
from sppcls.runs.result import write_result


def outcome_of(module: ClassificationModule, folder: Path) -> dict[str, Any]:
    """What :func:`sppcls.train` returns of a trained module."""
    state, trainer = module.state, module.trainer
    outcome = {
        "folder": str(folder),
        "best_checkpoint": str(folder / BEST) if (folder / BEST).exists() else None,
        "last_checkpoint": str(folder / LAST),
        "epochs": trainer.current_epoch,
        "best": figure_names(state.best["val_results"]) if state.best else {},
        "last": figure_names(state.val_results),
    }
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ProtocolErrorsAtEnd):
            outcome["protocols"] = protocol_figures(callback.results)
        if isinstance(callback, FinalTest) and callback.figures:
            outcome["test"] = callback.named_figures()
    return outcome


def report(
    config: Config, module: ClassificationModule, outcome: dict[str, Any], accelerator: str, seconds: float
) -> None:
    """Write ``result.json`` and the errors of the classes, and say what came out.

    Args:
        config: of the run.
        module: trained.
        outcome: of :func:`outcome_of`.
        accelerator: it was trained on.
        seconds: that it took this time.
    """
    folder, main = Path(outcome["folder"]), size_label(module.val_sizes[0])
    classes = read_class_errors(folder / PREDICTIONS / f"val_{main}.npz")
    if module.state.started or lacks_result(folder, outcome["epochs"]):
        if classes:
            write_class_errors(folder / CLASSES, classes, module.multi_label)
        write_result(folder, _result(config, module, outcome, accelerator, classes))
    (folder / PREVIOUS).unlink(missing_ok=True)
    say(_closing_lines(config, module, folder, seconds, classes))


def _result(
    config: Config,
    module: ClassificationModule,
    outcome: dict[str, Any],
    accelerator: str,
    classes: list[ClassError],
) -> dict[str, Any]:
    """What ``result.json`` says."""
    state = module.state
    val = module.trainer.datamodule.val  # type: ignore[attr-defined]
    return {
        "sppcls": __version__,
        "torch": torch.__version__,
        "lightning": pl.__version__,
        "device": device_label(accelerator),
        "epochs": outcome["epochs"],
        "stopped": module.trainer.should_stop,
        "images_seen": state.images_seen,
        "pixels_seen": state.pixels_seen,
        "train_seconds": round(state.train_seconds, 3),
        "parameters": parameter_count(module.net),
        "main_size": size_label(module.val_sizes[0]),
        "best": {"epoch": state.best["epoch"], **outcome["best"]} if state.best else {},
        "last": outcome["last"],
        **_by_class(classes, module.multi_label),
        "protocols": outcome.get("protocols", {}),
        **({"test": outcome["test"]} if "test" in outcome else {}),
        "validation_images": {"used": validation_count(config, val), "of": len(val)},
        "bad_images": len(state.bad_images),
    }


def _by_class(classes: list[ClassError], multi_label: bool) -> dict[str, Any]:
    """Errors of the classes; of several labels of an image their mean is ``map_error``, which is among the figures."""
    errors = {found.name: round(found.error, 4) for found in classes}
    if multi_label:
        return {"class_ap_error": errors}
    return {"class_mean_top1_error": class_mean(classes) if classes else None, "class_top1_error": errors}


def _closing_lines(
    config: Config,
    module: ClassificationModule,
    folder: Path,
    seconds: float,
    classes: list[ClassError],
) -> str:
    """Errors of the last and of the best epoch, those on the test images, images left out, and where to look."""
    kind = module.kind
    state, epochs, by = module.state, config.trainer.max_epochs, kind.best_by(config.best_by)
    if state.started:
        early = ", where a callback stopped it" if module.trainer.should_stop else ""
        done = f"epoch {module.trainer.current_epoch} of {epochs}{early}"
        lines = [f"\nTrained to {done}; {seconds / 60:.1f} minutes this time."]
    else:
        done = (
            f"a callback stopped it after epoch {module.trainer.current_epoch}"
            if state.stopped is not None
            else (f"all {epochs} epochs were done" if epochs > 1 else "its one epoch was done")
        )
        lines = [f"\nNothing left to train: {done}. A higher trainer.max_epochs continues."]
    if state.val_results:
        last, images = module.trainer.current_epoch, next(iter(state.val_results.values()))["images"]
        lines.append(f"After the last epoch ({last}), on {images:,} validation images:")
        lines += _error_lines(state.val_results, kind, by)
    chosen = "" if by == kind.main else f" by its {FIGURES[by].words}"
    if state.best and state.best["epoch"] + 1 == module.trainer.current_epoch:
        lines.append(f"No earlier epoch was better on these images{chosen}.")
    elif state.best:
        lines.append(
            f"Best epoch: {state.best['epoch'] + 1}, chosen{chosen} on these same images, so its errors are too low:"
        )
        lines += _error_lines(state.best["val_results"], kind, by)
    for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, FinalTest):
            lines += _test_lines(callback.figures, kind)
    lines += _class_lines(classes, size_label(module.val_sizes[0]), kind)
    lines += _guessing_line(module)
    if state.bad_images:
        names = list(state.bad_images)
        lines.append(f"{len(names)} images could not be read and were left out:")
        lines += [f"  {one_line(name)}" for name in names[:10]]
        if len(names) > 10:
            everything = folder / "bad_images.txt"
            everything.write_text("\n".join(names) + "\n", encoding="utf-8", errors="replace")
            lines.append(f"  ... all of them: {everything}")
    lines.append(f"Checkpoint: {folder / (BEST if (folder / BEST).exists() else LAST)}")
    # A sweep or a search says at its end where all of its runs are to be looked at.
    alone = not any((folder.parent / file).exists() for file in (SWEEP, SEARCH))
    if "tensorboard" in config.logger and alone:
        lines.append(f"Look at it: tensorboard --logdir {shlex.quote(str(folder.parent.parent))}")
        lines.append(f"and open    {TIME_SERIES}")
    return "\n".join(lines)


def _error_lines(results: dict[str, dict[str, float]], kind: Kind, by: str) -> list[str]:
    """The errors at every size, and the figure that the best epoch is chosen by."""
    shown = dict.fromkeys([*kind.shown, by])
    return [
        f"  val_{name}: "
        + ", ".join(f"{FIGURES[f].words} {figures[f]:.2f}{FIGURES[f].unit}" for f in shown if f in figures)
        for name, figures in results.items()
    ]


def _class_lines(classes: list[ClassError], size: str, kind: Kind) -> list[str]:
    """The mean error of the classes, those with the highest, and a warning for those never predicted."""
    if not classes:
        return []
    worst = sorted(classes, key=lambda found: -found.error)[:3]
    if kind is MULTI_LABEL:
        shown = ", ".join(
            f"{one_line(e.name)} {100 - e.error:.1f} % ({e.images:,} images)" for e in worst if e.error
        )
        return [f"Lowest average precision of a class at {size}: {shown or 'all 100 %'}"]
    shown = ", ".join(f"{one_line(e.name)} {e.error:.1f} % of {e.images:,} images" for e in worst if e.error)
    lines = [
        f"Class-mean top-1 error of the last epoch at {size}: {class_mean(classes):.2f} %; highest: {shown or 'none'}"
    ]
    never = [f"{one_line(e.name)} ({e.images:,} images)" for e in classes if not e.predicted]
    if never:
        lines.append(f"warning: never predicted: {few(never, 8)}: all of their images are wrong")
    return lines


def _test_lines(test: dict[str, dict[str, Any]], kind: Kind) -> list[str]:
    lines = []
    words: dict[int, list[str]] = {}
    for weights, what in (("last", "the last"), ("best", "the best on the validation images")):
        if weights in test:
            words.setdefault(test[weights]["epoch"], []).append(what)
    figures_of = {figures["epoch"]: figures for figures in test.values()}
    for epoch, which in words.items():
        figures = {name: found for name, found in figures_of[epoch].items() if name != "epoch"}
        count = next(iter(figures.values()))["images"]
        lines.append(f"Test error ({count:,} images) of epoch {epoch + 1}, {' and '.join(which)}:")
        for name, found in figures.items():
            low, high = found[f"{kind.main.removesuffix('_error')}_interval"]
            errors = [f"{FIGURES[e].words} {found[e]:.2f} %" for e in kind.shown]
            errors[0] += f" (95 %: {low:.1f} to {high:.1f})"
            lines.append(f"  test_{name}: {', '.join(errors)}")
    return lines


def _guessing_line(module: ClassificationModule) -> list[str]:
    """A warning if the last error is not below that of guessing by two standard errors; else nothing."""
    last = module.state.val_results.get(size_label(module.val_sizes[0]))
    if not last or not last.get("images") or len(module.classes) < 2:
        return []
    guessing = guessing_error(module.trainer.datamodule.val)  # type: ignore[attr-defined]
    # The precision of a class is a share of the images, too; that of several classes is more certain.
    margin = 2 * math.sqrt(guessing * (100 - guessing) / last["images"])
    error = module.kind.main
    if last[error] < guessing - margin:
        return []
    return [
        f"warning: the last {FIGURES[error].words}, {last[error]:.2f} %, is not clearly better than that of guessing, "
        f"{guessing:.2f} %: train longer, or try another optimizer.lr"
    ]
