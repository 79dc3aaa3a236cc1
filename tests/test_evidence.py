"""The page of evidence: its tables follow from the rows that lie beside it, and its test from textbooks."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.special import stdtr

HERE = Path(__file__).resolve().parents[1] / "results" / "evidence"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(HERE)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


_DECIMAL = re.compile(r"\d+\.\d+(?:e-\d+)?|\d+e-\d+")


def stands_in(table: str, page: str) -> bool:
    """Whether a page has a table, but for the last digit of its decimals: versions of numpy round ends of intervals their way."""
    numbers = [float(number) for number in _DECIMAL.findall(table)]
    words = [re.escape(text) for text in _DECIMAL.split(table)]
    places = re.finditer(f"({_DECIMAL.pattern})".join(words), page)
    return any(
        [float(n) for n in place.groups()] == pytest.approx(numbers, rel=0.1, abs=0.11) for place in places
    )


@pytest.mark.parametrize("plan", [1, 2, 3, 4, 5])
def test_every_table_of_the_page_follows_from_the_rows(scripts, plan: int) -> None:
    analyse, rows = scripts("analyse"), scripts("rows")
    page = (HERE / "README.md").read_text()
    headings = []
    for heading, table in analyse.report(plan, rows.load(plan), rows.load_transfer(plan), None):
        headings.append(heading)
        assert stands_in(analyse.markdown(table), page), heading
    assert any(heading.startswith("Family") for heading in headings)


def test_a_design_is_tested_as_by_least_squares(scripts) -> None:
    errors = np.random.default_rng(0).normal(50, 2, (4, 3)) + np.array([[0.0], [1.0], [-3.0], [0.5]])
    weights = np.array([1.0, -0.5, -0.5, 0.0])
    value, interval, p = scripts("judging").pooled(errors, weights)
    # One column for each arm, and one for each seed but the first.
    arms, seeds = np.indices(errors.shape).reshape(2, -1)
    x = np.hstack([np.eye(4)[arms], np.eye(3)[seeds][:, 1:]])
    fitted, rest, *_ = np.linalg.lstsq(x, errors.ravel(), rcond=None)
    contrast = np.r_[weights, 0, 0]
    error = np.sqrt(rest[0] / (12 - 6) * contrast @ np.linalg.inv(x.T @ x) @ contrast)
    assert value == pytest.approx(contrast @ fitted)
    assert p == pytest.approx(2 * stdtr(6, -abs(contrast @ fitted) / error))
    assert (interval[1] - interval[0]) / 2 == pytest.approx(2.446912 * error)  # 97.5 % of t, 6 degrees


def test_a_design_of_two_arms_is_a_paired_t_test(scripts) -> None:
    # Differences 1, 2, 3: mean 2, std 1, t = 2 x sqrt 3 with 2 degrees of freedom, p = 1 - sqrt(6 / 7).
    value, interval, p = scripts("judging").pooled(np.array([[5.0, 7, 6], [6, 9, 9]]), np.array([-1.0, 1]))
    assert (value, p) == (pytest.approx(2), pytest.approx(1 - np.sqrt(6 / 7)))
    assert interval == pytest.approx((2 - 4.302653 / np.sqrt(3), 2 + 4.302653 / np.sqrt(3)))


def test_the_slope_is_that_of_a_line_through_the_pyramids(scripts) -> None:
    questions, rows, judging = scripts("questions"), scripts("rows"), scripts("judging")
    drawn = np.random.default_rng(1).normal(50, 1, (5, 3))
    errors = {
        rows.crop(arm): dict(enumerate(row)) for arm, row in zip(questions.PYRAMIDS, drawn, strict=True)
    }
    found = judging.judge_one(questions.slope(tuple(errors)), rows.Measured(errors, {}))
    line = np.polyfit(np.log2([5, 14, 21, 30, 50]), drawn.mean(1), 1)
    assert found.mean == pytest.approx(line[0])


def test_what_has_too_few_seeds_leaves_its_design_and_its_family(scripts) -> None:
    rows, judging = scripts("rows"), scripts("judging")
    a, b, c, d = (rows.crop(arm) for arm in "abcd")
    some = {a: {0: 1.0, 1: 2.0, 2: 4.0, 3: 9.0}, b: {0: 2.0, 1: 4.0, 2: 5.0}, c: {0: 1.0, 1: 0.0}}
    measured = rows.Measured({**some, d: {0: 0.0, 1: 3.0, 2: 1.0}}, {})
    family = [judging.pair(a, b, (a, b, c)), judging.pair(a, c, (a, b, c)), judging.pair(a, d, (a, b, c, d))]
    found = judging.judge(family, measured)
    assert [(one.asked.second.name, one.seeds) for one in found] == [(str(b), 3), (str(d), 3)]
    assert found[0].p == pytest.approx(judging.judge([judging.pair(a, b)], measured)[0].p)
