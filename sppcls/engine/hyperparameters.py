"""The row of a run on TensorBoard's HParams page."""

from __future__ import annotations

from typing import Any

from sppcls.config.choices import choice_of
from sppcls.config.parts import PARTS, values_of
from sppcls.config.schema import Config
from sppcls.engine.summary import head_label
from sppcls.nn import Pyramid
from sppcls.registry import DOORS, TARGET
from sppcls.runs.folder import backbone_label, pyramid_label, sizes_label


def hyperparameters(config: Config, devices: int) -> dict[str, Any]:
    """The HParams row: what people vary, as numbers and short text."""
    own = {group: values for group in PARTS if (values := values_of(getattr(config, group))) is not None}
    levels, width, norm = config.pyramid.levels, config.backbone.width, config.backbone.norm
    parameters = {
        f"{group}.{name}": value
        for group, values in own.items()
        for name, value in values.items()
        if name not in (*DOORS[group].shared, DOORS[group].name_key, TARGET)
        and isinstance(value, int | float | str)
    }
    return {
        "data": config.data.name,
        "sizes": sizes_label(config),
        "pyramid": pyramid_label(config),
        "bins": Pyramid(levels).bins if levels and "pyramid" not in own else 0,
        "bin_rule": config.pyramid.bin_rule,
        "pool": pyramid_label(config) if "pyramid" in own else config.pyramid.mode,
        "backbone": backbone_label(config),
        "width": 1.0 if width is None or "backbone" in own else width,
        "norm": norm if norm is not None and "backbone" not in own else "own",
        "pretrained": config.backbone.weights is not None or config.init_from is not None,
        "frozen": ",".join(config.freeze) or "none",
        "head": head_label(config),
        "dropout": 0.0 if "head" in own else config.head.dropout,
        "augment": choice_of(config, "augment") or config.augment.crop,
        "optimizer": config.optimizer.name,
        "lr": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "scheduler": config.scheduler.name,
        "batch_size": config.data.batch_size * devices * config.trainer.accumulate_grad_batches,
        "epochs": config.trainer.max_epochs,
        "label_smoothing": config.mix.label_smoothing,
        "mixup": config.mix.mixup,
        "cutmix": config.mix.cutmix,
        "ema": config.ema.enabled,
        "swa": config.swa.enabled,
        "init": config.init,
        "precision": config.trainer.precision,
        "seed": config.seed,
        **parameters,
    }
