"""Parameter groups and the optimiser that the config names."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import nn

from sppcls.config.parts import values_of
from sppcls.config.schema import OptimizerConfig
from sppcls.errors import ConfigError
from sppcls.registry import build


def make_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build SGD, AdamW or one's own over at most two groups: weights, and biases with normalisation parameters.

    On the CPU ours are torch's fused form, which goes through memory once: the same weights, several times as fast.
    Every group carries ``lr_scale``, its rate over the base rate (``optimizer.bias_lr_factor`` for the second).

    A saved state that is loaded brings its running averages only; decay, momentum and the like stay those of
    ``config``, and the form stays the one that suits this device.
    """
    weights, others = _weights_and_others(net)
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
    optimizer: torch.optim.Optimizer
    if (own := values_of(config)) is not None:
        optimizer = build("optimizer", own, params=groups)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(
                f"optimizer: {own['name']} gives a {type(optimizer).__name__}, not a torch Optimizer"
            )
    elif config.name == "sgd":
        optimizer = torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused
        )
    else:
        betas = (config.betas[0], config.betas[1])
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=fused)
    keys = None if own is None else {*own, "lr_scale"}
    optimizer.register_load_state_dict_pre_hook(partial(_with_own_settings, keys=keys))
    return optimizer


def _with_own_settings(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], keys: Collection[str] | None
) -> dict[str, Any]:
    """A saved state with the settings of the optimiser that loads it: torch would take the saved ones.

    Of one's own these are ``keys``; what else its groups hold may be its state.
    """
    groups = []
    for own, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        settings = own if keys is None else {key: value for key, value in own.items() if key in keys}
        kept = {} if keys is None else saved
        groups.append({**kept, **settings, "params": saved["params"]})
    return {**state, "param_groups": groups}


def parameter_groups(net: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each group of :func:`make_optimizer`."""
    return [group for group in _weights_and_others(net) if group]


def _weights_and_others(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in net.parameters():
        if parameter.requires_grad:
            # Biases, and scale and shift of normalisation layers, are the vectors; everything else is a weight.
            (others if parameter.ndim <= 1 else weights).append(parameter)
    return weights, others
