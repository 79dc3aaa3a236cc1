"""What a search draws: from files and words, checked before anything is trained."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("optuna")
import optuna
from PIL import Image

from sppcls.cli.main import main
from sppcls.errors import SppclsError
from sppcls.sweeps.search.check import SpaceCheck
from sppcls.sweeps.search.parameters import Choices, Range, draws
from sppcls.sweeps.search.space import plan_search
from sppcls.sweeps.search.study import Search

LR = "optimizer.lr=tag(log,interval(0.001,0.1))"


def _file(folder: Path, text: str) -> str:
    (folder / "search").mkdir(exist_ok=True)
    (folder / "search" / "mine.yaml").write_text(text)
    return str(folder)


def test_the_shipped_search_is_what_its_file_says_and_the_command_line_wins() -> None:
    plan = plan_search(
        ["+search=small", "n_trials=7", "pyramid=l1", "trainer.max_epochs=3", "head.dropout=0.1,0.2"]
    )
    assert plan.name == "small"
    assert plan.settings.n_trials == 7
    assert plan.params["optimizer.lr"] == Range(0.002, 0.1, log=True)
    assert plan.params["head.dropout"] == Choices(("0.1", "0.2"))
    assert "pyramid" not in plan.params
    values = {
        "optimizer.lr": 0.01,
        "optimizer.weight_decay": 1e-5,
        "head.dropout": "0.2",
        "sizes": "single_224",
    }
    assert plan.trial_words(values) == [
        "log.images=false",
        "pyramid=l1",
        "trainer.max_epochs=3",
        "optimizer.lr=0.01",
        "optimizer.weight_decay=1e-05",
        "head.dropout=0.2",
        "sizes=single_224",
    ]


def test_a_file_of_ones_own_with_cells_lists_and_numbers_that_yaml_reads_as_text(tmp_path: Path) -> None:
    text = """
    cells: {one: ["sizes.kind=single", "sizes.sizes=[96]"], two: ["sizes.sizes=[96,72]"]}
    params:
      optimizer.weight_decay: {low: 1e-5, high: 1e-2, log: true}
      scheduler.patience: {low: 1, high: 9, step: 2}
      pyramid.levels: [[3, 2, 1], [4, 1], null]
    """
    plan = plan_search(["+search=mine", "n_trials=1", "sampler.seed=3", "pruner=none"], _file(tmp_path, text))
    assert plan.params == {
        "cell": Choices(("one", "two")),
        "optimizer.weight_decay": Range(1e-5, 1e-2, log=True),
        "scheduler.patience": Range(1, 9, step=2, whole=True),
        "pyramid.levels": Choices(("[3,2,1]", "[4,1]", "null")),
    }
    assert (plan.settings.sampler.seed, plan.settings.pruner.name) == (3, "none")
    assert plan.trial_words({"cell": "two", "pyramid.levels": "[4,1]"}) == [
        "sizes.sizes=[96,72]",
        "pyramid.levels=[4,1]",
    ]


def test_another_space_is_another_search_and_more_trials_are_the_same_one() -> None:
    same = plan_search([LR, "n_trials=3", "runs_dir=elsewhere"]).identity
    assert plan_search([LR, "n_trials=9", "pruner=none", "sampler.seed=4", "data.workers=1"]).identity == same
    for words in (
        ["optimizer.lr=tag(log,interval(0.001,0.2))"],
        [LR, "trainer.max_epochs=3"],
        [LR, "objective=val/loss"],
        [LR, "pyramid=l1,l421"],
    ):
        assert plan_search([*words, "n_trials=3"]).identity != same


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+search=smal", "n_trials=1"], "+search=smal: choose from small (did you mean 'small'?)"),
        (["+search=small"], "n_trials: missing; it means: trials to be done in total"),
        (["+search=small", "n_trials=0"], "n_trials=0: must be >= 1"),
        (["+search=small", "n_trials=many"], "n_trials=many: must be a whole number"),
        (["+search=small", "n_trials=1", "pruner=medium"], "pruner.name=medium: choose from median, none"),
        (["+search=small", "n_trials=1", "sampler.sed=1"], "sampler.sed: unknown key (did you mean 'seed'?)"),
        (["+search=small", "n_trials=[1"], "n_trials=[1: cannot be read"),
        (["+search=small", "n_trials=1", "run_name=x"], "run_name=x: a search names its runs itself"),
        (["+search=small", "n_trials=1", "hydra/launcher=joblib"], "a search runs its trials itself"),
        (["n_trials=1"], "nothing to search"),
        (["n_trials=1", "optimizer.rl=interval(0,1)"], "optimizer.rl: unknown key"),
        (
            ["n_trials=1", "optimizer.lr=interval(0.1,0.01)"],
            "optimizer.lr: from 0.1 to 0.01: low must be less",
        ),
        (
            ["n_trials=1", "optimizer.lr=tag(log,interval(0,1))"],
            "optimizer.lr: from 0 to 1: a log range must begin above 0",
        ),
        (["n_trials=1", "optimizer.lr=tag(lg,interval(0.1,1))"], "tag 'lg': the only tag is log"),
        (["n_trials=1", "pyramid=interval(1,3)"], "pyramid: a group takes choices"),
        (["n_trials=1", "pyramid.mode=interval(1,3)"], "pyramid.mode: is no number"),
        (
            ["n_trials=1", "data.batch_size=interval(1.5,3)"],
            "data.batch_size: from 1.5 to 3: takes whole numbers",
        ),
        (["n_trials=1", "pyramid=l421,l422"], "pyramid=l422: choose from"),
        (["n_trials=1", "seed=0,1,2"], "seed: cannot be searched: the best of several seeds is luck"),
        (["n_trials=1", "trainer.max_epochs=2,4"], "trainer.max_epochs: cannot be searched"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(words: list[str], message: str) -> None:
    with pytest.raises(SppclsError) as caught:
        plan_search(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("params: {optimizer.lr: 0.1}", "optimizer.lr: 0.1: give choices, such as [a, b], or a range"),
        ("params: {optimizer.lr: {low: 0.1, hihg: 1}}", "give choices"),
        (
            "params: {optimizer.lr: {low: 0.1, high: 1, stp: 0.1}}",
            "optimizer.lr.stp: unknown (did you mean 'step'?)",
        ),
        ("params: {optimizer.lr: {low: much, high: 1}}", "optimizer.lr.low=much: must be a number"),
        ("params: {optimizer.lr: {low: 0.1, high: 1, step: 2}}", "step=2 must be above 0 and no larger"),
        ("params: {optimizer.lr: {low: 0.1, high: 1, step: 0.1, log: true}}", "exclude each other"),
        ("params: [1]", "params: [1]: must be a mapping; must hold params"),
        ("cells: {a: [pyramid=l1], b: pyramid=l1}", "cells.b: 'pyramid=l1': must be a list of words"),
        ("parms: {}", "parms: unknown key (did you mean 'params'?)"),
        ("{}", "it has nothing to vary"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_it(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SppclsError) as caught:
        plan_search(["+search=mine", "n_trials=1"], _file(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["head.dropout=interval(0.5,1.5)"], "head.dropout=1.5: must be >= 0"),
        (["pyramid=l321,none"], "pyramid=none: sizes: input_size=72x72"),
        ([LR, "objective=val/top1_eror"], "objective=val/top1_eror: choose from val/loss, val/top1_error, "),
        (
            [LR, "objective=val_72/loss", "sizes.kind=single", "sizes.sizes=[96]"],
            "objective=val_72/loss: choose from",
        ),
        (
            [LR, "sizes.kind=single", "sizes.sizes=[96],[72]"],
            "sizes.sizes=[72]: val/top1_error would be measured at 72 here and at 96 in other trials; "
            "add sizes.val_sizes=[96]",
        ),
        ([LR, "data=folder", "data.root=nowhere"], "nowhere"),
    ],
)
def test_values_that_cannot_be_trained_are_told_before_the_first_trial(
    tiny, words: list[str], message: str
) -> None:
    given = {word.partition("=")[0] for word in words}
    rest = [
        word
        for word in tiny(*(w for w in words if w.startswith("data=")))
        if word.partition("=")[0] not in given
    ]
    with pytest.raises(SppclsError) as caught:
        SpaceCheck(plan_search(["n_trials=1", *rest, *words])).space()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def tagged(tmp_path: Path) -> list[str]:
    """Words for forty photos, most of them with several labels."""
    lines = ["path,tags"]
    for number in range(40):
        Image.new("RGB", (40, 30), (6 * number, 0, 0)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'|'.join(name for i, name in enumerate('abc') if (number + i) % 3)}")
    (tmp_path / "tags.csv").write_text("\n".join(lines) + "\n")
    return ["data=folder", f"data.root={tmp_path}", "n_trials=1", LR]


def test_the_objective_is_the_main_error_of_the_images(tiny, tagged: list[str]) -> None:
    words = [word for word in tiny() if not word.startswith("data.num")]
    check = SpaceCheck(plan_search([*words, *tagged]))
    check.space()
    assert check.plan.objective == check.plan.settings.objective == "val/map_error"
    typed = plan_search([*words, *tagged, "objective=val/map_error"])
    assert check.plan.identity == typed.identity != plan_search([*words, *tagged]).identity
    one_label = SpaceCheck(plan_search([*tiny(), "n_trials=1", LR]))
    one_label.space()
    assert one_label.plan.objective == "val/top1_error"
    with pytest.raises(SppclsError, match=r"objective=val/top1_error: choose from val/loss, val/map_error, "):
        SpaceCheck(plan_search([*words, *tagged, "objective=val/top1_error"])).space()


def test_values_that_are_impossible_only_together_are_no_fault_of_the_space(tiny) -> None:
    words = [w for w in tiny("n_trials=1") if not w.startswith(("pyramid=", "sizes."))]
    words += ["pyramid=none,l321", "sizes.kind=alternate,single", "sizes.sizes=[96,72],[96]"]
    SpaceCheck(plan_search(words)).space()


def _draws(words: list[str], count: int, folder: Path, finish: bool = True) -> list[dict[str, object]]:
    plan = plan_search([*words, f"n_trials={count}"])
    study = optuna.create_study()
    drawn = []
    for number in range(count):
        trial = Search(plan, folder, SpaceCheck(plan), study).ask()
        drawn.append(trial.params)
        if finish:
            study.tell(trial, float(number % 7))
    return drawn


def test_drawn_values_lie_in_their_ranges_and_fill_them(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    words = [LR, "data.batch_size=int(interval(4,8))", "pyramid=l1,l421", "sampler.startup_trials=20"]
    drawn = _draws(words, 40, tmp_path)
    rates = [values["optimizer.lr"] for values in drawn]
    assert all(isinstance(rate, float) and 0.001 <= rate <= 0.1 for rate in rates)
    # Uniform in the logarithm: about half of the random draws are below the geometric middle, 0.01.
    assert 5 <= sum(math.log10(rate) < -2 for rate in rates[:20]) <= 15  # type: ignore[arg-type]
    assert {values["data.batch_size"] for values in drawn} == {4, 5, 6, 7, 8}
    assert {values["pyramid"] for values in drawn} == {"l1", "l421"}
    assert len({str(values) for values in drawn}) == 40


def test_the_seed_of_the_sampler_makes_the_draws(tmp_path: Path) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    words = [LR, "pyramid=l1,l421", "sampler.startup_trials=4"]
    drawn = _draws([*words, "sampler.seed=1"], 8, tmp_path)
    assert _draws([*words, "sampler.seed=1"], 8, tmp_path) == drawn
    assert _draws([*words, "sampler.seed=2"], 8, tmp_path)[0] != drawn[0]
    # Fewer random draws change nothing of the first ones, and random draws are not those of a search begun anew.
    assert _draws([*words, "sampler.seed=1", "sampler=random"], 4, tmp_path) == drawn[:4]


def test_the_command_line_helps_and_complains_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["search", "--help"]) == 0
    assert "searches: small\n" in capsys.readouterr().out
    for words, message in (
        (["+search=small", "--trials", "3"], "sppcls search: --trials: unknown option"),
        (["small"], "small: give key=value words"),
    ):
        assert main(["search", *words]) == 1
        assert capsys.readouterr().err.startswith(f"sppcls: error: {message}")
    monkeypatch.setitem(sys.modules, "optuna", None)  # as if it were not installed
    assert main(["search", "+search=small", "n_trials=1"]) == 1
    assert capsys.readouterr().err == 'sppcls: error: sppcls search: needs pip install "sppcls[search]"\n'


def test_values_are_separated_as_in_a_sweep() -> None:
    constant, space = draws(
        ["seed=1", "pyramid=glob([l*21])", "ema.enabled=true,false", "backbone.width=null,0.5"]
    )
    assert constant == ["seed=1"]
    assert space["pyramid"] == Choices(("l321", "l421", "l4321", "l6321"))
    assert space["ema.enabled"] == Choices(("true", "false"))
    assert space["backbone.width"] == Choices(("null", "0.5"))
