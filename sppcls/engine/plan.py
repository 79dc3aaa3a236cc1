"""What a config would do, epoch by epoch: ``sppcls sizes``."""

from __future__ import annotations

import math

from sppcls._util.console import one_line, table
from sppcls.config.build import build_network, check_batch, check_size, load_sources, make_datamodule
from sppcls.config.parts import values_of
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config
from sppcls.data.sizes import size_label
from sppcls.engine.fine_tuning import prepare_network
from sppcls.engine.learning_rate import LearningRate
from sppcls.engine.summary import swa_rate_line, untested_classes_line, unused_sizes_line
from sppcls.nn import Pyramid
from sppcls.runs.folder import pyramid_label


def plan(config: Config) -> str:
    """Two tables: size, batch, steps and learning rate of every epoch; map and bins of every level at each size.

    For one device. The rate of ``scheduler=paper`` depends on the errors to come; its start is shown.

    Raises:
        SppclsError: as training would.
    """
    splits = load_sources(config)
    train_source = splits.train
    check_batch(config, len(train_source), devices=1)
    schedule = size_schedule(config)
    sampler = make_datamodule(config, schedule, train_source, splits.val).batch_sampler()
    batches = min(len(sampler), config.trainer.limit_train_batches or len(sampler))
    steps = math.ceil(batches / config.trainer.accumulate_grad_batches)
    epochs = config.trainer.max_epochs
    rates = LearningRate(config.optimizer.lr, config.scheduler)
    rows = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        counts = [len(batch) for _, batch in zip(range(batches), sampler, strict=False)]
        sizes = sorted({schedule.at(epoch, step) for step in range(batches)})
        size = size_label(sizes[0]) if len(sizes) == 1 else f"{size_label(sizes[0])}..{size_label(sizes[-1])}"
        low, high = min(counts), max(counts)
        batch = low if low == high else f"{low}..{high}"
        rate = rates.at(epoch * steps, steps, epochs)
        rows.append((epoch + 1, size, batch, batches, sum(counts), f"{rate:.3g}"))
    text = table(rows, ["epoch", "size", "batch", "steps", "images", "lr at start"])
    if splits.found:
        lines = [splits.found, *(f"warning: {warning}" for warning in splits.warnings)]
        text = "\n".join([*map(one_line, lines), "", text])
    if splits.test is not None:
        text += f"\n\n{len(splits.test):,} test images are tested once, after training."
    if line := untested_classes_line(splits):
        text += f"\n{line}"
    if config.scheduler.name == "paper":
        text += (
            f"\n\nThe rate is multiplied by {config.scheduler.factor:g} when val/top1_error has not fallen for more "
            f"than {config.scheduler.patience} epochs, {config.scheduler.max_drops} times."
        )
    for warning in filter(None, (unused_sizes_line(config, schedule), swa_rate_line(config))):
        text += f"\n\n{warning}"
    return text + "\n\n" + _bins(config, train_source.classes)


def _bins(config: Config, classes: list[str]) -> str:
    net = build_network(config, len(classes))
    prepare_network(net, config, classes, resumed=False)
    schedule = size_schedule(config)
    rows = []
    for size in schedule.training_sizes:
        check_size(net, size)
        height, width = net.backbone.feature_size(*size)
        start = [size_label(size), f"{height} x {width}"]
        if values_of(config.pyramid) is not None:
            rows.append([*start, pyramid_label(config), "", "", ""])
        elif config.pyramid.levels is None and config.head.name == "conv":
            rows.append([*start, "none", "", "", ""])
        elif config.pyramid.levels is None:
            pooled = net.backbone.pooled_size(*size)
            rows.append([*start, "last pooling", f"{pooled[0]} x {pooled[1]}", "", ""])
        else:
            pyramid = Pyramid(config.pyramid.levels)
            ranges = pyramid.cell_ranges((height, width), config.pyramid.bin_rule)
            seen = pyramid.coverage((height, width), config.pyramid.bin_rule)
            for (down, across), (of_rows, of_columns), share in zip(
                pyramid.levels, ranges, seen, strict=True
            ):
                cells = f"{_span(of_rows)} x {_span(of_columns)}"
                rows.append([*start, f"{down} x {across}", str(down * across), cells, f"{100 * share:.0f} %"])
    return table(rows, ["size", "map", "level", "bins", "cells per bin", "map covered"])


def _span(ranges: list[tuple[int, int]]) -> str:
    lengths = sorted({end - start for start, end in ranges})
    return str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]}-{lengths[-1]}"
