"""Defaults stand in the schema, YAML files hold what differs, and what is composed is complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sppcls import compose
from sppcls.config.compose import conf_dir
from sppcls.config.schema import as_dict, default_values
from sppcls.errors import ConfigError
from sppcls.sweeps.search.space import Settings

SHIPPED = sorted(path for path in conf_dir().rglob("*.yaml") if "protocol" not in path.parts)


def repeated(values: Any, defaults: Any, prefix: str = "") -> Iterator[str]:
    """Keys of a file that say what the schema says."""
    for name, value in values.items():
        if name in defaults and isinstance(value, dict):
            yield from repeated(value, defaults[name], f"{prefix}{name}.")
        elif name in defaults and repr(value) == repr(defaults[name]):
            yield prefix + name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(conf_dir())))
def test_no_shipped_file_repeats_a_default(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    group = path.relative_to(conf_dir()).parts[0]
    defaults = default_values(Settings) if group == "search" else default_values()
    assert list(repeated(values, defaults.get(group, defaults))) == []


def test_values_of_before(tmp_path: Path) -> None:
    """By hand, from the paper and the docs: a default is part of what a run means."""
    config = compose(["data=folder", f"data.root={tmp_path}"])
    assert config.data.mean == [0.485, 0.456, 0.406]
    assert (config.data.batch_size, config.data.workers, config.data.val_fraction) == (32, 2, 0.2)
    assert (config.optimizer.lr, config.optimizer.momentum, config.optimizer.weight_decay) == (
        0.01,
        0.9,
        5e-4,
    )
    adamw = compose(["optimizer=adamw"]).optimizer
    assert (adamw.momentum, adamw.weight_decay, adamw.decay_norm_and_bias) == (0.0, 0.05, False)
    assert compose(["trainer=ddp"]).trainer.sync_batchnorm
    assert not compose(["trainer=gpu"]).trainer.sync_batchnorm


def test_an_own_file_of_few_keys_stands_on_the_defaults_not_on_the_choice_that_it_replaces(
    tmp_path: Path,
) -> None:
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(f"name: folder\nroot: {tmp_path}\n")
    own = as_dict(compose(["data=mine"], tmp_path / "conf"))["data"]
    assert own == {**default_values()["data"], "name": "folder", "root": str(tmp_path)}
    assert own["num_train"] is None  # of shapes, the default choice
    assert compose(["data=mine", "data.batch_size=7"], tmp_path / "conf").data.batch_size == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("levels: [5]\nmod: avg\n", "pyramid.mod: unknown key (did you mean 'mode'?)"),
        ("mode: avg\n", "pyramid.levels: missing; it means: bins per side"),
        ("levels: [5]\nmode: null\n", "pyramid.mode=null: must be text"),
    ],
)
def test_an_own_file_with_a_mistake_is_refused_as_ever(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pyramid").mkdir()
    (tmp_path / "pyramid" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        compose(["pyramid=mine"], tmp_path)
    assert message in str(caught.value)


def test_a_default_that_is_a_list_is_nobodys_to_change() -> None:
    default_values()["data"]["mean"].append(1.0)
    assert default_values()["data"]["mean"] == [0.485, 0.456, 0.406]
