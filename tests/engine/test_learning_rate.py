"""Learning rates against values worked out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sppcls import compose
from sppcls.config.schema_training import SchedulerConfig
from sppcls.engine.learning_rate import Plateau, lr_factor


def scheduler(choice: str, **changes: object) -> SchedulerConfig:
    return dataclasses.replace(compose([f"scheduler={choice}"]).scheduler, **changes)


def test_constant_is_one_everywhere() -> None:
    assert [lr_factor(scheduler("constant"), step, 10, 4) for step in (0, 17, 39)] == [1, 1, 1]


def test_warmup_rises_linearly_to_the_base_rate() -> None:
    rates = [lr_factor(scheduler("constant", warmup_epochs=0.5), step, 10, 4) for step in range(7)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])


def test_cosine_is_half_in_the_middle_and_final_at_the_end() -> None:
    config = scheduler("cosine", warmup_epochs=0, final_factor=0.0)
    assert lr_factor(config, 0, 10, 4) == 1
    assert lr_factor(config, 20, 10, 4) == pytest.approx(0.5)
    assert lr_factor(config, 10, 10, 4) == pytest.approx(0.5 + 0.5 * math.sqrt(0.5))
    assert lr_factor(config, 40, 10, 4) == pytest.approx(0.0)
    assert lr_factor(dataclasses.replace(config, final_factor=0.1), 40, 10, 4) == pytest.approx(0.1)


def test_step_drops_at_its_milestones() -> None:
    rates = [lr_factor(scheduler("step"), step, 10, 4) for step in (0, 19, 20, 29, 30, 39)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_warmup_longer_than_the_training_just_rises() -> None:
    assert lr_factor(scheduler("cosine", warmup_epochs=8), 39, 10, 4) == pytest.approx(0.5)


def test_plateau_drops_twice_and_no_more() -> None:
    plateau = Plateau(patience=1, max_drops=2)
    drops = []
    for error in (50, 40, 40, 41, 39, 39, 39, 39, 39, 39, 39):
        plateau.update(error)
        drops.append(plateau.drops)
    #       50 40 40 41 39 39 39 39 39 39 39
    assert drops == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert lr_factor(scheduler("paper"), 5, 10, 4, drops=2) == pytest.approx(0.01)


def test_plateau_goes_on_from_its_state() -> None:
    whole, first = Plateau(1, 2), Plateau(1, 2)
    errors = [50, 40, 40, 41, 39, 39, 39]
    for error in errors[:3]:
        first.update(error)
    second = Plateau(1, 2)
    second.load_state_dict(first.state_dict())
    for error in errors:
        whole.update(error)
    for error in errors[3:]:
        second.update(error)
    assert second.state_dict() == whole.state_dict()


def test_cosine_begins_after_the_warmup_and_stays_at_its_end() -> None:
    config = scheduler("cosine", warmup_epochs=1, final_factor=0.0)
    rates = [lr_factor(config, step, 10, 3) for step in (9, 10, 15, 20, 30, 40)]
    assert rates == pytest.approx([1.0, 1.0, 0.5 + 0.5 * math.sqrt(0.5), 0.5, 0.0, 0.0])


def test_the_rule_of_the_paper_begins_at_the_base_rate() -> None:
    assert lr_factor(scheduler("paper"), 39, 10, 4) == 1
