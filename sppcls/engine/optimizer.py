"""Parameter groups and the optimiser that the config names."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import nn

from sppcls.config.parts import values_of
from sppcls.config.schema_training import OptimizerConfig
from sppcls.errors import ConfigError
from sppcls.nn.parts import parameter_groups
from sppcls.registry import build


def make_optimizer(net: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Build SGD, AdamW or one's own over the groups of :func:`sppcls.nn.parts.parameter_groups`.

    On the CPU ours are torch's fused form, which goes through memory once: the same weights, several times as fast.
    Every group carries ``label``, the part or layer that it is, and ``lr_scale``, its rate over the base rate
    (``optimizer.lr_factors``, ``layer_decay``, and ``bias_lr_factor`` for biases with normalisation parameters).

    A saved state that is loaded brings its running averages only; decay, momentum and the like stay those of
    ``config``, and the form stays the one that suits this device.
    """
    other_decay = config.weight_decay if config.decay_norm_and_bias else 0.0
    groups = []
    for group in parameter_groups(net, config.lr_factors, config.layer_decay):
        scale, decay, label = group.scale, config.weight_decay, group.name
        if group.vectors:
            scale, decay, label = scale * config.bias_lr_factor, other_decay, f"{label} biases".strip()
        rate = {"lr": config.lr * scale, "lr_scale": scale}
        groups.append({"params": group.parameters, "weight_decay": decay, **rate, "label": label})
    # Elsewhere torch chooses; with 16-mixed precision a fused step would leave no place for gradient clipping.
    fused = True if all(p.device.type == "cpu" for p in net.parameters()) else None
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
        optimizer.register_step_pre_hook(_begin_momentum)
    else:
        betas = (config.betas[0], config.betas[1])
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=fused)
    keys = None if own is None else {*own, "lr_scale", "label"}
    optimizer.register_load_state_dict_pre_hook(partial(_with_own_settings, keys=keys))
    return optimizer


def _begin_momentum(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Give weights that were frozen so far the momentum of zero that the first step of a group begins with.

    Torch's fused form fails where only some weights of a group have none.
    """
    for group in optimizer.param_groups:
        trained = [parameter for parameter in group["params"] if parameter.requires_grad]
        late = [p for p in trained if optimizer.state.get(p, {}).get("momentum_buffer") is None]
        if group["momentum"] and 0 < len(late) < len(trained):
            for parameter in late:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


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
