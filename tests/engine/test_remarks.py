"""Remarks before a run begins: on averaged weights, on very large heads, and on the top-5 error."""

from __future__ import annotations

import pytest

import sppcls
from sppcls._util.figures import kind_of
from sppcls.config.build import build_network
from sppcls.engine.summary import large_head_line, swa_rate_line

SWA = ["swa.enabled=true", "trainer.max_epochs=20"]


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ([*SWA, "scheduler=cosine"], "scheduler.final_factor=0.5"),
        ([*SWA, "scheduler=step"], "scheduler=constant"),
        ([*SWA, "scheduler=cosine", "scheduler.final_factor=0.5"], None),
        ([*SWA, "scheduler=cosine", "swa.start=0"], None),
        ([*SWA, "scheduler=constant"], None),
        (["scheduler=cosine", "trainer.max_epochs=20"], None),
    ],
)
def test_averaging_at_a_low_rate_is_warned_of(words: list[str], typed: str | None) -> None:
    line = swa_rate_line(sppcls.compose(words))
    assert (line is None) == (typed is None)
    if typed:
        assert line is not None
        assert line.endswith(f": {typed}")
        # What it says to type is enough.
        assert swa_rate_line(sppcls.compose([*words, typed])) is None


def test_a_head_of_nearly_all_parameters_is_named() -> None:
    config = sppcls.compose(["backbone=zf5", "pyramid=l6321", "head.hidden=[8192]"])
    net = build_network(config, 10)
    assert sum(p.numel() for p in net.parameters()) > 100e6
    line = large_head_line(config, net)
    assert line is not None
    assert "; fewer: head.hidden=[512] or pyramid=l321" in line
    coarse = sppcls.compose(["backbone=zf5", "pyramid=l321", "head.hidden=[30000]"])
    line = large_head_line(coarse, build_network(coarse, 10))
    assert line is not None
    assert line.endswith("; fewer: head.hidden=[512]")  # not what it has already
    smaller = sppcls.compose(["backbone=zf5", "pyramid=l6321", "head.hidden=[512]"])
    assert large_head_line(smaller, build_network(smaller, 10)) is None


@pytest.mark.parametrize(("classes", "beside"), [(2, "top1_error"), (5, "top1_error"), (6, "top5_error")])
def test_the_top5_error_of_five_classes_is_not_shown(classes: int, beside: str) -> None:
    kind = kind_of(multi_label=False, classes=classes)
    assert kind.beside == beside
    assert "top5_error" in kind.validation  # it is still written down
    assert kind_of(multi_label=True, classes=classes).beside == "exact_match_error"
