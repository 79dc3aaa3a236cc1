"""What groups are called: the choices that were typed, and numbers with a legend where names would be too long."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from written_runs import write_run

from sppcls.cli.main import main
from sppcls.comparison import Comparison, compare
from sppcls.comparison.report.content import Content, introduction
from sppcls.config.schema import default_values


def write_parts(folder: Path, *, seed: int = 0, error: float = 20, **groups: Mapping[str, Any]) -> None:
    """A run whose config has whole groups in place of others, besides the defaults of all keys."""
    write_run(folder, seed=seed, error=error)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    whole: dict[str, Any] = copy.deepcopy(default_values())
    for name, values in {**config, "loss": {"name": "cross_entropy"}, **groups}.items():
        known = whole.get(name)
        whole[name] = {**known, **values} if isinstance(known, dict) and "_target_" not in values else values
    (folder / "config.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))


def labels(comparison: Comparison) -> list[str]:
    return [group.label for group in comparison.groups]


FOCAL = {"name": "focal", "_target_": "mine.losses.focal", "gamma": 2.0}
ASYMMETRIC = {
    "name": "asymmetric", "_target_": "sppcls.nn.losses.Asymmetric", "gamma_neg": 4.0, "gamma_pos": 0.0, "clip": 0.05,
}  # fmt: skip
ZF5 = {"name": "zf5", "width": 1.0, "norm": "lrn_within"}
STOPPING = {"early_stopping": {"_target_": "pytorch_lightning.callbacks.EarlyStopping", "patience": 10}}


@pytest.mark.parametrize(
    ("first", "second", "names", "varied"),
    [
        ({}, {"loss": FOCAL}, ["loss=cross_entropy", "loss=focal"], "loss"),
        ({"loss": FOCAL}, {"loss": ASYMMETRIC}, ["loss=focal", "loss=asymmetric"], "loss"),
        ({"loss": FOCAL}, {"loss": {**FOCAL, "gamma": 1.0}}, ["loss.gamma=2.0", "loss.gamma=1.0"], "loss.gamma"),
        (
            {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}},
            {"optimizer": {"name": "adamw", "lr": 0.001, "momentum": 0.0}},
            ["optimizer=sgd", "optimizer=adamw"],
            "optimizer",
        ),
        ({"backbone": ZF5}, {"backbone": {**ZF5, "width": 0.25, "norm": "batch"}}, ["zf5", "zf5_small"], None),
        ({"backbone": ZF5}, {"backbone": {"name": "resnet18"}}, ["zf5", "resnet18"], "backbone"),
        (
            {"backbone": ZF5},
            {"backbone": {**ZF5, "width": 0.1}},
            ["backbone.width=1.0", "backbone.width=0.1"],
            "backbone.width",
        ),
        (
            {"head": {"name": "fc", "hidden": [4096, 4096], "dropout": 0.5}},
            {"head": {"name": "fc", "hidden": [256, 256], "dropout": 0.2}},
            ["head=fc", "head=fc_small"],
            "head.hidden, head.dropout",
        ),
        (
            {"scheduler": {"name": "constant"}},
            {"scheduler": {"name": "restarts", "_target_": "mine.restarts", "periods": 3}},
            ["scheduler=constant", "scheduler=restarts"],
            "scheduler",
        ),
        (
            {"data": {"batch_size": 8, "balance": 0.5}},
            {"data": {"batch_size": 9, "balance": 1.0}},
            ["data.batch_size=8,data.balance=0.5", "data.batch_size=9,data.balance=1.0"],
            "data.batch_size, data.balance",
        ),
        ({}, {"callbacks": STOPPING}, ["callbacks=[]", "callbacks=early_stopping"], "callbacks"),
        (
            {"augment": {"crop": "five", "lighting": 0.1}},
            {"augment": {"crop": "anywhere", "lighting": 0.1}},
            ["augment=paper", "augment=anywhere"],
            "augment.crop",
        ),
        (
            {"augment": {"crop": "five", "lighting": 0.1}},
            {"augment": {"crop": "mine", "_target_": "mine.augment", "shorter_side": None}},
            ["augment=paper", "augment=mine"],
            "augment",
        ),
        (
            {"augment": {"crop": "five", "lighting": 0.1}},
            {"augment": {"crop": "five", "lighting": 0.3}},
            ["augment.lighting=0.1", "augment.lighting=0.3"],
            "augment.lighting",
        ),
        (
            {"pyramid": {"levels": [2, 1]}},
            {"pyramid": {"name": "gem", "_target_": "mine.gem", "levels": [2, 1], "p": 3.0}},
            ["l21", "gem"],
            "pyramid",
        ),
        (
            {"optimizer": {"lr_factors": {}}},
            {"optimizer": {"lr_factors": {"backbone": 0.1}}},
            ["lr_factors={}", "lr_factors={backbone: 0.1}"],
            "optimizer.lr_factors",
        ),
    ],
)  # fmt: skip
def test_a_part_is_called_what_was_typed(
    tmp_path: Path,
    first: dict[str, Any],
    second: dict[str, Any],
    names: list[str],
    varied: str | None,
) -> None:
    for seed in (0, 1):
        write_parts(tmp_path / f"a{seed}", seed=seed, error=20 + seed, **first)
        write_parts(tmp_path / f"b{seed}", seed=seed, error=22.0, **second)
    comparison = compare([tmp_path])
    assert labels(comparison) == names
    assert comparison.problems == []
    assert [pair.factor for pair in comparison.pairs] == [
        (varied or "backbone").partition(",")[0].partition(".")[0]
    ]
    # What the command prints; the test of unlike runs below has it print.
    content = Content.of(comparison)
    shown = [*content.sentences, *(line for one in content.conclusions for line in one.lines)]
    out = "\n".join([introduction(comparison), *shown, *(table.text() for table in content.tables.values())])
    assert "_target_" not in out
    if varied is not None:
        assert f"varied: {varied}. " in out


def test_parameters_are_named_where_they_vary_within_a_choice(tmp_path: Path) -> None:
    write_parts(tmp_path / "a")
    write_parts(tmp_path / "b", loss=FOCAL)
    write_parts(tmp_path / "c", loss={**FOCAL, "gamma": 5.0})
    write_parts(tmp_path / "d", loss=ASYMMETRIC)
    comparison = compare([tmp_path])
    assert labels(comparison) == [
        "loss=cross_entropy", "loss=focal,gamma=2.0", "loss=focal,gamma=5.0", "loss=asymmetric",
    ]  # fmt: skip
    assert comparison.factors == {"loss": ["loss", "loss.gamma"]}
    assert len(comparison.pairs) == 6


def test_what_differs_of_two_parts_is_one_thing(tmp_path: Path) -> None:
    write_parts(tmp_path / "a", optimizer={"name": "sgd", "lr": 0.1})
    write_parts(tmp_path / "b", loss=FOCAL, optimizer={"name": "sgd", "lr": 0.2})
    (refusal,) = compare([tmp_path]).refused
    assert refusal.reason == "differ in loss and optimizer (loss, optimizer.lr)"


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that differ in so much that their names would be hundreds of characters long; two of them in one thing."""
    folder = tmp_path_factory.mktemp("unlike")
    for number in range(4):
        for seed in (0, 1):
            more = 0.5 if number == 3 else 0.1 * number
            write_parts(
                folder / f"{number}-{seed}",
                seed=seed,
                error=20.0 + number + seed * (number % 2),
                data={
                    "batch_size": 8 + min(number, 2),
                    "num_train": 100 * min(number, 2),
                    "val_fraction": 0.1,
                },
                augment={"crop": "five", "lighting": more, "erasing": 0.01 * min(number, 2)},
                backbone={"name": ("resnet18", "resnet34", "alexnet", "alexnet")[number]},
                loss=({"name": "cross_entropy"}, FOCAL, ASYMMETRIC, ASYMMETRIC)[number],
                optimizer={
                    "lr": 0.1 + min(number, 2),
                    "weight_decay": 0.1 * min(number, 2),
                    "nesterov": number == 1,
                },
            )
    return folder


