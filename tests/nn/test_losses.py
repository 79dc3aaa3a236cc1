"""Losses for uneven classes against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import sppcls
from sppcls.engine.losses import make_loss
from sppcls.errors import ConfigError
from sppcls.nn.losses import LogitAdjusted

CLASSES, COUNTS = ["daisy", "roses", "tulips"], [60, 30, 10]


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 3, generator=generator), torch.randint(3, (20,), generator=generator)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_logits_are_raised_by_the_log_frequency_in_training_alone(tau: float) -> None:
    logits, target = data()
    raised = logits.double().numpy() + tau * np.log(np.array(COUNTS) / 100)
    expected = -log_softmax(raised)[np.arange(20), target.numpy()]
    loss = LogitAdjusted(COUNTS, tau)
    assert loss(logits, target).numpy() == pytest.approx(expected, rel=1e-5)
    plain = F.cross_entropy(logits, target, reduction="none")
    assert torch.equal(loss.eval()(logits, target), plain)


def test_the_best_constant_answer_is_the_same_for_all_classes() -> None:
    """Without any image to look at, the loss is lowest where all classes are equally likely, as eq. 10 wants it."""
    logits = torch.zeros(3, requires_grad=True)
    target = torch.arange(3).repeat_interleave(torch.tensor(COUNTS))
    LogitAdjusted(COUNTS)(logits.expand(100, 3), target).mean().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_multiply_the_loss_of_each_image(smoothing: float) -> None:
    logits, target = data()
    words = ["loss.class_weights={tulips: 3, daisy: 0.5}", f"mix.label_smoothing={smoothing}"]
    config = sppcls.compose(words)
    weights = np.array([0.5, 1, 3])
    logs = log_softmax(logits.double().numpy())
    shares = np.full((20, 3), smoothing / 3)
    shares[np.arange(20), target.numpy()] += 1 - smoothing
    expected = -(weights * shares * logs).sum(1)
    loss = make_loss(config, CLASSES, COUNTS)
    assert loss(logits, target).numpy() == pytest.approx(expected, rel=1e-5)
    mixed = torch.eye(3)[target] * 0.7 + 0.1
    expected = -(weights * (mixed.numpy() * (1 - smoothing) + smoothing / 3) * logs).sum(1)
    assert loss(logits, mixed).numpy() == pytest.approx(expected, rel=1e-5)
    validation = make_loss(config, CLASSES, COUNTS, training=False)
    assert torch.equal(validation(logits, target), F.cross_entropy(logits, target, reduction="none"))


def test_logit_adjustment_is_a_choice_of_the_config() -> None:
    logits, target = data()
    config = sppcls.compose(["loss=logit_adjusted", "loss.tau=0.5"])
    expected = LogitAdjusted(COUNTS, 0.5)(logits, target)
    assert torch.equal(make_loss(config, CLASSES, COUNTS)(logits, target), expected)
    validation = make_loss(config, CLASSES, COUNTS, training=False)
    assert torch.equal(validation(logits, target), F.cross_entropy(logits, target, reduction="none"))


@pytest.mark.parametrize(
    ("words", "counts", "message"),
    [
        (["loss=logit_adjusted", "loss.tau=-1"], COUNTS, "loss.tau=-1: must be >= 0"),
        (["loss=logit_adjusted"], [60, 0, 10], "loss=logit_adjusted: a class has no training image"),
        (["loss.class_weights={lily: 2}"], COUNTS, "loss.class_weights: there is no class 'lily'"),
        (["loss=logit_adjusted", "mix.label_smoothing=0.1"], COUNTS, "mix.label_smoothing=0.1: is for"),
    ],
)  # fmt: skip
def test_impossible_losses_are_one_line(words: list[str], counts: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_loss(sppcls.compose(words), CLASSES, counts)
