"""The optimiser's fast form on the CPU beside the update rules written down."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from killing import equal
from torch import nn

from sppcls import compose
from sppcls.config.schema_training import OptimizerConfig
from sppcls.engine.optimizer import make_optimizer


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(45, 7)).double()


def gradients(net: nn.Module, step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in net.parameters()]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_the_rule_with_momentum_and_decay(net: nn.Module, nesterov: bool) -> None:
    config = replace(
        compose([]).optimizer, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov, bias_lr_factor=2.0
    )
    optimizer = make_optimizer(net, config)
    expected = [p.detach().clone() for p in net.parameters()]
    velocity = [torch.zeros_like(p) for p in expected]
    for step in range(4):
        for i, (parameter, grad) in enumerate(zip(net.parameters(), gradients(net, step), strict=True)):
            parameter.grad = grad
            vector = expected[i].ndim == 1
            decayed = grad + (0.01 * expected[i] if not vector or config.decay_norm_and_bias else 0)
            velocity[i] = 0.9 * velocity[i] + decayed
            update = decayed + 0.9 * velocity[i] if nesterov else velocity[i]
            expected[i] = expected[i] - (0.2 if vector else 0.1) * update
        optimizer.step()
    for parameter, value in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-12, atol=1e-12)


def test_adamw_is_the_rule_with_decoupled_decay(net: nn.Module) -> None:
    config = replace(compose(["optimizer=adamw"]).optimizer, lr=0.01, weight_decay=0.1, betas=[0.9, 0.99])
    optimizer = make_optimizer(net, config)
    expected = [p.detach().clone() for p in net.parameters()]
    first, second = ([torch.zeros_like(p) for p in expected] for _ in range(2))
    for step in range(4):
        for i, (parameter, grad) in enumerate(zip(net.parameters(), gradients(net, step), strict=True)):
            parameter.grad = grad
            vector = expected[i].ndim == 1
            rate = 0.01 * (config.bias_lr_factor if vector else 1)
            decay = 0.1 if not vector or config.decay_norm_and_bias else 0.0
            first[i] = 0.9 * first[i] + 0.1 * grad
            second[i] = 0.99 * second[i] + 0.01 * grad**2
            mean, variance = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - 0.99 ** (step + 1))
            expected[i] = expected[i] * (1 - rate * decay) - rate * mean / (variance.sqrt() + 1e-8)
        optimizer.step()
    for parameter, value in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value, rtol=1e-10, atol=1e-12)


def test_on_the_cpu_it_is_the_fused_form(net: nn.Module) -> None:
    for name in ("sgd", "adamw"):
        optimizer = make_optimizer(net, compose([f"optimizer={name}"]).optimizer)
        assert all(group["fused"] for group in optimizer.param_groups)


OTHER_VALUES = {
    "weight_decay": 0.123,
    "momentum": 0.5,
    "nesterov": True,
    "betas": [0.5, 0.75],
    "decay_norm_and_bias": False,
    "bias_lr_factor": 3.0,
    "lr": 0.2,
}


def trained(net: nn.Module, config: OptimizerConfig, steps: int = 2) -> torch.optim.Optimizer:
    optimizer = make_optimizer(net, config)
    for step in range(steps):
        for parameter, grad in zip(net.parameters(), gradients(net, step), strict=True):
            parameter.grad = grad
        optimizer.step()
    return optimizer


@pytest.mark.parametrize(("name", "keys"), [
    ("sgd", ["weight_decay", "momentum", "nesterov", "decay_norm_and_bias", "bias_lr_factor", "lr"]),
    ("adamw", ["weight_decay", "betas", "bias_lr_factor", "lr"]),
])  # fmt: skip
def test_a_saved_state_brings_its_averages_and_no_settings(
    net: nn.Module, name: str, keys: list[str]
) -> None:
    old = compose([f"optimizer={name}"]).optimizer
    saved = trained(net, old).state_dict()
    before = copy.deepcopy(saved)
    for key in keys:
        config = replace(old, **{key: OTHER_VALUES[key]})
        resumed, fresh = make_optimizer(net, config), make_optimizer(net, config)
        resumed.load_state_dict(saved)
        for group, expected in zip(resumed.param_groups, fresh.param_groups, strict=True):
            assert {k: v for k, v in group.items() if k != "params"} == {
                k: v for k, v in expected.items() if k != "params"
            }, key
        assert resumed.state_dict()["param_groups"] != saved["param_groups"], key
        assert equal(resumed.state_dict()["state"], before["state"])
    assert equal(saved, before)  # a checkpoint in hand is not changed
    same = make_optimizer(net, old)
    same.load_state_dict(saved)
    assert equal(same.state_dict(), before)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_state_saved_on_another_device_is_used_in_the_form_of_this_one(net: nn.Module, name: str) -> None:
    config = compose([f"optimizer={name}"]).optimizer
    saved = trained(net, config).state_dict()
    for group in saved["param_groups"]:
        group["fused"] = None  # as on a GPU
    optimizer = make_optimizer(net, config)
    optimizer.load_state_dict(saved)
    assert all(group["fused"] is True for group in optimizer.param_groups)