def test_groups_of_unlike_runs_are_numbered_and_a_legend_says_what_they_are(
    unlike: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of matplotlib: names leave no room
        assert main(["compare", str(unlike), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "_target_" not in said
    comparison = compare([unlike])
    assert labels(comparison) == ["group 1", "group 2", "group 3", "group 4"]
    for group, backbone in zip(
        comparison.groups, ("resnet18", "resnet34", "alexnet", "alexnet"), strict=True
    ):
        assert all(len(level) <= 50 for level in group.levels.values())
        assert backbone in group.spelled
        # Once in each place, and before the errors.
        assert said.count(f"{group.label}: {group.spelled}") == 1
        for text in ((out / "comparison.md").read_text(), (out / "comparison.html").read_text()):
            assert text.count(group.spelled) == 1
    assert said.index("group 4: ") < said.index("val_96/top1_error  ")
    (pair,) = comparison.pairs
    assert (pair.factor, pair.first.label, pair.second.label) == ("augment", "group 3", "group 4")
    assert "group 4 is 1.50 percentage points higher than group 3" in said
    events = EventAccumulator(str(out))
    events.Reload()
    (tag,) = (tag for tag in events.Tags()["tensors"] if "legend" in tag)
    assert comparison.groups[0].spelled in events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
    assert sorted(path.name for path in (out / "mean").iterdir() if path.name.startswith("group")) == labels(
        comparison
    )
    assert [group.label for group in compare([unlike], baseline="group 3").groups] == labels(comparison)


def test_paths_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_parts(tmp_path / name, data={"root": f"/a/long/way/to/the/photos/of/{name}"})
    write_parts(tmp_path / "third", data={"root": "/b/one"})
    assert labels(compare([tmp_path / "one", tmp_path / "other"])) == ["data.root=one", "data.root=other"]
    assert labels(compare([tmp_path / "one", tmp_path / "third"])) == [
        "data.root=/a/long/way/to/the/photos/of/one", "data.root=/b/one",
    ]  # fmt: skip
