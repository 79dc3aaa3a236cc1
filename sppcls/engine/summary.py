"""What a run says about itself: the start-up table and the closing lines."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from sppcls._util.console import one_line, table
from sppcls._util.figures import FIGURES, MULTI_LABEL, Kind, guessing_map_error
from sppcls._util.processor import has_bf16_arithmetic
from sppcls._util.tensorboard import time_series
from sppcls.config.build import parameter_count
from sppcls.config.parts import values_of
from sppcls.config.schema import Config
from sppcls.data import Size, SizeSchedule, Source, Splits, size_label
from sppcls.data.balance import class_counts
from sppcls.data.cache import ImageCache, amount
from sppcls.data.label_sets import LabelSets
from sppcls.data.names import few
from sppcls.engine.module import ClassificationModule
from sppcls.engine.uneven import uneven_line
from sppcls.evaluation.class_errors import ClassError, class_mean
from sppcls.nn import Pyramid, SPPClassifier
from sppcls.runs.folder import backbone_label, pyramid_label, sizes_label
from sppcls.runs.names import BEST, LAST, SEARCH, SWEEP


def start_table(
    config: Config,
    net: SPPClassifier,
    schedule: SizeSchedule,
    val_sizes: list[Size],
    splits: Splits,
    caches: tuple[ImageCache, ImageCache] | None,
    device: tuple[str, int],
    folder: Path,
    resumed: str | None,
    tuning: list[tuple[str, str]],
) -> str:
    """The table a run begins with.

    ``device`` is (accelerator, number of devices), ``resumed`` the checkpoint that it resumes from, ``tuning`` the rows on
    where its weights come from and which are trained.
    """
    accelerator, devices = device
    sizes = ", ".join(map(size_label, schedule.training_sizes))
    validated = ", ".join(map(size_label, val_sizes))
    trunk = f"{net.backbone.out_channels} channels, stride {net.backbone.stride}"
    rows = [
        ("data", f"{config.data.name}: {_amounts(config, splits)}{_ignored(splits)}"),
        ("classes", _shorten(splits.train.classes)),
        *multi_label_rows(config, splits),
        *([("uneven", line)] if (line := uneven_line(config, splits.train)) else []),
        ("guessing", _guessing(splits.val)),
        ("sizes", f"{sizes_label(config)} ({sizes}); validated at {validated}"),
        ("backbone", f"{backbone_label(config)}, {trunk}"),
    ]
    if net.backbone.weights:
        rows.append(("weights", f"{config.backbone.weights}: {net.backbone.weights}"))
    if splits.found:
        warnings = [("warning", one_line(warning)) for warning in splits.warnings]
        rows[1:1] = [("found", one_line(splits.found)), *warnings]
    if caches is not None:
        rows.insert(1, ("cache", _cache_label(caches)))
    rows += [("pooling", line) for line in pooling_lines(config, net, schedule)]
    rows += [
        ("head", head_label(config)),
        ("parameters", f"{parameter_count(net):,}"),
        *tuning,
        (
            "training",
            f"{_epochs(config.trainer.max_epochs)}, {config.optimizer.name} {config.optimizer.lr:g}, "
            f"{config.scheduler.name}, batch {config.data.batch_size} x {devices}{_limits(config)}",
        ),
        (
            "device",
            f"{device_label(accelerator)}, {_precision_label(config, accelerator)}, {config.data.workers} loader processes",
        ),
        ("folder", str(folder)),
    ]
    if resumed is not None:
        rows.append(("resumed", resumed))
    labels = [label if i == 0 or rows[i - 1][0] != label else "" for i, (label, _) in enumerate(rows)]
    return table([(label, text) for label, (_, text) in zip(labels, rows, strict=True)]) + "\n"


def _precision_label(config: Config, accelerator: str) -> str:
    """The arithmetic, and the faster one that this processor has."""
    faster = accelerator == "cpu" and config.trainer.precision == "32-true" and has_bf16_arithmetic()
    return config.trainer.precision + (" (faster here: trainer.precision=bf16-mixed)" if faster else "")


def _limits(config: Config) -> str:
    """A key that leaves training images out, as in a trial run, and would else go unnoticed."""
    limit = config.trainer.limit_train_batches
    return "" if limit is None else f", limit_train_batches {limit}"


def validation_count(config: Config, val: Source) -> int:
    """Number of images that a run validates on: all, or what ``trainer.limit_val_batches`` leaves."""
    limit, batch = config.trainer.limit_val_batches, config.data.val_batch_size or config.data.batch_size
    return len(val) if limit is None else min(len(val), limit * batch)


def _amounts(config: Config, splits: Splits) -> str:
    """How many images there are of each split, and how many are left out of the validation."""
    used, there = validation_count(config, splits.val), len(splits.val)
    of, limited = "", ""
    if used < there:
        of, limited = f" of {there:,}", f" (limit_val_batches {config.trainer.limit_val_batches})"
    parts = [f"{len(splits.train):,} training", f"{used:,}{of} validation images{limited}"]
    if splits.test is not None:
        parts.append(f"{len(splits.test):,} test images for the end")
    return ", ".join(parts)


def untested_classes_line(splits: Splits) -> str | None:
    """A warning that names the classes without a test image; None if there are none, or there is no test split."""
    if splits.test is None:
        return None
    counts = class_counts(splits.test.targets, len(splits.test.classes))
    names = [name for name, count in zip(splits.test.classes, counts, strict=True) if not count]
    if not names:
        return None
    classes, them = ("classes", "them") if len(names) > 1 else ("class", "it")
    shown = few(list(map(one_line, names)), 8)
    return f"warning: no test image of {classes} {shown}: the test error says nothing of {them}"


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count > 1 else ''}"


def unused_sizes_line(config: Config, schedule: SizeSchedule) -> str | None:
    """A warning that names the sizes which the run ends too early to be trained on; None if it is trained on all."""
    if not schedule.never_used:
        return None
    sizes = config.sizes.sizes
    words = f"trainer.max_epochs={config.trainer.max_epochs} sizes.kind={schedule.kind} sizes.sizes={sizes}"
    words += f" sizes.period={schedule.period}" if schedule.period > 1 else ""
    return f"warning: never trained at {', '.join(map(size_label, schedule.never_used))}, too few epochs: {words}"


def closing_lines(
    config: Config,
    module: ClassificationModule,
    folder: Path,
    seconds: float,
    test: dict[str, dict[str, Any]],
    classes: list[ClassError],
) -> str:
    """Errors of the last and of the best epoch, those on the test images, images left out, and where to look.

    Args:
        config: of the run.
        module: trained.
        folder: the run's.
        seconds: that it took this time.
        test: what :class:`~sppcls.engine.callbacks.final_test.FinalTest` has found; may be empty.
        classes: errors of the classes at the main validation size; may be empty.
    """
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
    lines += _test_lines(test, kind)
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
        main = f"val_{size_label(module.val_sizes[0])}"
        address = time_series(
            [f"{main}/{kind.main}", f"train/{kind.training[1]}", f"{main}_by_images/{kind.main}"]
        )
        lines.append(f"and open    http://localhost:6006/{address}")
    return "\n".join(lines)


def _error_lines(results: dict[str, dict[str, float]], kind: Kind, by: str) -> list[str]:
    """The errors at every size, and the figure that the best epoch is chosen by."""
    shown = dict.fromkeys([kind.main, kind.beside, by])
    return [
        f"  val_{name}: "
        + ", ".join(f"{FIGURES[f].words} {figures[f]:.2f}{FIGURES[f].unit}" for f in shown if f in figures)
        for name, figures in results.items()
    ]


def _class_lines(classes: list[ClassError], size: str, kind: Kind) -> list[str]:
    """The mean error of the classes, those with the highest, and a warning for those never predicted."""
    if not classes:
        return []
    if kind is MULTI_LABEL:
        worst = sorted(classes, key=lambda found: -found.error)[:3]
        shown = ", ".join(
            f"{one_line(e.name)} {100 - e.error:.1f} % ({e.images:,} images)" for e in worst if e.error
        )
        return [f"Lowest average precision of a class at {size}: {shown or 'all 100 %'}"]
    worst = sorted(classes, key=lambda found: -found.error)[:3]
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
            lines.append(
                f"  test_{name}: {FIGURES[kind.main].words} {found[kind.main]:.2f} % (95 %: {low:.1f} to {high:.1f}), "
                f"{FIGURES[kind.beside].words} {found[kind.beside]:.2f} %"
            )
    return lines


def _guessing_line(module: ClassificationModule) -> list[str]:
    """A warning if the last error is not below that of guessing by two standard errors; else nothing."""
    last = module.state.val_results.get(size_label(module.val_sizes[0]))
    if not last or not last.get("images") or len(module.classes) < 2:
        return []
    guessing = guessing_error(module)
    # The precision of a class is a share of the images, too; that of several classes is more certain.
    margin = 2 * math.sqrt(guessing * (100 - guessing) / last["images"])
    error = module.kind.main
    if last[error] < guessing - margin:
        return []
    return [
        f"warning: the last {FIGURES[error].words}, {last[error]:.2f} %, is not clearly better than that of guessing, "
        f"{guessing:.2f} %: train longer, or try another optimizer.lr"
    ]


def guessing_error(module: ClassificationModule) -> float:
    """Error in per cent of always saying the most frequent class of the validation images; of several labels of an image,
    of the same scores for every image."""
    if module.multi_label:
        val = module.trainer.datamodule.val  # type: ignore[attr-defined]
        return guessing_map_error(val.targets.counts(len(module.classes)), len(val))
    # Empty with many classes, and zero if nothing was validated this time.
    confusion = module.mistakes.confusion
    share = 1 / len(module.classes)
    if confusion.numel() and (total := int(confusion.sum())):
        share = max(share, float(confusion.sum(1).max()) / total)
    return 100 * (1 - share)


def pooling_lines(config: Config, net: SPPClassifier, schedule: SizeSchedule) -> list[str]:
    """Per training size: feature map, pooled length, and how many cells a bin of each level covers."""
    lines = []
    for size in schedule.training_sizes:
        height, width = net.backbone.feature_size(*size)
        text = f"{size_label(size)}: map {height} x {width}"
        if values_of(config.pyramid) is not None:
            text += f" -> {pyramid_label(config)}"
        elif config.pyramid.levels is not None:
            pyramid = Pyramid(config.pyramid.levels)
            length = pyramid.output_length(net.backbone.out_channels)
            text += f" -> {pyramid.bins} bins ({pyramid_label(config)}), vector {length:,}"
            finer = pyramid.larger_than((height, width))
            if finer:
                text += f"; level {Pyramid(finer).label} is finer than the map, its bins repeat cells"
        elif config.head.name != "conv":
            pooled = net.backbone.pooled_size(*size)
            text += f" -> last pooling {pooled[0]} x {pooled[1]} (no SPP)"
        lines.append(text)
    return lines


def device_label(accelerator: str) -> str:
    """The device of this process, in words."""
    if accelerator == "gpu":
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def head_label(config: Config) -> str:
    """The head and its hidden layers, in a word."""
    if values_of(config.head) is not None:
        return config.head.name
    return f"{config.head.name} {'-'.join(map(str, config.head.hidden))}".strip()


def _cache_label(caches: tuple[ImageCache, ImageCache]) -> str:
    train, val = caches
    unreadable = train.unreadable + val.unreadable
    left_out = f"; {unreadable} unreadable images" if unreadable else ""
    sizes = f"{amount(train.bytes)} for training, {amount(val.bytes)} for validation"
    return f"{sizes} in {train.path.parent}{left_out}"


def _ignored(splits: Splits) -> str:
    """How many files beside the images are none, where there are files."""
    count = sum(getattr(source, "ignored", 0) for source in splits[:3])
    return f"; {count} other files ignored" if count else ""


def multi_label_rows(config: Config, splits: Splits) -> list[tuple[str, str]]:
    """What the start table says of images with several labels; empty where each has one."""
    sets = splits.train.targets
    if not isinstance(sets, LabelSets):
        return []
    counts = [len(labels) for labels in sets]
    none = sum(not count for count in counts)
    loss = "binary cross-entropy of each class" if values_of(config.loss) is None else config.loss.name
    return [
        (
            "labels",
            f"several an image: mean {sum(counts) / len(counts):.2f}, most {max(counts)}, none: {none:,} of {len(counts):,}",
        ),
        ("loss", f"{loss}; best epoch by {FIGURES[MULTI_LABEL.best_by(config.best_by)].words}"),
    ]


def _guessing(val: Source) -> str:
    """The error of whoever always says the most frequent class."""
    if isinstance(val.targets, LabelSets):
        error = guessing_map_error(val.targets.counts(len(val.classes)), len(val))
        return f"{FIGURES[MULTI_LABEL.main].words} {error:.1f} %, the same scores for every image"
    most = max(Counter(val.targets).values(), default=0)
    return f"top-1 error {100 * (1 - most / max(1, len(val))):.1f} %, the most frequent validation class"


def _shorten(classes: list[str], most: int = 8) -> str:
    text = ", ".join(map(one_line, classes[:most]))
    return f"{len(classes)}: {text}" + (", ..." if len(classes) > most else "")
