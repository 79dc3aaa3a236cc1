"""From a config to the module that trains."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torchvision.transforms import v2

from sppcls.config.schema import Config, MixConfig
from sppcls.data import Source
from sppcls.data.balance import class_counts
from sppcls.data.label_sets import label_set_count
from sppcls.data.sizes import Size, SizeSchedule
from sppcls.engine.learning_rate import LearningRate
from sppcls.engine.losses import make_loss
from sppcls.engine.module import ClassificationModule
from sppcls.engine.optimizer import make_optimizer


def make_module(
    config: Config,
    net: nn.Module,
    schedule: SizeSchedule,
    train: Source,
    *,
    val_sizes: list[Size],
    model_info: dict[str, Any],
) -> ClassificationModule:
    """A module with the loss, optimizer and learning rate that a config names, for the training images ``train``; for the
    other arguments see :class:`~sppcls.engine.module.ClassificationModule`.

    Raises:
        ConfigError: a part cannot be made.
    """
    classes, images = train.classes, label_set_count(train)
    loss = partial(make_loss, config, classes, class_counts(train.targets, len(classes)), images=images)
    return ClassificationModule(
        net,
        schedule,
        val_sizes=val_sizes,
        classes=classes,
        loss=loss(),
        val_loss=loss(training=False),
        multi_label=images is not None,
        optimizer=partial(make_optimizer, config=config.optimizer),
        rate=LearningRate(config.optimizer.lr, config.scheduler),
        mean=config.data.mean,
        std=config.data.std,
        mixers=_mixers(config.mix, len(classes)),
        seed=config.seed,
        model_info=model_info,
    )


def _mixers(config: MixConfig, num_classes: int) -> list[nn.Module]:
    kinds = ((v2.MixUp, config.mixup), (v2.CutMix, config.cutmix))
    return [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha]
