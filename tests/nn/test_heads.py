from __future__ import annotations

import pytest
import torch
from torch import nn

from sppcls.nn import ConvHead, FCHead


def test_fc_head_by_hand() -> None:
    head = FCHead(10, [7, 5], 3).eval()
    x = torch.randn(4, 10)
    (fc6, _, _), (fc7, _, _) = head.hidden
    six = (x @ fc6.weight.T + fc6.bias).clamp(min=0)
    seven = (six @ fc7.weight.T + fc7.bias).clamp(min=0)
    logits = seven @ head.last.weight.T + head.last.bias  # type: ignore[operator, union-attr]
    activations = head.activations(x)
    assert list(activations) == ["fc6", "fc7", "logits"]
    for name, expected in zip(activations, (six, seven, logits), strict=True):
        torch.testing.assert_close(activations[name], expected)
    torch.testing.assert_close(head(x), logits)


@pytest.mark.parametrize("hidden", [[], [6], [6, 5, 4, 3]])
def test_any_number_of_hidden_layers(hidden: list[int]) -> None:
    head = FCHead(10, hidden, 3)
    assert [name for name, _ in head.hidden.named_children()] == [f"fc{6 + i}" for i in range(len(hidden))]
    assert [m.out_features for m in head.modules() if isinstance(m, nn.Linear)] == [*hidden, 3]
    assert head(torch.zeros(2, 10)).shape == (2, 3)


def test_dropout_is_on_every_hidden_layer_while_training() -> None:
    head = FCHead(10, [4000, 4000], 3, dropout=0.5)
    rates = [m.p for m in head.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5, 0.5]
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.ones_(layer.weight)
    six = head.activations(torch.ones(1, 10))["fc6"]
    assert 0.45 < (six == 0).float().mean() < 0.55


def test_conv_head_has_dropout_too() -> None:
    head = ConvHead(3, [400, 400], 2, dropout=0.25)
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.25, 0.25]
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
    six = head.activations(torch.ones(1, 3, 5, 5))["fc6"]
    assert 0.2 < (six == 0).float().mean() < 0.3
    assert (head.eval().activations(torch.ones(1, 3, 5, 5))["fc6"] > 0).all()


def test_conv_head_is_the_fc_head_at_each_position() -> None:
    conv, linear = ConvHead(6, [5, 4], 3).eval(), FCHead(6, [5, 4], 3).eval()
    for to, source in zip(linear.parameters(), conv.parameters(), strict=True):
        to.data = source.data.reshape(to.shape)
    x = torch.randn(2, 6, 7, 5)
    positions = linear(x.permute(0, 2, 3, 1).reshape(-1, 6)).reshape(2, 35, 3)
    torch.testing.assert_close(conv(x), positions.mean(1))
    torch.testing.assert_close(conv.logits_map(x).flatten(2).mT, positions)
    activations = conv.activations(x)
    assert list(activations) == ["fc6", "fc7", "logits"]
    torch.testing.assert_close(activations["logits"], conv(x))
