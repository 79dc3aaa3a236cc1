"""What another value of each key means to those who ask: auto-resume, sweeps, comparisons, and the resume check."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import sppcls
from sppcls import compose, load_classifier
from sppcls.comparison.answers import Measure
from sppcls.comparison.labels import settings_of
from sppcls.comparison.runs import Run
from sppcls.config import same_run
from sppcls.config.compose import to_yaml
from sppcls.config.schema import Config, as_dict
from sppcls.engine.resume import check_resume
from sppcls.errors import CheckpointError
from sppcls.nn import SPPClassifier
from sppcls.runs.checkpoint import read_checkpoint
from sppcls.runs.folder import claim_run_folder, is_same_run, own_checkpoints
from sppcls.sweeps.overrides import identity

AUTO, SWEEP, FACTOR, RESUMES = "auto", "sweep", "factor", "resumes"

# The whole table, written down a second time: every key by what stays true of another value of it.
EXPECTED = {
    (): "data.fold",
    (FACTOR,): """data.folds backbone.name backbone.width backbone.norm backbone.model pyramid.levels pyramid.mode
        pyramid.bin_rule head.name head.hidden optimizer.name optimizer.lr_factors optimizer.layer_decay
        ema.enabled swa.enabled""",
    (FACTOR, RESUMES): """init init_from freeze freeze_epochs loss.name loss.class_weights callbacks data.sampler data.balance data.name data.root data.val_fraction data.labels data.multi_label data.train_dir data.val_dir
        data.test_dir data.num_train data.num_val data.batch_size data.drop_last data.on_error data.max_pixels
        data.pixel_range data.cache data.cache_shorter_side data.mean data.std sizes.kind sizes.sizes sizes.period
        sizes.step sizes.pixel_budget augment.crop augment.shorter_side augment.flip augment.lighting augment.scale
        augment.ratio augment.rand_augment augment.augmix augment.repeats augment.trivial_augment augment.erasing mix.label_smoothing mix.mixup mix.cutmix
        backbone.weights backbone.drop_path_rate head.dropout optimizer.lr optimizer.weight_decay optimizer.momentum optimizer.nesterov
        optimizer.betas optimizer.decay_norm_and_bias optimizer.bias_lr_factor scheduler.name scheduler.factor
        scheduler.patience scheduler.max_drops scheduler.milestones scheduler.warmup_epochs scheduler.final_factor
        ema.decay swa.start swa.batch_norm_images trainer.devices trainer.num_nodes trainer.precision trainer.accumulate_grad_batches
        trainer.gradient_clip_norm trainer.sync_batchnorm trainer.limit_train_batches trainer.limit_val_batches
        trainer.val_every detection.checkpoint detection.data detection.split detection.test_split detection.scenes
        detection.features detection.scorer detection.regression detection.scales detection.scale_rule
        detection.window_rule detection.proposals detection.limit detection.k detection.tuning_steps detection.tuning_lr
        detection.convolution_steps detection.convolution_lr detection.duplicates detection.passes detection.ridge
        detection.nms""",
    (RESUMES,): "seed sizes.val_sizes best_by",
    (AUTO, FACTOR, RESUMES): "trainer.max_epochs",
    (AUTO, RESUMES): "evaluation.protocols evaluation.every",
    (SWEEP, RESUMES): "name run_name",
    (AUTO, SWEEP, RESUMES): """runs_dir ckpt_path plugins logger data.download data.check data.cache_dir data.val_batch_size
        data.workers trainer.accelerator trainer.strategy trainer.deterministic trainer.compile trainer.gradient_checkpointing trainer.threads trainer.timeout
        log.every_n_steps log.images log.progress log.save_every_minutes detection.maps_dir""",
}  # fmt: skip
ANSWERS = {key: set(answers) for answers, keys in EXPECTED.items() for key in keys.split()}


def schema_keys(schema: Any = Config, prefix: str = "") -> list[str]:
    found = []
    for spec in dataclasses.fields(schema):
        nested = spec.default_factory
        name = prefix + spec.name
        found += schema_keys(nested, f"{name}.") if dataclasses.is_dataclass(nested) else [name]
    return found


def changed(config: Config, key: str) -> Config:
    """The config with another value of one key, whether anything could be trained with it or not."""
    group, _, name = key.rpartition(".")
    owner = getattr(config, group) if group else config
    old = getattr(owner, name)
    new = (not old) if isinstance(old, bool) else old + 1 if isinstance(old, int | float) else f"{old}-other"
    other = dataclasses.replace(owner, **{name: new})
    return dataclasses.replace(config, **{group: other}) if group else other


def test_the_table_has_every_key_of_the_schema() -> None:
    assert sorted(ANSWERS) == sorted(schema_keys())


@dataclasses.dataclass
class Trained:
    """A run of one epoch: its config and its checkpoint."""

    config: Config
    path: Path
    checkpoint: dict[str, Any]
    net: SPPClassifier


@pytest.fixture(scope="module")
def trained(tiny_words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    runs = tmp_path_factory.mktemp("runs")
    config = compose([*tiny_words, f"runs_dir={runs}", "trainer.max_epochs=1"])
    path = Path(sppcls.train(config)["last_checkpoint"])
    return Trained(config, path, read_checkpoint(path), load_classifier(path))


def finds_by_auto(run: Trained, other: Config) -> bool:
    return is_same_run(run.path.parent, other)


def shares_a_sweep(run: Trained, other: Config) -> bool:
    return identity(as_dict(run.config), [], None) == identity(as_dict(other), [], None)


def is_another_group(run: Trained, other: Config) -> bool:
    def settings(config: Config) -> dict[str, Any]:
        return settings_of(Run(Path(), as_dict(config), config.seed, [], {}, True, Measure("", "")))

    return settings(run.config) != settings(other)


def resumes(run: Trained, other: Config) -> bool:
    info = run.checkpoint["sppcls"]
    groups = {name: as_dict(other)[name] for name in ("backbone", "pyramid", "head")}
    info = {
        **info,
        "config": as_dict(other),
        "architecture": {**info["architecture"], **groups, "init": other.init},
    }
    try:
        check_resume(run.checkpoint, info, run.net, run.path)
    except CheckpointError:
        return False
    return True


ASK = {AUTO: finds_by_auto, SWEEP: shares_a_sweep, FACTOR: is_another_group, RESUMES: resumes}


@pytest.mark.parametrize("key", schema_keys())
def test_all_four_give_the_answers_of_the_table(key: str, trained: Trained) -> None:
    """Each is asked as it is in use, with nothing else between."""
    other = changed(trained.config, key)
    assert as_dict(other) != as_dict(trained.config)
    assert {name for name, ask in ASK.items() if ask(trained, other)} == ANSWERS[key]


@pytest.mark.parametrize(
    "word",
    [
        "data.val_batch_size=3", "data.check=false", "data.workers=1", "trainer.deterministic=true",
        "trainer.accelerator=cpu", "evaluation.protocols=[full]", "log.images=false", "trainer.max_epochs=9",
    ],
)  # fmt: skip
def test_auto_finds_the_run_again_with_other_words_that_change_no_weights(word: str, tmp_path: Path) -> None:
    config = compose([f"runs_dir={tmp_path}"])
    folder = claim_run_folder(config)
    (folder / "last.ckpt").write_bytes(b"x")
    (folder / "config.yaml").write_text(to_yaml(config))
    assert own_checkpoints(compose([f"runs_dir={tmp_path}", word])) == [folder / "last.ckpt"]


def test_auto_does_not_take_a_run_of_another_name_for_a_second_one(tmp_path: Path) -> None:
    config = compose([f"runs_dir={tmp_path}", "run_name=mine-2"])
    folder = claim_run_folder(config)
    (folder / "last.ckpt").write_bytes(b"x")
    (folder / "config.yaml").write_text(to_yaml(config))
    assert own_checkpoints(compose([f"runs_dir={tmp_path}", "run_name=mine"])) == []


def test_with_a_limit_counted_in_batches_their_size_decides_what_is_validated(tmp_path: Path) -> None:
    def of(*words: str) -> dict[str, Any]:
        return same_run.run_identity(as_dict(compose([f"runs_dir={tmp_path}", *words])))

    eight = of("trainer.limit_val_batches=2", "data.val_batch_size=8")
    assert eight != of("trainer.limit_val_batches=2", "data.val_batch_size=4")
    assert eight == of("trainer.limit_val_batches=4", "data.val_batch_size=4")
    assert eight != of("data.val_batch_size=8")


def test_a_key_that_the_schema_does_not_have_may_change_anything() -> None:
    assert same_run.is_factor("loss.gamma")
    assert not same_run.is_fixed("loss.gamma")
    assert same_run.is_factor("backbone.depths")
    assert same_run.is_fixed("backbone.depths")


def test_a_smaller_validation_batch_goes_on_with_the_run(tiny, tmp_path: Path) -> None:
    """As the program advises a run that runs out of memory in its last tests."""
    first = sppcls.train(compose(tiny("trainer.max_epochs=1", "data.val_batch_size=8", "ckpt_path=auto")))
    again = sppcls.train(compose(tiny("trainer.max_epochs=2", "data.val_batch_size=4", "ckpt_path=auto")))
    assert Path(again["folder"]).resolve() == Path(first["folder"]).resolve()
    assert json.loads((Path(first["folder"]) / "result.json").read_text())["epochs"] == 2
    assert "val_batch_size: 4" in (Path(first["folder"]) / "config.yaml").read_text()
    assert [path.name for path in (tmp_path / "runs" / "shapes").iterdir()] == [Path(first["folder"]).name]
