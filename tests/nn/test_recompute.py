"""Gradient checkpointing beside the plain backbone: the same numbers, with less kept for the gradient."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from sppcls.nn import Backbone, as_backbone, timm_trunk, torchvision_trunk, zf5
from sppcls.nn.recompute import recompute_backbone

TRUNKS = {
    "zf5 with batch norm": lambda: zf5(0.125, "batch"),
    "zf5 with LRN": lambda: zf5(0.125),
    "resnet18": lambda: torchvision_trunk("resnet18"),
    "vgg11": lambda: torchvision_trunk("vgg11"),
    "mobilenet": lambda: torchvision_trunk("mobilenet_v3_small"),
    "convnext with dropped blocks": lambda: torchvision_trunk("convnext_tiny", drop_path_rate=0.5),
}


def step(trunk: Backbone, x: Tensor) -> tuple[Tensor, list[Tensor], int]:
    """The map of a training step, the gradients, and the bytes that were kept for them outside of blocks."""
    kept: list[int] = []

    def keep(value: Tensor) -> Tensor:
        kept.append(value.numel() * value.element_size())
        return value

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        map_ = trunk.train()(x)
    map_.square().mean().backward()
    return map_, [parameter.grad for parameter in trunk.parameters()], sum(kept)


@pytest.mark.parametrize("name", TRUNKS)
def test_map_gradients_and_statistics_are_the_same_bit_for_bit(name: str) -> None:
    torch.manual_seed(0)
    plain = TRUNKS[name]()
    saving = copy.deepcopy(plain)
    recompute_backbone(saving)
    assert len(saving.segments) > 3
    assert list(saving.state_dict()) == list(plain.state_dict())
    x = torch.randn(4, 3, 64, 64)
    for _ in range(2):
        (map_, gradients, kept), (other, others, less) = step(plain, x), step(saving, x)
        assert torch.equal(map_, other)
        assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
        assert less < kept / 2
    assert all(torch.equal(value, saving.state_dict()[key]) for key, value in plain.state_dict().items())
    assert torch.equal(plain.eval()(x), saving.eval()(x))


def test_timms_networks_do_it_in_their_own_way_and_not_with_batch_norm() -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    plain = timm_trunk("convnext_atto")
    saving = copy.deepcopy(plain)
    recompute_backbone(saving)
    x = torch.randn(2, 3, 64, 64)
    (map_, gradients, kept), (other, others, less) = step(plain, x), step(saving, x)
    assert torch.equal(map_, other)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))
    assert less < kept
    with pytest.raises(ValueError, match="timm would count each batch twice in the batch norm of resnet10t"):
        recompute_backbone(timm_trunk("resnet10t"))


def test_layers_that_are_no_sequence_are_refused() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    with pytest.raises(ValueError, match="gradient_checkpointing=true: the layers of Own are no sequence"):
        recompute_backbone(as_backbone(Own()))
