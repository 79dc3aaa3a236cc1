"""The prepared sweep of cross-validation."""

from __future__ import annotations

import pytest

from sppcls.errors import ConfigError
from sppcls.sweeps.plan import job_configs, plan_sweep


def test_every_fold_is_a_run() -> None:
    plan = plan_sweep(["+sweep=kfold", "pyramid=l321,l1"])
    assert len(plan.jobs) == 10
    folds = [[word for word in job.overrides if word.startswith("data.fold")] for job in plan.jobs]
    assert {tuple(words) for words in folds} == {("data.folds=5", f"data.fold={fold}") for fold in range(5)}
    assert len({job.name for job in plan.jobs}) == 10


def test_the_folds_follow_their_number() -> None:
    plan = plan_sweep(["+sweep=kfold", "data.folds=3"])
    assert [job.name for job in plan.jobs] == ["fold0", "fold1", "fold2"]
    assert all("data.folds=3" in job.overrides for job in plan.jobs)
    some = plan_sweep(["+sweep=kfold", "data.folds=3", "data.fold=0,2"])
    assert [job.name for job in some.jobs] == ["fold0", "fold2"]
    assert plan.identity == some.identity != plan_sweep(["+sweep=kfold"]).identity


@pytest.mark.parametrize("value", ["2,3", "null", "many"])
def test_what_the_folds_follow_is_one_number(value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.folds={value}: must be one whole number, as the runs"):
        plan_sweep(["+sweep=kfold", f"data.folds={value}"])


def test_a_fold_too_many_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(
        ConfigError, match=r"data.fold=3: must be below data.folds=3; the first is 0; all: data.fold=0,1,2"
    ):
        job_configs(plan_sweep(["+sweep=kfold", "data.folds=3", "data.fold=0,1,2,3"]))
