"""What can be refused before a run begins: devices, batches, sizes, protocols."""

from __future__ import annotations

import os
import sys

import torch

from sppcls._util.allocator import allow_many_files
from sppcls._util.figures import FIGURES, MULTI_LABEL, ONE_LABEL, Kind
from sppcls.config.build import (
    batch_bytes,
    build_network,
    check_batch,
    check_size,
    load_sources,
    sampler_weights,
    val_sizes,
)
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config, as_dict
from sppcls.data import Size, SizeSchedule, Source, Splits
from sppcls.data.balance import PLAIN, class_counts
from sppcls.data.label_sets import is_multi_label, label_set_count
from sppcls.data.stream import check_shared_memory
from sppcls.detection.run import check_run
from sppcls.engine.fine_tuning import prepare_network
from sppcls.engine.logger import check_loggers
from sppcls.engine.losses import make_loss
from sppcls.errors import ConfigError
from sppcls.evaluation import Protocol, load_protocols
from sppcls.nn import SPPClassifier
from sppcls.runs.folder import own_checkpoints


class RunChecks:
    """What training would refuse at its start, for one config after another.

    Images are looked at once for all configs that take the same, and a network is built once for neighbours that
    share it.

    Args:
        on_this_machine: whether the runs will be on this machine, so that its devices are what they will have.
    """

    def __init__(self, on_this_machine: bool = True) -> None:
        self.on_this_machine = on_this_machine
        self._sources: dict[str, Splits] = {}
        self._net: tuple[str, SPPClassifier] | None = None

    def check(self, config: Config) -> Kind:
        """What will be counted of the images; raises the SppclsError that :func:`sppcls.train` would raise before it trains."""
        check_loggers(config)
        if config.detection.checkpoint is not None:
            check_run(config, self.on_this_machine)
            return ONE_LABEL
        schedule = size_schedule(config)
        devices = device_count(config) if self.on_this_machine else 1
        if self.on_this_machine:
            check_loaders(config, schedule)
        data = {k: v for k, v in as_dict(config)["data"].items() if k not in ("batch_size", "val_batch_size")}
        key = str(data)
        if key not in self._sources:
            self._sources[key] = load_sources(config)
        train_source = self._sources[key].train
        check_batch(config, len(train_source), devices)
        check_classes(config, train_source)
        sizes = val_sizes(config, schedule)
        parts = as_dict(config)
        resumed = (
            bool(own_checkpoints(config)) if config.ckpt_path == "auto" else config.ckpt_path is not None
        )
        tuning = (config.init_from, config.freeze, config.optimizer.lr_factors)
        made_of = [parts[part] for part in ("backbone", "pyramid", "head")]
        made_of += [
            schedule.largest,
            train_source.classes,
            resumed,
            tuning,
            config.trainer.gradient_checkpointing,
        ]
        key = str(made_of)
        if self._net is None or self._net[0] != key:
            net = build_network(config, len(train_source.classes), resumed)
            prepare_network(net, config, train_source.classes, resumed)
            self._net = (key, net)
        fitting_protocols(config, self._net[1], schedule, sizes)
        return MULTI_LABEL if is_multi_label(train_source) else ONE_LABEL


def check_classes(config: Config, train: Source) -> None:
    """Raise ConfigError for a sampler, a loss or a figure of the best epoch that does not fit the classes."""
    number = len(train.classes)
    _check_kind(config, train)
    if config.best_by == "top5_error" and number <= 5:
        raise ConfigError(
            f"best_by=top5_error: is always 0 with {number} classes, so no epoch is better than the first; "
            "choose top1_error or class_mean_error"
        )
    sampler_weights(config, train)
    counts = class_counts(train.targets, len(train.classes))
    make_loss(config, train.classes, counts, images=label_set_count(train))


def _check_kind(config: Config, train: Source) -> None:
    """Raise ConfigError for what does not go with as many labels as the images have."""
    several = is_multi_label(train)
    kind = MULTI_LABEL if several else ONE_LABEL
    if kind.best_by(config.best_by) not in kind.validation:
        have = "several labels" if several else "one label each"
        raise ConfigError(
            f"best_by={config.best_by}: the images have {have}; choose from {', '.join(kind.validation)}"
        )
    known = {*kind.validation, *kind.training}
    for name, values in config.callbacks.items():
        monitor = str((values or {}).get("monitor"))
        if monitor.rpartition("/")[2] in FIGURES.keys() - known:
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor}: is not measured on these images; type callbacks.{name}.monitor=val/{kind.main}"
            )
    if several and config.data.sampler != PLAIN:
        raise ConfigError(
            f"data.sampler={config.data.sampler}: the images have several labels, so no order draws all classes alike; "
            "type data.sampler=plain loss.class_weights=balanced"
        )


def check_loaders(config: Config, schedule: SizeSchedule) -> None:
    """Raise DataError if not a single batch of a loader process would fit into the shared memory; and make sure that
    enough files may be opened."""
    if config.data.workers:
        allow_many_files()
        check_shared_memory(batch_bytes(config, schedule))


def accelerator_of(config: Config) -> str:
    """``cpu`` or ``gpu``; raises ConfigError for a GPU that is not there and for precision it alone has."""
    name = config.trainer.accelerator
    if name == "auto":
        name = "gpu" if torch.cuda.is_available() else "cpu"
    if name == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu: torch sees no GPU here; choose cpu or auto")
    if config.trainer.precision == "16-mixed" and name == "cpu":
        raise ConfigError("trainer.precision=16-mixed: needs a GPU; on a CPU choose bf16-mixed or 32-true")
    return name


def fitting_protocols(
    config: Config, net: SPPClassifier, schedule: SizeSchedule, sizes: list[Size]
) -> list[Protocol]:
    """The protocols asked for, after a look at whether the network can see all that the config wants to show it."""
    for size in {*schedule.training_sizes, *sizes}:
        check_size(net, size)
    protocols = [protocol.at(sizes[0]) for protocol in load_protocols(config.evaluation.protocols or [])]
    for protocol in protocols:
        protocol.check_fits(net)
    return protocols


def device_count(config: Config) -> int:
    """Devices that a run would use here, on all machines together.

    Raises:
        ConfigError: it asks for a GPU that is not there.
    """
    accelerator = accelerator_of(config)
    devices = config.trainer.devices
    there = torch.cuda.device_count() if accelerator == "gpu" else 1
    if accelerator == "cpu" and isinstance(devices, list):
        raise ConfigError(
            f"trainer.devices={devices}: numbers of GPUs, and this run is on a CPU; give how many"
        )
    if devices == "auto":
        count = there
    else:
        count, highest = (len(devices), max(devices)) if isinstance(devices, list) else (devices, devices - 1)
        # torchrun may let each process see a GPU of its own only.
        apart = there == 1 and "TORCHELASTIC_RUN_ID" in os.environ
        if accelerator == "gpu" and not apart and highest >= there:
            raise ConfigError(
                f"trainer.devices={devices}: torch sees {there} GPU(s) here; choose at most {there}, or numbers below"
            )
    processes = count * config.trainer.num_nodes
    # Lightning's own condition: other processes cannot be started from the cells of a notebook.
    if hasattr(sys, "ps1") and (config.trainer.strategy == "ddp" or processes > 1):
        raise ConfigError(
            f"trainer.strategy={config.trainer.strategy} on {processes} device(s): cannot run in a notebook or an "
            "interactive Python; train in a terminal, or type trainer.strategy=auto trainer.devices=1"
        )
    return processes
