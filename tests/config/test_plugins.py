"""Parts of one's own in configs: their signature is their schema, and no file chooses which code runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import sppcls
from sppcls import registry
from sppcls.cli.main import main
from sppcls.config.schema import as_dict
from sppcls.errors import CheckpointError, ConfigError
from sppcls.nn import build_classifier
from sppcls.runs.checkpoint import make_model_info

PARTS = '''
from typing import Literal
import os
from os import system
from torch import nn
from sppcls.registry import register

open(os.path.join(os.path.dirname(__file__), "imported"), "w").close()


@register("backbone", "striped")
class Stripes(nn.Sequential):
    """A trunk.

    Args:
        width: channels, in the middle.
        norm: of each layer.
    """

    def __init__(self, width: int = 8, *, norm: Literal["batch", "none"] = "none", sides: tuple[int, int] = (3, 5),
                 scale: float | None = None, names: list[str] = ("a",), anything=None):
        super().__init__(nn.Conv2d(3, width, sides, 8))


def not_a_module(width: int = 3):
    return width


def raises(width: int = 3):
    raise KeyError("inside")


class Child(nn.Conv2d):
    pass


value = 3
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a package that can be imported and that nobody has named."""
    name = f"parts_{tmp_path.name}".replace("-", "_")
    (tmp_path / "lib" / name).mkdir(parents=True)
    (tmp_path / "lib" / name / "__init__.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setenv(registry.VARIABLE, "")
    monkeypatch.setattr(registry, "_registered", {group: {} for group in registry.DOORS})
    yield name
    sys.modules.pop(name, None)


def backbone_of(*words: str, config_dir: Path | None = None) -> dict[str, Any]:
    found: dict[str, Any] = as_dict(sppcls.compose(list(words), config_dir))["backbone"]
    return found


def test_the_signature_is_the_schema(package: str) -> None:
    found = backbone_of(
        f"plugins=[{package}]", f"+backbone._target_={package}.Stripes", "backbone.sides=[1,2]"
    )
    assert found == {
        "name": "striped", "_target_": f"{package}.Stripes", "weights": None, "width": 8, "norm": "none",
        "sides": [1, 2], "scale": None, "names": ["a"], "anything": None,
    }  # fmt: skip
    by_name = backbone_of(f"plugins={package}", "backbone.name=striped", "backbone.scale=2")
    assert (by_name["_target_"], by_name["scale"]) == (f"{package}.Stripes", 2.0)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("backbone.width=wide", "backbone.width=wide: must be a whole number"),
        ("backbone.norm=layer", "backbone.norm=layer: choose from batch, none"),
        ("backbone.scale=x", "backbone.scale=x: must be a number or null"),
        ("backbone.sides=[a]", "backbone.sides=['a']: must be a list of whole numbers"),
        ("backbone.withd=3", "backbone.withd: unknown key (did you mean 'width'?); known: name, _target_, weights, width, norm, "
                             "sides, scale, names, anything"),
        ("backbone.model=x", "backbone.model: unknown key; known: name, _target_, weights, width, norm, sides, scale, names, anything; "
                             "striped does not take it: leave it out"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_one_line(word: str, line: str, package: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backbone_of(f"plugins=[{package}]", f"+backbone._target_={package}.Stripes", word)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("{package}.nothing", "has no nothing"),
        ("{package}.value", "is no class or function of {package}"),
        ("{package}.system", "is no class or function of {package}"),
        ("{package}.os.system", "{package}.os cannot be imported: no such module"),
        ("{package}.nn.Conv2d", "{package}.nn cannot be imported: no such module"),
        ("os.system", "a file never chooses which code runs; if you trust the package, name it: plugins=[os] (--plugins os)"),
        ("builtins.eval", "name it: plugins=[builtins]"),
        ("sppcls._util.files.replacing", "name it: plugins=[sppcls]"),
        ("{package}", "must be package.module.name of a class or function"),
        ("..Stripes", "must be package.module.name of a class or function"),
        ("{package}.Stripes.__init__", "cannot be imported"),
    ],
)  # fmt: skip
def test_targets_that_lead_elsewhere_are_refused(target: str, line: str, package: str) -> None:
    with pytest.raises(ConfigError) as caught:
        backbone_of(f"plugins=[{package}]", f"++backbone._target_={target.format(package=package)}")
    assert line.format(package=package) in str(caught.value)


def never_imported(package: str) -> bool:
    import importlib.util

    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return package not in sys.modules and not (Path(spec.origin).parent / "imported").exists()


def test_no_file_names_a_package(package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither by plugins, nor by _target_, in an experiment, a group, a sweep or a search."""
    conf = tmp_path / "conf"
    target = {"backbone": {"_target_": f"{package}.Stripes"}}
    files: dict[str, Any] = {
        "experiment/names.yaml": {"plugins": [package], **target},
        "experiment/takes.yaml": target,
        "experiment/hydra.yaml": {"hydra": {"callbacks": {"x": {"_target_": f"{package}.raises"}}}},
        "experiment/logs.yaml": {
            "hydra": {"job_logging": {"formatters": {"x": {"()": f"{package}.raises"}}}}
        },
        "backbone/theirs.yaml": target["backbone"],
        "callbacks/theirs.yaml": {"theirs": {"_target_": f"{package}.raises"}},
        "logger/theirs.yaml": {"theirs": {"_target_": f"{package}.raises"}},
        "sweep/theirs.yaml": {"fixed": [f"plugins=[{package}]"], "params": {"seed": [0, 1]}},
        "sweep/params.yaml": {"params": {"seed": [0, 1], "plugins": [package]}},
        "sweep/cells.yaml": {"cells": {"a": [f"+plugins=[{package}]"], "b": ["seed=1"]}},
        "sweep/targets.yaml": {
            "fixed": [f"++backbone._target_={package}.Stripes"],
            "params": {"seed": [0, 1]},
        },
        "sweep/plus.yaml": {"params": {"seed": [0, 1], "++plugins": [f"[{package}]"]}},
        "search/plus.yaml": {"params": {"optimizer.lr": [0.1, 0.2], "+plugins": [package]}},
        "experiment/env.yaml": {"hydra": {"job": {"env_set": {"SPPCLS_PLUGINS": package}}}, **target},
        "experiment/moved.yaml": {"defaults": [{"/backbone@hydra.callbacks.x": "theirs"}]},
        "experiment/logged.yaml": {"defaults": [{"/backbone@hydra.job_logging": "theirs"}]},
        "search/theirs.yaml": {"fixed": [f"plugins=[{package}]"], "params": {"optimizer.lr": [0.1, 0.2]}},
    }
    for name, content in files.items():
        (conf / name).parent.mkdir(parents=True, exist_ok=True)
        head = "# @package _global_\n" if name.startswith("experiment") else ""
        (conf / name).write_text(head + yaml.safe_dump(content), encoding="utf-8")
    for words in (
        ["train", "experiment=names"], ["train", "experiment=takes"],
        ["train", "experiment=hydra"], ["train", "experiment=logs"], ["train", "backbone=theirs"], ["train", "callbacks=theirs"], ["train", "logger=[tensorboard,theirs]"],
        ["train", "-m", "+sweep=theirs"], ["train", "-m", "+sweep=params"], ["train", "-m", "+sweep=cells"],
        ["train", "-m", "+sweep=plus"], ["search", "+search=plus", "n_trials=2"], ["train", "experiment=env"],
        ["train", "experiment=moved"], ["train", "experiment=logged"], ["train", "-m", "+sweep=targets"], ["search", "+search=theirs", "n_trials=2"],
    ):  # fmt: skip
        where = [f"runs_dir={tmp_path / 'runs'}", "trainer.max_epochs=1"]
        assert main([*words, *where, "--config-dir", str(conf)]) == 1, words
        printed = capsys.readouterr().err
        assert "a file never chooses which code runs" in printed, (words, printed)
    assert never_imported(package)
    assert not (tmp_path / "runs").exists()


def checkpoint_of(package: str, path: Path, **groups: dict[str, Any]) -> Path:
    """A checkpoint whose description names parts of a package."""
    config = as_dict(sppcls.compose(["backbone=zf5_small", "pyramid=l1", "head=linear"]))
    parts = {group: {**config[group]} for group in ("backbone", "pyramid", "head")}
    architecture = {**parts, "num_classes": 2, "input_size": [64, 64], "init": "modern"}
    net = build_classifier(**{**architecture, "input_size": (64, 64)})
    for name, values in groups.items():
        architecture[name] = config[name] = values
    info = make_model_info(
        architecture=architecture, classes=["a", "b"], mean=[0.5] * 3, std=[0.5] * 3, train_sizes=[(64, 64)],
        val_sizes=[(64, 64)], config=config,
    )  # fmt: skip
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"sppcls": info, "state_dict": state}, path)
    return path


@pytest.mark.parametrize("group", ["backbone", "pyramid", "head"])
def test_a_checkpoint_says_which_package_it_needs_and_imports_nothing(
    group: str, package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint_of(package, tmp_path / "x.ckpt", **{group: {"_target_": f"{package}.raises"}})
    with pytest.raises(CheckpointError, match=rf"name it: plugins=\[{package}\]"):
        sppcls.load_classifier(path)
    assert main(["predict", str(path), "photo.jpg"]) == 1
    assert main(["train", f"ckpt_path={path}"]) == 1
    assert "plugins" in capsys.readouterr().err
    assert never_imported(package)


def test_what_a_checkpoint_names_in_plugins_is_not_obeyed(package: str, tmp_path: Path) -> None:
    path = checkpoint_of(
        package, tmp_path / "x.ckpt", plugins=[package], backbone={"_target_": f"{package}.Stripes"}
    )  # type: ignore[arg-type]
    assert main(["train", f"ckpt_path={path}", f"runs_dir={tmp_path / 'runs'}"]) == 1
    assert never_imported(package)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("not_a_module", r"backbone .*\.not_a_module: gives a int, not a torch.nn.Module"),
        ("raises", r"backbone: .*\.raises cannot be built: KeyError: 'inside' \(__init__.py, line \d+\)"),
        ("Child", r"backbone: .*\.Child cannot be built: TypeError: .*in_channels"),
    ],
)
def test_a_part_that_fails_is_one_line_with_the_place(name: str, line: str, package: str) -> None:
    registry.allow_plugins(package)
    with pytest.raises((ConfigError, ValueError), match=line):
        build_classifier(
            backbone={"_target_": f"{package}.{name}"}, pyramid={"levels": [1]}, head={"name": "linear"},
            num_classes=2, input_size=(64, 64),
        )  # fmt: skip


def test_every_way_to_name_a_package(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = f"++backbone._target_={package}.Stripes"
    with pytest.raises(ConfigError, match="a file never chooses"):
        backbone_of(target)
    monkeypatch.setenv(registry.VARIABLE, package)
    assert backbone_of(target)["width"] == 8
    monkeypatch.setenv(registry.VARIABLE, "")
    metadata = tmp_path / "lib" / f"{package}-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(f"[sppcls.plugins]\nmine = {package}\n", encoding="utf-8")
    assert backbone_of("backbone.name=striped")["width"] == 8


@pytest.mark.parametrize(
    ("plugins", "line"),
    [
        ("no_such_package", "plugins: no_such_package cannot be imported: no such module"),
        ("a-b", "plugins=a-b: must be the name of a Python package"),
        ("../x", "plugins=../x: must be the name of a Python package"),
    ],
)
def test_a_package_that_is_none_is_one_line(plugins: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        sppcls.compose([f"plugins=[{plugins}]"])


def test_a_header_does_not_move_a_file_into_hydras_section(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "backbone").mkdir()
    (tmp_path / "backbone" / "hdr.yaml").write_text(
        f"# @package _global_.hydra.callbacks.x\n_target_: {package}.raises\n", encoding="utf-8"
    )
    assert main(["train", "backbone=hdr", "--config-dir", str(tmp_path)]) == 1
    assert "hydra.callbacks: stands in a file" in capsys.readouterr().err
    assert never_imported(package)


@pytest.mark.parametrize(
    "words",
    [
        ["++loss._target_=torch.nn.modules.module.register_module_forward_hook"],
        ["++loss._target_=torch.nn.Parameter"],
        ["+callbacks.x._target_=pytorch_lightning.loggers.CSVLogger"],
        ["++optimizer._target_=torch.optim.lr_scheduler.StepLR", "optimizer.lr=1"],
        ["+callbacks.x._target_=[a]"],
        ["++backbone._target_=[a]"],
    ],
)
def test_a_library_gives_parts_of_its_kind_alone(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="_target_"):
        sppcls.compose(words)


def test_a_shared_key_is_ours_and_odd_defaults_are_left_out(package: str, tmp_path: Path) -> None:
    found = as_dict(
        sppcls.compose(
            ["++optimizer._target_=torch.optim.AdamW", "optimizer.lr=1", "optimizer.weight_decay=0"]
        )
    )
    assert found["optimizer"]["weight_decay"] == 0.0
    module = sys.modules[sppcls.registry.allow_plugins(package) or package]  # type: ignore[func-returns-value]

    class Odd(torch.nn.Conv2d):
        def __init__(self, act: Any = torch.nn.ReLU, cap: float = float("inf"), width: int = 4) -> None:
            super().__init__(3, width, 3, 2)

    Odd.__module__, Odd.__qualname__ = package, "Odd"
    module.Odd = Odd  # type: ignore[attr-defined]
    assert backbone_of(f"plugins=[{package}]", f"++backbone._target_={package}.Odd").keys() == {
        "name", "_target_", "weights", "width",
    }  # fmt: skip


def test_a_checkpoint_alone_chooses_no_folder_and_no_address(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    from sppcls.config.compose import compose_unchecked
    from sppcls.config.restore import restore

    given = compose_unchecked([])
    saved = as_dict(
        sppcls.compose(["callbacks=[early_stopping,model_checkpoint]", "logger=[tensorboard,csv]"])
    )
    assert restore(saved, given, [], "x.ckpt").callbacks.keys() == {"early_stopping", "model_checkpoint"}
    for group, name, key, value in (
        ("callbacks", "model_checkpoint", "dirpath", "/home/somebody"),
        ("logger", "csv", "save_dir", "/home/somebody"),
    ):
        hostile = OmegaConf.to_container(OmegaConf.create(saved))
        hostile[group][name][key] = value  # type: ignore[index,call-overload]
        with pytest.raises(
            ConfigError, match=rf"x.ckpt: {group}.{name}.{key}=/home/somebody: only the checkpoint says so"
        ):
            restore(hostile, given, [], "x.ckpt")  # type: ignore[arg-type]
        typed = f"{group}=[]"
        assert restore(hostile, compose_unchecked([typed]), [typed], "x.ckpt")  # type: ignore[arg-type]


def test_every_group_takes_name_and_target(package: str) -> None:
    registry.allow_plugins(package)
    module = sys.modules[package]

    def shake(image: Any, region: Any, by: int = 2) -> Any:
        return image

    def blobs(count: int = 3) -> Any:
        return count

    for part in (shake, blobs):
        part.__module__, part.__qualname__ = package, part.__name__
        setattr(module, part.__name__, part)
    registry.register("augment")(shake)
    for key in ("name", "crop"):
        found = as_dict(sppcls.compose([f"augment.{key}=shake", "augment.by=4"]))["augment"]
        assert (found["crop"], found["by"], "name" in found) == ("shake", 4, False)
    config = sppcls.compose([f"plugins=[{package}]", f"data._target_={package}.blobs", "data.count=5"])
    assert (config.name, as_dict(config)["data"]["count"]) == ("blobs", 5)
    with pytest.raises(
        ConfigError,
        match=r"backbone.name=stripd: choose from zf5, .*timm, striped \(did you mean 'striped'\?\)",
    ):
        backbone_of(f"plugins=[{package}]", "backbone.name=stripd")


def test_a_function_is_called_by_names(package: str) -> None:
    registry.allow_plugins(package)
    module = sys.modules[package]

    def swapped(target: str, logits: str, gamma: float = 1.0) -> tuple[str, str, float]:
        return logits, target, gamma

    swapped.__module__, swapped.__qualname__ = package, "swapped"
    module.swapped = swapped  # type: ignore[attr-defined]
    loss = registry.build("loss", {"_target_": f"{package}.swapped", "gamma": 2.0}, num_classes=3)
    assert loss("logits", "target") == ("logits", "target", 2.0)


def test_our_own_parts_use_the_door(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of sppcls with a decorated part, and a file that names it, are all that a new part of ours needs."""
    import types

    module = types.ModuleType("sppcls.nn.new_trunk")

    class New(torch.nn.Conv2d):
        def __init__(self, width: int = 4) -> None:
            super().__init__(3, width, 3, 2)

    New.__module__, New.__qualname__ = "sppcls.nn.new_trunk", "New"
    module.New = registry.register("backbone", "new")(New)  # type: ignore[attr-defined]
    module.other = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sppcls.nn.new_trunk", module)
    assert backbone_of("++backbone._target_=sppcls.nn.new_trunk.New", "backbone.width=6")["width"] == 6
    with pytest.raises(ConfigError, match="a file never chooses"):
        backbone_of("++backbone._target_=sppcls.nn.new_trunk.other")
    with pytest.raises(ConfigError, match="a file never chooses"):
        backbone_of("++backbone._target_=sppcls.data.archives.unpack")


def test_names_are_given_once() -> None:
    add: Callable[..., Any] = registry.register("loss", "cross_entropy")
    with pytest.raises(ConfigError, match="another part has this name"):
        add(lambda logits, target: logits)
    with pytest.raises(ConfigError, match="choose from backbone"):
        registry.register("trunk")


@pytest.fixture
def forgetful(package: str) -> str:
    """A package with a head whose parameters have the names of our keys and defaults of their own."""
    import importlib.util

    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    with open(spec.origin, "a", encoding="utf-8") as file:
        file.write(
            '\n\n@register("head", "forgetful")\nclass Forgetful(nn.Linear):\n'
            "    def __init__(self, in_features, num_classes, dropout: float = 0.5, flag: bool = False):\n"
            "        super().__init__(in_features, num_classes)\n"
        )
    return package


@pytest.mark.parametrize("how", ["word", "target", "file"])
def test_a_value_that_is_our_default_is_taken_where_the_part_has_another(
    how: str, forgetful: str, tmp_path: Path
) -> None:
    (tmp_path / "conf" / "head").mkdir(parents=True)
    file = {"_target_": f"{forgetful}.Forgetful", "dropout": 0.0}
    (tmp_path / "conf" / "head" / "mine.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")
    words = {
        "word": ["head.name=forgetful", "head.dropout=0"],
        "target": [f"++head._target_={forgetful}.Forgetful", "head.dropout=0.0"],
        "file": ["head=mine"],
    }[how]
    chosen = as_dict(sppcls.compose([f"plugins=[{forgetful}]", *words], tmp_path / "conf"))["head"]
    assert chosen["dropout"] == 0.0
    untouched = as_dict(sppcls.compose([f"plugins=[{forgetful}]", "head.name=forgetful"]))["head"]
    assert untouched == {
        "name": "forgetful",
        "_target_": f"{forgetful}.Forgetful",
        "dropout": 0.5,
        "flag": False,
    }


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["head.name=forgetful", "head.flag=3"], "head.flag=3: must be true or false"),
        (["data.check=3"], "data.check=3: must be true or false"),
        (["backbone.name=striped", "backbone.width=null"], "backbone.width=null: must be a whole number"),
    ],
)
def test_what_no_type_takes_is_one_line(words: list[str], line: str, forgetful: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sppcls.compose([f"plugins=[{forgetful}]", *words])
    assert str(caught.value) == line


def test_a_part_of_ours_that_is_registered_when_used_lets_no_unknown_key_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.check=0"):
        sppcls.compose(["data=shards", f"data.root={tmp_path}", "data.check=0"])
    with pytest.raises(ConfigError, match=r"optimizer\.lr has no keys of its own"):
        sppcls.compose(["optimizer.lr.x=3"])
