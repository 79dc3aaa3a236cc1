"""What a run says before it begins: the start-up table and warnings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sppcls._util.console import one_line, table
from sppcls._util.figures import FIGURES, MULTI_LABEL, guessing_map_error
from sppcls._util.processor import has_bf16_arithmetic
from sppcls.config.build import parameter_count
from sppcls.config.parts import values_of
from sppcls.config.schedule import first_averaged
from sppcls.config.schema import Config
from sppcls.data import SizeSchedule, Source, Splits, size_label
from sppcls.data.balance import class_counts
from sppcls.data.cache import ImageCache, amount
from sppcls.data.label_sets import LabelSets
from sppcls.data.names import few
from sppcls.engine.learning_rate import lr_factor
from sppcls.engine.uneven import uneven_line
from sppcls.nn import Pyramid, SPPClassifier
from sppcls.runs.folder import backbone_label, pyramid_label, sizes_label

if TYPE_CHECKING:
    from sppcls.engine.parts import Parts

_LOW_RATE = 0.1  # mean share of the base rate below which averaged weights hardly differ
_MANY = 100_000_000  # parameters; the paper's networks have fewer


def start_table(parts: Parts, folder: Path, resumed: str | None) -> str:
    """The table a run begins with; ``resumed`` is the checkpoint that it resumes from, in words."""
    config, net, schedule, splits = parts.config, parts.net, parts.schedule, parts.splits
    sizes = ", ".join(map(size_label, schedule.training_sizes))
    validated = ", ".join(map(size_label, parts.val_sizes))
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
    if parts.caches is not None:
        rows.insert(1, ("cache", _cache_label(parts.caches)))
    rows += [("pooling", line) for line in pooling_lines(config, net, schedule)]
    rows += [
        ("head", head_label(config)),
        ("parameters", f"{parameter_count(net):,}"),
        *([("", line)] if (line := large_head_line(config, net)) else []),
        *parts.tuning,
        (
            "training",
            f"{_epochs(config.trainer.max_epochs)}, {config.optimizer.name} {config.optimizer.lr:g}, "
            f"{config.scheduler.name}, batch {config.data.batch_size} x {parts.devices}"
            f"{_averaging(config)}{_limits(config)}",
        ),
        (
            "device",
            f"{device_label(parts.accelerator)}, {_precision_label(config, parts.accelerator)}, {config.data.workers} loader processes",
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


def swa_rate_line(config: Config) -> str | None:
    """A warning if the learning rate is low while weights are averaged, which then are nearly equal; else None.

    Izmailov et al. 2018 average at a constant or cyclical rate that is not low. The rate of ``scheduler=paper`` and of a
    schedule of one's own is not known beforehand.
    """
    rule, epochs = config.scheduler.name, config.trainer.max_epochs
    if not config.swa.enabled or rule not in ("cosine", "step"):
        return None
    steps = 100  # of an epoch; the shape of the rate does not depend on it
    first = first_averaged(config.swa.start, epochs)
    # The weights after the first averaged epoch are where the others start from.
    later = range((first + 1) * steps, epochs * steps)
    if not later:
        return None
    mean = sum(lr_factor(config.scheduler, step, steps, epochs) for step in later) / len(later)
    if mean >= _LOW_RATE:
        return None
    cure = "scheduler.final_factor=0.5" if rule == "cosine" else "scheduler=constant"
    return (
        f"warning: swa averages epochs {first + 1} to {epochs} at {100 * mean:.1f} % of optimizer.lr in the mean, so nearly equal weights: "
        f"{cure}"
    )


def large_head_line(config: Config, net: SPPClassifier) -> str | None:
    """What to type where the head has nearly all of very many parameters; else None."""
    total, head = parameter_count(net), sum(p.numel() for p in net.head.parameters())
    if total < _MANY or head <= 0.9 * total:
        return None
    fewer = []
    if values_of(config.head) is None and max(config.head.hidden, default=0) > 512:
        fewer.append("head.hidden=[512]")
    if values_of(config.pyramid) is None and config.pyramid.levels not in ([], [3, 2, 1]):
        fewer.append("pyramid=l321")
    advice = f"; fewer: {' or '.join(fewer)}" if fewer else ""
    return (
        f"{100 * head / total:.0f} % of them in the head; weights and gradients need {amount(8 * total)}, "
        f"and the optimizer's state as much or half of it{advice}"
    )


def guessing_error(val: Source) -> float:
    """Error in per cent of always saying the most frequent class of the validation images; of several labels of an image,
    of the same scores for every image."""
    if isinstance(val.targets, LabelSets):
        return guessing_map_error(val.targets.counts(len(val.classes)), len(val))
    return 100 * (1 - max(class_counts(val.targets, len(val.classes)), default=0) / max(1, len(val)))


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
    """The error of whoever does not look at the images."""
    if isinstance(val.targets, LabelSets):
        return (
            f"{FIGURES[MULTI_LABEL.main].words} {guessing_error(val):.1f} %, the same scores for every image"
        )
    top5 = "" if len(val.classes) > 5 else f"; no top-5 error, which is 0 with {len(val.classes)} classes"
    return f"top-1 error {guessing_error(val):.1f} %, the most frequent validation class{top5}"


def _averaging(config: Config) -> str:
    if config.swa.enabled:
        first = first_averaged(config.swa.start, config.trainer.max_epochs) + 1
        return f", weights averaged over epochs {first} to {config.trainer.max_epochs}"
    return ", moving average of the weights" if config.ema.enabled else ""


def _shorten(classes: list[str], most: int = 8) -> str:
    text = ", ".join(map(one_line, classes[:most]))
    return f"{len(classes)}: {text}" + (", ..." if len(classes) > most else "")
