"""Targets of the configuration: any values, values that can be trained with in a second, and odd command lines."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image
from tiny_runs import TINY

from fuzzing.target import Target
from fuzzing.values import ODD_TEXT, VALUES, misshapen
from sppcls import compose, train
from sppcls.cli.main import main
from sppcls.config.checks import check_config
from sppcls.config.compose import to_yaml
from sppcls.config.schema import Config, as_dict
from sppcls.errors import ConfigError, SppclsError
from sppcls.sweeps.plan import plan_sweep
from sppcls.sweeps.search.space import plan_search

Keys = dict[str, Any]


def photos(folder: Path) -> Path:
    """Two classes of eight images each, of many shapes."""
    for number in range(16):
        path = folder / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (3 + 7 * number, 108 - 6 * number, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def base_config(root: Path) -> dict[str, Any]:
    """A config that trains in a second, as plain values."""
    words = [word for word in TINY if not word.startswith("data.num")]
    more = ["data.batch_size=4", "trainer.max_epochs=2", "trainer.limit_train_batches=2", "log.progress=lines",
            "data=folder", f"data.root={root}"]  # fmt: skip
    return as_dict(compose([*words, *more]))


def told(error: SppclsError, given: Any) -> str:
    """One line, unless what was given has several."""
    assert str(error)
    assert len(str(error).splitlines()) == 1 or len(repr(given)) != len(repr(given).replace("\\", "")), error
    return "refused"


def any_values(root: Path) -> Target:
    """A config with anything in any place: refused, or the same after it has been written and read again."""
    base = base_config(root)

    def check(config: dict[str, Any]) -> str:
        try:
            checked = check_config(config)
        except ConfigError as error:
            return told(error, config)
        written = to_yaml(checked)
        assert as_dict(check_config(yaml.safe_load(written))) == as_dict(checked)
        return "fine"

    return Target(misshapen(base), check)


# What the schema's bounds say nothing of, or would make a run of more than a second.
SIDES = st.integers(1, 100)
SIZE = st.one_of(SIDES, SIDES, st.lists(SIDES, min_size=2, max_size=2))
LEVELS = st.lists(
    st.one_of(st.integers(1, 8), st.lists(st.integers(1, 8), min_size=2, max_size=2)), min_size=1, max_size=4
)
SMALL = st.floats(1e-4, 10)
PROTOCOLS = ["center", "ten_view", "full", "full_flip", "feature_ten_view", "multi_scale_96", "nothing"]


@st.composite
def sizes(draw: st.DrawFn) -> Keys:
    kind = draw(st.sampled_from(["single", "alternate", "random_epoch", "random_batch", "progressive"]))
    if kind in ("single", "alternate"):
        count = 1 if kind == "single" else draw(st.integers(2, 4))
        found = draw(st.lists(SIZE, min_size=count, max_size=count))
        return {
            "kind": kind,
            "sizes": found,
            "step": 1,
            "period": draw(st.integers(1, 3)) if count > 1 else 1,
        }
    low, step, stops = draw(st.integers(20, 70)), draw(st.integers(1, 9)), draw(st.integers(1, 4))
    high: Any = low + step * stops
    if draw(st.booleans()):
        low, high = [low, low], [high, high + draw(st.integers(0, 20))]
    return {"kind": kind, "sizes": [low, high], "step": step, "period": 1}


BACKBONES = st.one_of(
    st.fixed_dictionaries({
        "name": st.sampled_from(["zf5", "convnet_star5", "overfeat5", "overfeat7"]),
        "width": st.sampled_from([0.01, 0.0625, 0.1]),
        "norm": st.sampled_from(["lrn_within", "lrn_across", "batch", "none", None]),
    }),
    st.fixed_dictionaries({
        "name": st.sampled_from(["resnet18", "mobilenet_v3_small", "efficientnet_b0", "alexnet", "timm"]),
        "width": st.none(),
        "norm": st.none(),
        "model": st.sampled_from([None, None, None, "resnet10t", "no such model"]),
    }),
)  # fmt: skip

PYRAMIDS = st.one_of(
    st.fixed_dictionaries({
        "levels": LEVELS,
        "mode": st.sampled_from(["max", "avg", "sum"]),
        "bin_rule": st.sampled_from(["adaptive", "sliding", "padded"]),
    }),
    st.just({"levels": None, "mode": "max", "bin_rule": "adaptive"}),
)  # fmt: skip

# Keys that are drawn together, by their group; the rest one by one.
TOGETHER = {"sizes": sizes(), "backbone": BACKBONES, "pyramid": PYRAMIDS}

ALONE: dict[str, st.SearchStrategy[Any]] = {
    "data.val_fraction": st.floats(0.01, 0.9),
    "data.folds": st.one_of(st.none(), st.integers(2, 4)),
    "data.fold": st.one_of(st.none(), st.integers(0, 3)),
    "data.sampler": st.sampled_from(["plain", "balanced"]),
    "data.balance": st.floats(0, 1),
    "loss.class_weights": st.sampled_from([None, "balanced"]),
    "data.batch_size": st.integers(1, 14),
    "data.val_batch_size": st.one_of(st.none(), st.integers(1, 30)),
    "data.max_pixels": st.sampled_from([1, 1000, 10**9]),
    "data.cache_shorter_side": st.one_of(st.none(), st.integers(1, 200)),
    "data.mean": st.lists(st.floats(0, 1), min_size=3, max_size=3),
    "data.std": st.lists(st.floats(0.001, 1), min_size=3, max_size=3),
    "sizes.val_sizes": st.one_of(st.none(), st.lists(SIZE, min_size=1, max_size=3)),
    "augment.shorter_side": st.one_of(st.none(), st.integers(1, 150)),
    "augment.lighting": st.floats(0, 3),
    "augment.scale": st.lists(st.floats(1e-6, 1), min_size=2, max_size=2).map(sorted),
    "augment.ratio": st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=2).map(sorted),
    "augment.erasing": st.floats(0, 1),
    "augment.rand_augment": st.integers(0, 30),
    "augment.augmix": st.integers(0, 10),
    "augment.repeats": st.integers(1, 4),
    "mix.label_smoothing": st.floats(0, 0.99),
    "mix.mixup": st.floats(0, 5),
    "mix.cutmix": st.floats(0, 5),
    "head.hidden": st.lists(st.integers(1, 20), max_size=3),
    "head.dropout": st.floats(0, 0.99),
    "optimizer.lr": st.one_of(st.floats(1e-6, 1), st.sampled_from([1e-300, 1e3, 1e30, 1e300])),
    "optimizer.weight_decay": st.floats(0, 2),
    "optimizer.momentum": st.floats(0, 0.9999),
    "optimizer.betas": st.lists(st.floats(0, 0.9999), min_size=2, max_size=2),
    "optimizer.bias_lr_factor": st.floats(0, 10),
    "optimizer.lr_factors": st.dictionaries(st.sampled_from(["backbone", "head"]), st.floats(1e-3, 10)),
    "optimizer.layer_decay": st.one_of(st.none(), st.floats(0.1, 1)),
    "freeze": st.sampled_from([[], ["backbone"]]),
    "scheduler.factor": st.floats(1e-3, 1),
    "scheduler.patience": st.integers(0, 3),
    "scheduler.max_drops": st.integers(0, 3),
    "scheduler.milestones": st.lists(st.floats(0.01, 0.99), max_size=3),
    "scheduler.warmup_epochs": st.floats(0, 5),
    "scheduler.final_factor": st.floats(0, 1),
    "swa.start": st.floats(0, 0.99),
    "swa.batch_norm_images": st.integers(0, 100),
    "ema.decay": st.floats(0, 0.999999),
    "evaluation.protocols": st.one_of(st.none(), st.lists(st.sampled_from(PROTOCOLS), max_size=2)),
    "evaluation.every": st.one_of(st.none(), st.integers(1, 3)),
    "trainer.max_epochs": st.integers(1, 3),
    "trainer.accumulate_grad_batches": st.integers(1, 5),
    "trainer.gradient_clip_norm": st.one_of(st.none(), SMALL),
    "trainer.limit_train_batches": st.integers(1, 3),
    "trainer.limit_val_batches": st.one_of(st.none(), st.integers(1, 3)),
    "trainer.val_every": st.integers(1, 3),
    "trainer.threads": st.integers(1, 2),
    "trainer.timeout": st.integers(5, 60),
    "logger": st.sampled_from([{}, {"tensorboard": {}}]),
    "log.every_n_steps": st.integers(1, 50),
    "log.save_every_minutes": st.one_of(st.none(), st.just(1e-4), SMALL),
    "name": ODD_TEXT,
    "run_name": st.one_of(st.none(), ODD_TEXT),
    "seed": st.integers(0, 2**31 - 1),
    "ckpt_path": st.sampled_from([None, "auto", "nowhere.ckpt"]),
}  # fmt: skip

# Other processes, other machines and devices, other places on the disk, and minutes of compiling.
LEFT = {
    "data.name", "data.root", "data.download", "data.num_train", "data.num_val", "data.workers", "data.cache_dir",
    "data.labels", "data.train_dir", "data.val_dir", "data.test_dir", "data.pixel_range",
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.compile", "runs_dir",
    "backbone.weights", "init_from", "freeze_epochs", "plugins", "callbacks",
}  # fmt: skip


def one_by_one() -> dict[str, st.SearchStrategy[Any]]:
    """Each key that is drawn alone. Switches and choices are read off the schema; a new key of another kind fails here."""
    found = dict(ALONE)
    for group in dataclasses.fields(Config):
        nested = group.default_factory
        for spec in [group] if nested is dataclasses.MISSING else dataclasses.fields(nested):  # type: ignore[arg-type]
            key = spec.name if spec is group else f"{group.name}.{spec.name}"
            if (
                key in found
                or key in LEFT
                or group.name == "detection"
                or (group.name in TOGETHER and key != "sizes.pixel_budget")
            ):
                continue
            choices = (True, False) if spec.type == "bool" else spec.metadata["choices"]
            assert choices, f"{key}: say in ALONE what it may be"
            found[key] = st.sampled_from(choices)
    return found


def trained(root: Path) -> Target:
    """Values that fit in a second are trained with, or refused in one line.

    Each example also goes by way of a command line, so that what is composed is what was drawn.
    """
    base = base_config(root)
    alone = one_by_one()

    @st.composite
    def configs(draw: st.DrawFn) -> dict[str, Any]:
        config = copy.deepcopy(base)
        for group in draw(st.lists(st.sampled_from(sorted(TOGETHER)), unique=True)):
            config[group].update(draw(TOGETHER[group]))
        for key in draw(st.lists(st.sampled_from(sorted(alone)), unique=True, max_size=8)):
            put(config, key, draw(alone[key]))
        if draw(st.integers(0, 7)) == 0:  # something that does not fit at all
            put(config, draw(st.sampled_from(sorted(alone))), draw(VALUES))
        if config["sizes"]["val_sizes"] is not None and draw(st.booleans()):
            config["sizes"]["val_sizes"] = None
        return config

    return Target(configs(), train_two_steps)


def put(config: dict[str, Any], key: str, value: Any) -> None:
    group, _, name = key.rpartition(".")
    (config[group] if group else config)[name] = value


def train_two_steps(config: dict[str, Any]) -> str:
    """Train in a folder of its own; a run that ends has written what it says."""
    deterministic, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = {**config, "runs_dir": f"{folder}/runs", "data": {**config["data"], "cache_dir": None}}
        if config["data"]["cache"] == "disk":
            config["data"]["cache_dir"] = f"{folder}/cache"
        try:
            result = train(check_config(config))
        except SppclsError as error:
            return told(error, config)
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
        assert result["epochs"] == config["trainer"]["max_epochs"]
        assert Path(result["last_checkpoint"]).is_file()
        assert (Path(result["folder"]) / "result.json").is_file()
    return "trained"


KEY_WORDS = ["optimizer.lr", "sizes", "sizes.sizes", "data", "pyramid.levels", "seed", "name", "run_name", "experiment",
             "hydra.run.dir", "hydra/launcher", "hydra.searchpath", "data@x", "trainer.devices", "foo", "ckpt_path",
             "evaluation.protocols", "backbone", "+sweep", "+search"]  # fmt: skip
VALUE_WORDS = ["1", "0.1", "[1,2", "{a:1}", "{a", "null", "", "single_224", "${seed}", "${nope}", "${a", "choice(1,2)",
               "range(1,5)", "glob(*)", "1,2", "'a", '"', "\\", "a b", "a=b", "[1,[2]]", "shapes", "../x", "~", "???",
               "${oc.env:NOPE}", "${now:%Y}", "interval(0,1)", "single_vs_multi", "small", "sort(3,2)", "int(a)"]  # fmt: skip
OPTION_WORDS = ["--info", "--resolve", "-m", "--config-name=x", "--config-dir", "--cfg", "-x", "--", "-", "~data", "~",
                "=", "+=", "++", "--hydra-help", "seed"]  # fmt: skip

WORDS = st.one_of(
    st.builds(
        lambda sign, key, value: f"{sign}{key}={value}",
        st.sampled_from(["", "", "", "+", "++", "~"]),
        st.one_of(st.sampled_from(KEY_WORDS), ODD_TEXT),
        st.one_of(st.sampled_from(VALUE_WORDS), ODD_TEXT),
    ),
    st.sampled_from(OPTION_WORDS),
    ODD_TEXT,
)


def command_lines() -> Target:
    """Words after ``sppcls train --cfg job`` (which shows the config and trains nothing), of a sweep, and of a search."""
    kinds = st.sampled_from(["sizes", "train", "sweep", "search"])

    def check(example: tuple[str, list[str]]) -> str:
        kind, words = example
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if kind in ("sweep", "search"):
                    plan_sweep(words) if kind == "sweep" else plan_search(words)
                    return "fine"
                status: Any = main([kind, *words, *(["--cfg", "job"] if kind == "train" else [])])
            except ConfigError as error:
                return told(error, words)
            except SystemExit as end:  # --help and --version of argparse and Hydra
                status = end.code
        message = err.getvalue()
        assert "Traceback" not in message, message
        if status:
            assert "error: " in message, message
            assert message.startswith("usage: ") or message.count("\n") == 1, (
                message
            )  # argparse adds a line of usage
        return "refused" if status else "fine"

    return Target(st.tuples(kinds, st.lists(WORDS, min_size=1, max_size=3)), check)
