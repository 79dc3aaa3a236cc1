"""Which jobs a sweep has, what they are called, and what is refused before the first one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sppcls.errors import ConfigError
from sppcls.sweeps.folder import claim_sweep_folder
from sppcls.sweeps.overrides import named_files
from sppcls.sweeps.plan import job_configs, plan_sweep


def names(*words: str) -> list[str]:
    return [job.name for job in plan_sweep(words).jobs]


def test_every_combination_once_and_all_of_them_with_the_first_seed_first() -> None:
    plan = plan_sweep(["pyramid.levels=[6,3,2,1],[4,2,1]", "sizes=single_224,multi_224_180", "seed=0,1"])
    assert [job.name for job in plan.jobs] == [
        "levels6_3_2_1-single_224-seed0",
        "levels6_3_2_1-multi_224_180-seed0",
        "levels4_2_1-single_224-seed0",
        "levels4_2_1-multi_224_180-seed0",
        "levels6_3_2_1-single_224-seed1",
        "levels6_3_2_1-multi_224_180-seed1",
        "levels4_2_1-single_224-seed1",
        "levels4_2_1-multi_224_180-seed1",
    ]
    assert plan.jobs[5].overrides == ["pyramid.levels=[6,3,2,1]", "sizes=multi_224_180", "seed=1"]
    assert plan.name == "shapes-levels-sizes-seed"
    assert sorted(plan.varied) == ["pyramid.levels", "seed", "sizes"]
    configs = job_configs(plan)
    assert configs["levels4_2_1-single_224-seed1"].pyramid.levels == [4, 2, 1]
    assert configs["levels4_2_1-single_224-seed1"].seed == 1


def test_names_say_what_differs_and_nothing_else() -> None:
    assert names("pyramid=l421,none", "trainer.max_epochs=3") == ["l421", "pyramid_none"]
    # "none" and "paper" are choices of several groups, "name" is a key of several.
    assert names("pyramid=glob([l*21],exclude=l4321)") == ["l321", "l421", "l6321"]
    assert names("augment=none,paper") == ["augment_none", "augment_paper"]
    assert names("optimizer.lr=0.1,1e-3") == ["lr0.1", "lr0.001"]
    assert names("backbone.width=null,0.5") == ["width_null", "width0.5"]
    assert names("experiment=paper/zf5_single,paper/zf5_multi", "data.root=/x") == [
        "paper_zf5_single",
        "paper_zf5_multi",
    ]
    assert names("pyramid=choice(l1,l421)", "seed=range(0,2)") == [
        "l1-seed0", "l421-seed0", "l1-seed1", "l421-seed1",
    ]  # fmt: skip
    long = names("sizes.sizes=" + ",".join(f"[{','.join(map(str, range(100, 160)))},{n}]" for n in (1, 2)))
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 120


def test_the_sweep_of_the_papers_table_2() -> None:
    plan = plan_sweep(["+sweep=single_vs_multi", "data=folder", "data.root=/photos", "trainer.max_epochs=3"])
    assert plan.name == "single_vs_multi"
    assert [job.name for job in plan.jobs] == [
        f"{cell}-seed{seed}" for seed in range(3) for cell in ("nospp", "single", "multi")
    ]
    configs = job_configs(plan)
    nospp, single, multi = (configs[f"{cell}-seed2"] for cell in ("nospp", "single", "multi"))
    assert nospp.pyramid.levels is None
    assert single.pyramid.levels == multi.pyramid.levels == [6, 3, 2, 1]
    assert nospp.sizes.sizes == single.sizes.sizes == [224]
    assert multi.sizes.sizes == [224, 180]
    assert single.sizes.val_sizes == [224, 180]
    assert {c.trainer.max_epochs for c in configs.values()} == {3}
    assert {c.data.root for c in configs.values()} == {"/photos"}


@pytest.mark.parametrize(
    ("name", "jobs"), [("single_vs_multi", 9), ("pyramid_levels", 18), ("input_sizes", 24)]
)
def test_every_shipped_sweep_has_possible_jobs(name: str, jobs: int) -> None:
    plan = plan_sweep([f"+sweep={name}"])
    assert len(job_configs(plan)) == len(plan.jobs) == jobs
    assert name in named_files("sweep")


def test_the_command_line_wins_over_the_file() -> None:
    assert names("+sweep=pyramid_levels", "seed=7", "pyramid=l1,l421") == ["l1-seed7", "l421-seed7"]
    plan = plan_sweep(["+sweep=pyramid_levels", "seed=7", "pyramid=l1,l421", "sizes=single_180"])
    assert {config.sizes.sizes[0] for config in job_configs(plan).values()} == {180}
    assert {config.seed for config in job_configs(plan).values()} == {7}


def test_a_sweep_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "fixed: [head=linear]\nparams:\n  pyramid.levels: [[3, 1], [2, 1]]\n  ema.enabled: [true, false]\n"
    )
    plan = plan_sweep(["+sweep=mine"], str(tmp_path))
    assert [job.name for job in plan.jobs] == [
        "levels3_1-enabled_true", "levels3_1-enabled_false", "levels2_1-enabled_true", "levels2_1-enabled_false",
    ]  # fmt: skip
    config = job_configs(plan)["levels2_1-enabled_true"]
    assert (config.pyramid.levels, config.ema.enabled, config.head.name) == ([2, 1], True, "linear")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["+sweep=single_vs_mult"],
            "+sweep=single_vs_mult: choose from input_sizes, kfold, pyramid_levels, single_vs_multi",
        ),
        (["+sweep=input_sizes", "+sweep=pyramid_levels"], "one sweep at a time"),
        (["+sweep=single_vs_multi", "pyramid=l421"], "sets pyramid itself, differently in each of its cells"),
        (["pyramid=l1"], "-m: nothing varies; give a key several values"),
        (["seed=0,1", "run_name=x"], "run_name=x: a sweep names its runs"),
        (["seed=0,1", "ckpt_path=auto"], "ckpt_path=auto: the same command again resumes"),
        (["optimizer.lr=interval(0,1)"], "optimizer.lr=interval(0,1): a sweep needs single values"),
        (["optimiser.lr=1,2"], "optimiser.lr: unknown config group optimiser"),
        (["pyramid=l6321,l99"], "job l99: pyramid=l99: choose from"),
        (["optimizer.lr=0.1,-1"], "job lr-1: optimizer.lr=-1.0: must be"),
        (["pyramid=l6321,l421", "pyramid.levels=[4,2,1]"], "jobs l6321 and l421 are the same run"),
        (["seed=0,1", "pyramid=[1"], "pyramid=[1"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        job_configs(plan_sweep(words))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must hold fixed: "),
        ("cells: {b: [pyramid=l421], a: pyramid=l1}", "cells.a: 'pyramid=l1': must be a list of words"),
        ("cells: {b: [pyramid=l421], a: [x]}", "cells.a: 'x': is no word such as pyramid=l421"),
        ("cells: {b: [pyramid=l421], a: [{seed: 1}]}", "cells.a: {'seed': 1}: is no word"),
        ("cells: {a: }", "cells.a: None: must be a list of words"),
        ("cells: [a, b]", "cells: ['a', 'b']: must be a mapping"),
        ("fixed: seed=1", "fixed: 'seed=1': must be a list of words"),
        ("params: [1]", "params: [1]: must be a mapping"),
        ("others: {}", "others: unknown key"),
        ("fixed: [seed=1]", "must hold fixed: "),
        ("{", "line 1: expected the node content"),
        ("params:\n\tseed: [1]", "line 2: is indented by a tab; YAML takes blanks only"),
        ("params: {seed: [1]}\nparams: {seed: [2]}", "line 2: params: the key is given twice"),
    ],
)
def test_a_malformed_sweep_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "sweep").mkdir()
    file = tmp_path / "sweep" / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        plan_sweep(["+sweep=mine"], str(tmp_path))
    assert str(caught.value).startswith(f"{file}: {message}")
    assert "\n" not in str(caught.value)


def test_a_cell_sets_nothing_that_the_sweep_sets(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text("cells: {b: [pyramid=l421], a: [ckpt_path=x.ckpt]}")
    with pytest.raises(ConfigError, match=r"^ckpt_path=x\.ckpt: the same command again resumes"):
        plan_sweep(["+sweep=mine"], str(tmp_path))


def test_the_same_sweep_finds_its_folder_and_another_one_gets_its_own(
    tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    def folder(*words: str) -> str:
        with claim_sweep_folder(plan_sweep([f"runs_dir={tmp_path}", "name=s", *words])) as claimed:
            return claimed.name

    assert folder("seed=0,1") == "s"
    assert folder("seed=0,1,2") == "s", "more seeds are the same sweep"
    assert folder("seed=0,1", "data.workers=0", "log.images=false", "trainer.threads=1") == "s"
    assert folder("seed=5") == "s", "and so is one"
    assert folder("seed=0,1", "optimizer.lr=0.5") == "s-2"
    assert folder("seed=0,1", "pyramid=l1,l421") == "s-3"
    assert folder("seed=0,1", "trainer.max_epochs=3") == "s-4"
    assert folder("seed=0,1") == "s"
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "mine.txt").write_text("not a sweep")
    assert folder("seed=0,1", "name=t") == "t-2"


def test_the_same_sweep_is_never_run_by_two_at_once(tmp_path: Path) -> None:
    plan = plan_sweep([f"runs_dir={tmp_path}", "seed=0,1"])
    refused = pytest.raises(ConfigError, match="in use by process")
    with claim_sweep_folder(plan), refused, claim_sweep_folder(plan):
        pass
