"""What a training is made of: what a run and a test of learning rates have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from sppcls.config.build import (
    build_network,
    check_batch,
    load_sources,
    make_caches,
    make_datamodule,
    val_sizes,
)
from sppcls.config.schedule import size_schedule
from sppcls.config.schema import Config
from sppcls.data.datamodule import ImageDataModule
from sppcls.engine.build import make_module
from sppcls.engine.fine_tuning import prepare_network
from sppcls.engine.given import Given
from sppcls.engine.module import ClassificationModule
from sppcls.engine.preflight import accelerator_of, check_classes, check_loaders, fitting_protocols


class Parts:
    """The parts that a config names, checked. Nothing is written but the cache of images.

    Args:
        config: of the training.
        devices: that it has, on all machines together.
        given: what a person's program has made by hand.
        classes: those of the checkpoint that the training goes on from; None of a new one.

    Attributes:
        tuning: rows of the start table on where the weights come from and which are trained.
        protocols: those asked for, at the main validation size.

    Raises:
        SppclsError: it cannot be trained.
    """

    def __init__(
        self, config: Config, devices: int, given: Given | None = None, classes: Sequence[str] | None = None
    ) -> None:
        given = given or Given()
        self.config, self.devices = config, devices
        self.schedule = size_schedule(config)
        self.accelerator = accelerator_of(config)
        check_loaders(config, self.schedule)
        self.val_sizes = val_sizes(config, self.schedule)
        self.splits = load_sources(config, classes, given.splits)
        train, val = self.splits.train, self.splits.val
        check_batch(config, len(train), devices)
        check_classes(config, train)
        pl.seed_everything(config.seed, verbose=False)
        resumed = classes is not None
        self.net = given.checked_net(len(train.classes), self.schedule.largest) or build_network(
            config, len(train.classes), resumed
        )
        self.tuning = prepare_network(self.net, config, train.classes, resumed)
        self.protocols = fitting_protocols(config, self.net, self.schedule, self.val_sizes)
        self.caches = make_caches(config, self.schedule, train, val)

    def module(self, model_info: dict[str, Any]) -> ClassificationModule:
        """The module that trains; ``model_info`` is what it stores in checkpoints."""
        net = self.net.to(memory_format=torch.channels_last)
        return make_module(
            self.config,
            net,
            self.schedule,
            self.splits.train,
            val_sizes=self.val_sizes,
            model_info=model_info,
        )

    def datamodule(self) -> ImageDataModule:
        """The loaders."""
        train, val, test = self.splits[:3]
        return make_datamodule(self.config, self.schedule, train, val, self.caches, test)

    def trainer_options(self) -> dict[str, Any]:
        """What Lightning's Trainer is told of every training."""
        options = self.config.trainer
        return {
            "max_epochs": options.max_epochs,
            "accelerator": self.accelerator,
            "precision": options.precision,
            "accumulate_grad_batches": options.accumulate_grad_batches,
            "gradient_clip_val": options.gradient_clip_norm,
            "deterministic": options.deterministic,
            "use_distributed_sampler": False,
            "enable_model_summary": False,
        }
