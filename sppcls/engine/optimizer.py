"""Parameter groups and the optimiser that the config names."""

from __future__ import annotations

import torch
from torch import nn

from sppcls.config import OptimizerConfig


def make_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build SGD or AdamW over at most two groups: weights, and biases with normalisation parameters.

    On the CPU it is torch's fused form, which goes through memory once: the same weights, several times as fast.
    Every group carries ``lr_scale``, its rate over the base rate (``optimizer.bias_lr_factor`` for the second).
    """
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in net.parameters():
        if parameter.requires_grad:
            # Biases, and scale and shift of normalisation layers, are the vectors; everything else is a weight.
            (others if parameter.ndim <= 1 else weights).append(parameter)
    other_decay = config.weight_decay if config.decay_norm_and_bias else 0.0
    groups = [
        {"params": weights, "weight_decay": config.weight_decay, "lr_scale": 1.0, "lr": config.lr},
        {
            "params": others,
            "weight_decay": other_decay,
            "lr_scale": config.bias_lr_factor,
            "lr": config.lr * config.bias_lr_factor,
        },
    ]
    groups = [group for group in groups if group["params"]]
    # Elsewhere torch chooses; with 16-mixed precision a fused step would leave no place for gradient clipping.
    fused = True if all(p.device.type == "cpu" for p in [*weights, *others]) else None
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused
        )
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), fused=fused)
