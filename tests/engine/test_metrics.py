"""Errors and mistakes against a count in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sppcls.engine.metrics import ErrorCounter
from sppcls.engine.mistakes import WORST, Mistakes


def batches(classes: int, sizes: tuple[int, ...], skewed: bool = False) -> list[tuple[torch.Tensor, ...]]:
    generator = torch.Generator().manual_seed(3)
    made = []
    for n in sizes:
        logits = torch.randn(n, classes, generator=generator)
        high = 2 if skewed else classes
        target = torch.randint(high, (n,), generator=generator)
        made.append((logits, target, F.cross_entropy(logits, target, reduction="none")))
    return made


@pytest.mark.parametrize("skewed", [False, True])
def test_errors_are_counts_over_samples_not_means_of_batches(skewed: bool) -> None:
    data = batches(12, (7, 1, 30), skewed)
    counter = ErrorCounter()
    for batch in data:
        counter.update(*batch)
    logits, target = (torch.cat([b[i] for b in data]).numpy() for i in (0, 1))
    order = np.argsort(-logits, axis=1)
    top1 = 100 * np.mean(order[:, 0] != target)
    top5 = 100 * np.mean([t not in row[:5] for row, t in zip(order, target, strict=True)])
    loss = np.mean([np.log(np.exp(row).sum()) - row[t] for row, t in zip(logits, target, strict=True)])
    result = counter.compute()
    assert result["top1_error"] == pytest.approx(top1)
    assert result["top5_error"] == pytest.approx(top5)
    assert result["loss"] == pytest.approx(loss, rel=1e-5)
    assert result["images"] == 38


@pytest.mark.parametrize("classes", [1, 2, 4, 5])
def test_top5_error_of_at_most_five_classes_is_zero(classes: int) -> None:
    counter = ErrorCounter()
    counter.update(*batches(classes, (20,))[0])
    assert counter.compute()["top5_error"] == 0


def test_counts_go_on_from_a_checkpoint() -> None:
    first, second = batches(6, (9, 14))
    whole, part, rest = ErrorCounter(), ErrorCounter(), ErrorCounter()
    whole.update(*first)
    whole.update(*second)
    part.update(*first)
    rest.set_counts(part.counts().tolist())
    rest.update(*second)
    assert rest.compute() == whole.compute()


def test_confusion_and_worst_mistakes_against_loops() -> None:
    data = batches(4, (25, 40))
    mistakes = Mistakes(4)
    expected = np.zeros((4, 4), dtype=int)
    wrong, start = [], 0
    for logits, target, loss in data:
        index = torch.arange(start, start + len(target)) * 10
        start += len(target)
        mistakes.update(logits, target, loss, index)
        for i in range(len(target)):
            predicted = int(logits[i].argmax())
            expected[int(target[i]), predicted] += 1
            if predicted != int(target[i]):
                wrong.append((float(loss[i]), int(index[i]), int(target[i]), predicted))
    wrong.sort(reverse=True)
    confusion, worst = mistakes.compute()
    assert np.array_equal(confusion.numpy(), expected)
    assert [(m.image, m.target, m.predicted) for m in worst] == [w[1:] for w in wrong[:WORST]]
    assert [m.loss for m in worst] == pytest.approx([w[0] for w in wrong[:WORST]])


def test_no_mistakes_is_an_empty_list() -> None:
    mistakes = Mistakes(3)
    logits = torch.eye(3) * 9
    mistakes.update(logits, torch.arange(3), torch.zeros(3), torch.arange(3))
    assert mistakes.compute()[1] == []
