"""The gradient's norm and the learning rate of every group, step by step."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


class GradientNorm(Callback):
    """Logs ``step/gradient_norm`` (before clipping), and ``step_lr/GROUP`` where groups have rates of their own.

    Args:
        every: optimiser steps between two points.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        if not trainer.is_global_zero or trainer.global_step % self.every:
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        figures: dict[str, Any] = {"step/gradient_norm": float(torch.nn.utils.get_total_norm(gradients))}
        groups = optimizer.param_groups
        if any(group.get("lr_scale", 1.0) != 1.0 for group in groups):
            figures |= {f"step_lr/{group['label'] or 'weights'}": group["lr"] for group in groups}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step + 1)  # as the loss of this step
