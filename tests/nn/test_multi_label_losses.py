"""Losses of images with several labels, against numpy; and figures of their answers, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, hamming_loss

import sppcls
from sppcls._util.figures import average_precision, map_error_draws, of_label_sets
from sppcls.engine.losses import make_loss
from sppcls.engine.metrics import LabelCounter, LabelValidationCounter
from sppcls.errors import ConfigError
from sppcls.nn.losses import Asymmetric, BinaryCrossEntropy

rng = np.random.default_rng(0)
LOGITS = rng.normal(0, 3, (40, 5))
TRUTH = rng.random((40, 5)) < [0.5, 0.3, 0.2, 0.1, 0.6]
CLASSES = list("abcde")


def loss_of(loss: torch.nn.Module, truth: np.ndarray = TRUTH) -> np.ndarray:
    found: torch.Tensor = loss(torch.from_numpy(LOGITS).float(), torch.from_numpy(truth.astype(np.float32)))
    return found.numpy()


def by_hand(gamma_neg: float, gamma_pos: float, clip: float, truth: np.ndarray = TRUTH) -> np.ndarray:
    p = 1 / (1 + np.exp(-LOGITS))
    q = np.maximum(p - clip, 0)
    present, absent = (1 - p) ** gamma_pos * np.log(p), q**gamma_neg * np.log(1 - q)
    total: np.ndarray = -(truth * present + (1 - truth) * absent).sum(1)
    return total


@pytest.mark.parametrize("gammas", [(4.0, 0.0, 0.05), (2.0, 1.0, 0.0), (0.0, 0.0, 0.0), (1.5, 0.5, 0.3)])
def test_asymmetric_loss_is_that_of_the_paper(gammas: tuple[float, float, float]) -> None:
    assert np.allclose(loss_of(Asymmetric(*gammas)), by_hand(*gammas), rtol=1e-4, atol=1e-5)
    mixed = 0.7 * TRUTH + 0.3 * TRUTH[::-1]
    assert np.allclose(loss_of(Asymmetric(*gammas), mixed), by_hand(*gammas, mixed), rtol=1e-4, atol=1e-5)
    assert np.allclose(loss_of(Asymmetric(*gammas).eval()), by_hand(0, 0, 0), rtol=1e-4)


def test_binary_cross_entropy_is_summed_over_the_classes() -> None:
    assert np.allclose(loss_of(BinaryCrossEntropy()), by_hand(0, 0, 0), rtol=1e-4)
    p, weight = 1 / (1 + np.exp(-LOGITS)), np.array([1, 2, 3, 4, 5.0])
    weighted = -(weight * TRUTH * np.log(p) + ~TRUTH * np.log(1 - p)).sum(1)
    loss = BinaryCrossEntropy(weight.tolist())
    assert np.allclose(loss_of(loss), weighted, rtol=1e-4)
    assert np.allclose(loss_of(loss.eval()), by_hand(0, 0, 0), rtol=1e-4)


@pytest.mark.parametrize("loss", [Asymmetric(), Asymmetric(0.5, 0.5, 0.0), BinaryCrossEntropy()])
def test_sure_answers_have_finite_gradients(loss: torch.nn.Module) -> None:
    logits = torch.tensor([[-200.0, 0.0, 200.0]], requires_grad=True)
    for target in (torch.zeros(1, 3), torch.ones(1, 3)):
        (slope,) = torch.autograd.grad(loss(logits, target).sum(), logits)
        assert slope.isfinite().all()


def test_the_default_loss_takes_several_labels_and_their_weights() -> None:
    counts = TRUTH.sum(0).tolist()
    target = torch.from_numpy(TRUTH.astype(np.float32))
    logits = torch.from_numpy(LOGITS).float()
    for words in (["loss.class_weights=balanced"], ["loss=bce", "loss.class_weights=balanced"]):
        config = sppcls.compose(words)
        loss = make_loss(config, CLASSES, counts, images=40)
        weight = torch.tensor([(40 - count) / count for count in counts])
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, target, pos_weight=weight, reduction="none"
        ).sum(1)
        assert torch.allclose(loss(logits, target), expected)
        validation = make_loss(config, CLASSES, counts, training=False, images=40)
        assert np.allclose(validation(logits, target), by_hand(0, 0, 0), rtol=1e-4)
    named = make_loss(sppcls.compose(["loss=bce", "loss.class_weights={b: 3}"]), CLASSES, counts, images=40)
    weight = torch.tensor([1, 3.0, 1, 1, 1])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target, pos_weight=weight, reduction="none"
    ).sum(1)
    assert torch.allclose(named(logits, target), expected)


@pytest.mark.parametrize(
    ("words", "images", "message"),
    [
        (["loss=bce"], None, "loss=bce: is for images with several labels; these have one each: loss=cross_entropy"),
        (["loss=asymmetric"], None, "loss=asymmetric: is for images with several labels"),
        (["loss=logit_adjusted"], 40, "loss=logit_adjusted: is for images with one label; these have several: loss=bce"),
        (["mix.label_smoothing=0.1"], 40, "mix.label_smoothing=0.1: is for images with one label"),
        (["loss=bce", "loss.class_weights={z: 3}"], 40, "loss.class_weights: there is no class 'z'"),
        (["loss=asymmetric", "loss.gamma_neg=-1"], 40, "loss.gamma_neg=-1: must be >= 0"),
        (["loss=asymmetric", "loss.clip=1"], 40, "loss.clip=1: must be >= 0 and < 1"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(words: list[str], images: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_loss(sppcls.compose(words), CLASSES, [8] * 5, images=images)


def test_a_key_of_another_loss_says_what_to_type() -> None:
    message = "loss.class_weights: unknown key; .*; asymmetric does not take it: type loss=cross_entropy, or leave it out"
    with pytest.raises(ConfigError, match=message):
        sppcls.compose(["loss=asymmetric", "loss.class_weights=balanced"])


def slowly(scores: np.ndarray, truth: np.ndarray) -> float:
    """Average precision by its definition: the sum over distinct scores of precision times the gain in recall."""
    area, before = 0.0, 0.0
    for level in sorted(set(scores.tolist()), reverse=True):
        taken = scores >= level
        recall = (taken & truth).sum() / truth.sum()
        area += (recall - before) * (taken & truth).sum() / taken.sum()
        before = recall
    return area


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_is_that_of_its_definition(levels: int) -> None:
    for seed in range(20):
        draw = np.random.default_rng(seed)
        scores, truth = draw.integers(0, levels, 30) / levels, draw.random(30) < 0.3
        truth[0] = True
        found = average_precision(scores, truth)[0]
        assert math.isclose(found, slowly(scores, truth))
        assert math.isclose(found, average_precision_score(truth, scores))
        counts = draw.integers(0, 3, (4, 30))
        repeated = [np.repeat(np.arange(30), row) for row in counts]
        wanted = [slowly(scores[r], truth[r]) if truth[r].any() else math.nan for r in repeated]
        assert np.allclose(average_precision(scores, truth, counts), wanted, equal_nan=True)


def test_figures_are_those_of_scikit_learn() -> None:
    scores = 1 / (1 + np.exp(-LOGITS))
    answers = scores >= 0.5
    found = of_label_sets(LOGITS, TRUTH)
    assert math.isclose(
        found["map_error"], 100 - 100 * average_precision_score(TRUTH, scores, average="macro")
    )
    assert math.isclose(found["f1"], 100 * f1_score(TRUTH, answers, average="macro"))
    assert math.isclose(found["micro_f1"], 100 * f1_score(TRUTH, answers, average="micro"))
    assert math.isclose(found["label_error"], 100 * hamming_loss(TRUTH, answers))
    assert found["exact_match_error"] == 100 * np.mean([list(a) != list(t) for a, t in zip(answers, TRUTH, strict=True)])  # fmt: skip
    with_nobody = np.concatenate([TRUTH, np.zeros((40, 1), bool)], 1)
    more = np.concatenate([LOGITS, LOGITS[:, :1]], 1)
    assert of_label_sets(more, with_nobody)["map_error"] == found["map_error"], "a class without an image"


def test_counters_give_the_same_in_any_batches() -> None:
    logits, target = torch.from_numpy(LOGITS).float(), torch.from_numpy(TRUTH.astype(np.float32))
    whole = of_label_sets(logits.numpy(), TRUTH)
    counter, training = LabelValidationCounter(5), LabelCounter(5)
    for part in torch.arange(40).split([7, 1, 32]):
        for each in (counter, training):
            each.update(logits[part], target[part], torch.full((len(part),), 2.0), pixels=10)
    assert counter.compute() == {"loss": 2.0, "images": 40, "pixels": 400, **whole}
    assert training.compute() == {
        "loss": 2.0, "images": 40, "pixels": 400, "label_error": whole["label_error"],
        "exact_match_error": whole["exact_match_error"],
    }  # fmt: skip
    kept = LabelCounter(5)
    kept.set_counts(training.counts().tolist())
    assert torch.equal(kept.counts(), training.counts())
    counter.reset()
    counter.update(logits[:3], target[:3], torch.ones(3))
    assert counter.compute()["images"] == 3


def test_probabilities_next_to_1_are_no_ties() -> None:
    """Logits above 17 have the same sigmoid in float32, and above 37 in float64; scikit-learn is given the logits."""
    draw = np.random.default_rng(3)
    logits = (draw.uniform(17, 60, (200, 2)) * draw.choice([-1, 1], (200, 1))).astype(np.float32)
    truth = draw.random((200, 2)) < 0.3 + 0.4 * (logits > 38)
    counter = LabelValidationCounter(2)
    counter.update(torch.from_numpy(logits), torch.from_numpy(truth).float(), torch.ones(200))
    wanted = 100 - 100 * average_precision_score(truth, logits, average="macro")
    assert math.isclose(counter.compute()["map_error"], wanted)
    tied = 100 - 100 * average_precision_score(truth, 1 / (1 + np.exp(-logits)), average="macro")
    assert abs(wanted - tied) > 1, "ties would show"


def test_draws_are_spread_around_the_error() -> None:
    truth = np.random.default_rng(1).random((500, 3)) < 0.4
    scores = np.random.default_rng(2).random((500, 3)) + 0.5 * truth
    error, draws = of_label_sets(scores, truth)["map_error"], map_error_draws(scores, truth)
    assert draws.shape == (1000,)
    assert np.array_equal(draws, map_error_draws(scores, truth)), (
        "for networks of the same images the same draws"
    )
    assert abs(np.mean(draws) - error) < 1
    low, high = np.percentile(draws, [2.5, 97.5])
    assert low < error < high
