"""Logits in bfloat16 are often equal: all who count or keep answers take the same class of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sppcls.data import Batch
from sppcls.engine.callbacks.predictions import kept_part
from sppcls.engine.metrics import ErrorCounter
from sppcls.nn.model_info import ranked


@pytest.mark.parametrize("classes", [3, 20, 200])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_of_equal_scores_the_lower_number_is_first(classes: int, dtype: torch.dtype) -> None:
    scores = torch.randint(-2, 3, (100, classes), generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = np.argsort(-scores.float().numpy(), axis=1, kind="stable")
    for most in (1, 5, 10):
        assert ranked(scores, most).tolist() == expected[:, :most].tolist()


def test_the_error_is_that_of_the_answers_that_are_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-2, 3, (500, 20), generator=generator).to(torch.bfloat16)
    target = torch.randint(0, 20, (500,), generator=generator)
    counter = ErrorCounter()
    counter.update(logits, target, torch.zeros(500))
    batch = Batch(torch.zeros(500, 3, 1, 1), target, torch.arange(500), torch.zeros(500, 3), 0, 0, [], None)
    _, _, best, *_ = kept_part(batch, logits, multi_label=False)
    assert best.shape == (500, 10)
    wrong = (best != target[:, None]).numpy()
    found = counter.compute()
    assert found["top1_error"] == pytest.approx(100 * wrong[:, 0].mean())
    assert found["top5_error"] == pytest.approx(100 * wrong[:, :5].all(1).mean())
