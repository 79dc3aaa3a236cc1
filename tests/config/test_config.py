"""Every shipped config builds; every wrong value is one line that names its key."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from sppcls import compose
from sppcls.config.build import build_network, parameter_count
from sppcls.config.checks import check_config
from sppcls.config.command_line import read_command_line
from sppcls.config.compose import compose_unchecked, group_choices
from sppcls.config.restore import restore
from sppcls.config.schema import Config, as_dict
from sppcls.errors import ConfigError
from sppcls.registry import DOORS, is_own

CHOICES = [(g, c) for g, choices in group_choices().items() for c in choices]

# Total parameters in millions with 1000 classes, from the layer sizes of Table 1 (see tests/nn for the arithmetic).
MILLIONS = {
    ("zf5", "nospp"): 62.36, ("zf5", "single"): 77.04, ("zf5", "multi"): 77.04, ("zf5", "single_30bins"): 56.07,
    ("convnet_star5", "nospp"): 62.38, ("convnet_star5", "single"): 77.06, ("convnet_star5", "multi"): 77.06,
    ("overfeat5", "nospp"): 102.9, ("overfeat5", "single"): 132.3, ("overfeat5", "multi"): 132.3,
    ("overfeat7", "nospp"): 107.6, ("overfeat7", "single"): 137.0, ("overfeat7", "multi"): 137.0,
    ("overfeat7", "random"): 137.0,
}  # fmt: skip


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_shipped_choice_composes_and_builds(group: str, choice: str) -> None:
    overrides = [f"{group}={choice}"]
    if group in ("data", "experiment") and choice != "shapes" and "detect_" not in choice:
        overrides.append("data.root=photos")
    if choice == "none" and group == "pyramid":
        overrides.append("sizes=single_224")
    if choice == "conv":
        overrides += ["pyramid=none"]
    config = compose(overrides)
    if config.backbone.name == "timm":
        pytest.importorskip("timm")
    if group in ("backbone", "pyramid", "head", "experiment"):
        with torch.device("meta"):
            build_network(config, 1000)


def test_what_is_composed_has_every_key(tmp_path: Path) -> None:
    def keys(schema: Any) -> dict[str, Any]:
        return {
            spec.name: keys(spec.default_factory) if dataclasses.is_dataclass(spec.default_factory) else None
            for spec in dataclasses.fields(schema)
        }

    def names(values: Any) -> Any:
        return {name: names(v) if isinstance(v, dict) else None for name, v in values.items()}

    for group, choices in group_choices().items():
        for choice in choices:
            composed = compose_unchecked([f"{group}={choice}", f"runs_dir={tmp_path}"])
            if group in DOORS and is_own(group, OmegaConf.to_container(composed).get(group)):
                continue  # its keys are those of its signature
            plain = {name: composed[name] for name in composed}
            assert set(plain) == set(keys(Config)), choice
            for name, nested in keys(Config).items():
                if nested is not None:
                    assert set(plain[name]) == set(nested), f"{choice}: {name}"


def test_every_cell_of_table_2_is_there_with_its_size() -> None:
    cells = [c.removeprefix("paper/") for c in group_choices()["experiment"] if c.startswith("paper/")]
    cells = [cell for cell in cells if not cell.startswith("detect_")]
    assert sorted(cells) == sorted(f"{net}_{kind}" for net, kind in MILLIONS)
    for (net, kind), millions in MILLIONS.items():
        config = compose([f"experiment=paper/{net}_{kind}", "data.root=x"])
        assert config.init == "paper"
        assert config.scheduler.name == "paper"
        assert config.trainer.max_epochs == (70 if net == "zf5" else 90)
        assert config.sizes.sizes == {"multi": [224, 180], "random": [180, 224]}.get(kind, [224])
        assert (config.pyramid.levels is None) == (kind == "nospp")
        with torch.device("meta"):
            count = parameter_count(build_network(config, 1000)) / 1e6
        assert count == pytest.approx(millions, abs=0.006 if millions < 100 else 0.06)


BAD = [
    ("backbone=foo", "backbone=foo: choose from"),
    ("pyramid=l632", "did you mean 'l6321'?"),
    ("experiment=paper/zf6", "experiment=paper/zf6: choose from"),
    ("pyramid.level=[4]", "pyramid.level: unknown key (did you mean 'levels'?)"),
    ("optimzer.lr=1", "optimzer"),
    ("+head.width=3", "head.width: unknown key"),
    ("~head.dropout", "head.dropout: missing"),
    ("foo=1", "foo: unknown key"),
    ("optimizer.lr=abc", "optimizer.lr=abc: must be a number"),
    ("optimizer={a:1}", "optimizer: a config group; choose from adamw, sgd, or set its keys as optimizer.KEY=VALUE"),
    ("trainer.compile=maybe", "trainer.compile=maybe: must be true or false"),
    ("trainer.limit_val_batches=x", "trainer.limit_val_batches=x: must be a whole number or null"),
    ("data.batch_size=null", "data.batch_size=null: must be a whole number"),
    ("augment.scale=1", "augment.scale=1: must be a list of numbers"),
    ("freeze=backbone", "freeze=backbone: must be a list of names; type freeze=[backbone]"),
    ("head.hidden=16", "head.hidden=16: must be a list of whole numbers; type head.hidden=[16]"),
    ("head.hidden=[a]", "head.hidden=['a']: must be a list of whole numbers"),
    ("optimizer.lr=0", "optimizer.lr=0.0: must be > 0"),
    ("optimizer.lr=-1", "optimizer.lr=-1.0: must be > 0"),
    ("optimizer.lr=nan", "optimizer.lr=nan"),
    ("pyramid.levels={a:1}", "pyramid.levels={a:1}: must be a list or null"),
    ("++data.mean={a:1}", "data.mean={a:1}: must be a list of numbers"),
    ("evaluation.protocols=[{a:1}]", "evaluation.protocols=[{'a': 1}]: must be a list of names or null"),
    ("evaluation.protocols={a:1}", "evaluation.protocols={'a': 1}: must be a list of names or null"),
    ("evaluation.protocols=[center,[full]]", "evaluation.protocols=['center', ['full']]: must be a list of names"),
    ("sizes=[a]", "sizes=[a]: choose from multi_224_180, "),
    ("sizes=[single_224,b]", "sizes=[single_224,b]: choose from multi_224_180, "),
    ("seed=" + 5000 * "7", "seed=77777777777777777777...: too long a number"),
    ("optimizer.betas=[0.9]", "optimizer.betas"),
    ("mix.mixup=1e-320", "mix.mixup=1e-320: must be 0, for none, or >= 1e-06"),
    ("trainer.max_epochs=0", "trainer.max_epochs=0: must be >= 1"),
    ("trainer.max_epochs=1.5", "trainer.max_epochs=1.5: must be a whole number"),
    ("trainer.devices=many", "trainer.devices=many"),
    ("trainer.strategy=foo", "trainer.strategy=foo: choose from auto, ddp"),
    ("trainer.devices=true", "trainer.devices=True"),
    *(
        (f"trainer.devices={value}", ": must be a number >= 1, a list of different GPU numbers >= 0, or auto")
        for value in ("0", "1.5", "[]", "[a]", "[[1]]", "[1.5]", "[-1]", "[true]", "[0,0]", "???")
    ),
    ("trainer.val_every=3", "must divide trainer.max_epochs=8"),
    ("trainer.precision=fp8", "trainer.precision=fp8: choose from"),
    ("data.batch_size=0", "data.batch_size=0"),
    ("data.workers=-1", "data.workers=-1"),
    ("data.mean=[1,2,3]", "data.mean"),
    ("data.std=[0,1,1]", "data.std"),
    ("data=folder", "data.root: missing"),
    ("data.root=photos", "for photos add data=folder"),
    ("epochs=3", "did you mean 'trainer.max_epochs'?"),
    ("lr=3", "did you mean 'optimizer.lr'?"),
    ("optimzer.lr=3", "optimzer.lr: unknown config group optimzer (did you mean 'optimizer'?); config groups: augment, backbone, data,"),
    ("name.x=3", "name.x: unknown config group name; config groups: augment"),
    ("optimizer.lr.x=3", "optimizer.lr.x: optimizer.lr has no keys of its own"),
    ("data.on_error=ignore", "data.on_error=ignore: choose from skip, raise"),
    ("sizes.sizes=[]", "sizes.sizes"),
    ("sizes.sizes=[224,0]", "sizes.sizes"),
    ("sizes.sizes=[64]", "takes two sizes or more; sizes.kind=single trains at one"),
    ("sizes=single_224 sizes.sizes=[64,48]", "takes one size, not 2; sizes.kind=alternate trains at several in turn"),
    ("sizes.kind=triple", "sizes.kind=triple: choose from"),
    ("sizes=random_180_224 sizes.sizes=[224,180]", "sizes.sizes"),
    ("sizes.val_sizes=[]", "sizes.val_sizes"),
    ("sizes.val_sizes=[-3]", "sizes.val_sizes"),
    ("head.dropout=1.5", "head.dropout=1.5: must be >= 0 and <= 0.99"),
    ("scheduler.milestones=[2]", "scheduler.milestones"),
    ("augment.scale=[1,0.5]", "augment.scale"),
    ("seed=-1", "seed=-1: must be >= 0"),
    ("ema.decay=1", "ema.decay=1.0"),
    ("pyramid.levels='[4,2,1]'", "pyramid.levels"),
    ("optimizer.lr=a=b", "optimizer.lr=a=b: must be a number"),
    ("pyramid.levels=[6,", "pyramid.levels=[6,: must be a list or null; write it without blanks"),
    ("pyramid=l4:2", "pyramid=l4:2: choose from l1, "),
    ("seed=1,2", "seed=1,2: several values; add -m to train with each of them"),
    ("head.hidden=64,32", "add -m to train with each of them, or make a list: head.hidden=[64,32]"),
    ("ckpt_path=???", "ckpt_path=???: ??? stands for a missing value; a file or folder of that name is ./???"),
    ("data.root='???'", "data.root='???': ??? stands for a missing value"),
    ("seed=???", "seed=???: must be a whole number"),
    ("~data.root", "~data.root: a key cannot be left out; give it another value, or null"),
    ("lr=a=b", "lr: unknown key (did you mean 'optimizer.lr'?); type optimizer.lr=a=b"),
    ("a&b=1", "a&b=1: cannot be read ("),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), BAD, ids=[overrides[:60] for overrides, _ in BAD])
def test_a_wrong_value_is_one_line_that_names_it(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(overrides.split())
    text = str(caught.value)
    assert message in text
    assert "\n" not in text


BAD_NETWORKS = [
    ("pyramid.levels=[]", "pyramid.levels"),
    ("pyramid.levels=[0]", "pyramid.levels"),
    ("pyramid.levels=[a]", "pyramid.levels"),
    ("pyramid.levels=[[1,2,3]]", "pyramid.levels"),
    ("sizes=single_224 sizes.sizes=[8]", "too small"),
    ("head.hidden=[0]", "head.hidden"),
    ("head=conv", "pyramid.levels=null"),
    ("backbone=resnet18 backbone.width=0.5", "backbone.width"),
    ("backbone.weights=/nowhere/w.pth", "/nowhere/w.pth"),
]


@pytest.mark.parametrize(("overrides", "message"), BAD_NETWORKS)
def test_an_impossible_network_is_one_line_too(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network(compose(overrides.split()), 10)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_seed_zero_is_a_seed() -> None:
    assert compose(["seed=0"]).seed == 0


def test_a_resumed_run_keeps_its_config_but_for_what_is_said() -> None:
    saved = as_dict(compose(["pyramid=l421", "optimizer.lr=0.5", "sizes=single_180", "trainer.max_epochs=3"]))
    words = ["trainer.max_epochs=9", "sizes=multi_224_180", "ckpt_path=x/last.ckpt"]
    resumed = restore(saved, compose_unchecked(words), words, "last.ckpt")
    assert resumed.pyramid.levels == [4, 2, 1]
    assert resumed.optimizer.lr == 0.5
    assert resumed.trainer.max_epochs == 9
    assert resumed.sizes.sizes == [224, 180]
    assert resumed.ckpt_path == "x/last.ckpt"


def test_a_config_survives_being_written_and_read() -> None:
    config = compose(["experiment=flowers5_multi", "data.root=x"])
    assert check_config(as_dict(config)) == config


def test_own_configs_are_found(tmp_path) -> None:
    (tmp_path / "pyramid").mkdir()
    (tmp_path / "pyramid" / "mine.yaml").write_text("levels: [5, 1]\nmode: avg\nbin_rule: adaptive\n")
    assert compose(["pyramid=mine"], config_dir=tmp_path).pyramid.levels == [5, 1]
    with pytest.raises(ConfigError, match="no such folder"):
        compose([], config_dir=tmp_path / "missing")


def test_command_line_is_split_into_overrides_and_flags() -> None:
    words = ["a=1", "--config-dir", "d", "--resolve", "b=2", "--cfg", "job", "c=3"]
    line = read_command_line(words)
    assert (line.overrides, line.config_dir) == (["a=1", "b=2", "c=3"], "d")
