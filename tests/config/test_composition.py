"""What is kept of Hydra's composition is what Hydra composes."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from omegaconf import OmegaConf

from sppcls.config import composition
from sppcls.config.compose import CONFIG_NAME, compose_unchecked, hydra_session
from sppcls.errors import ConfigError


def hydras(words: list[str]) -> Any:
    with hydra_session():
        return hydra_compose(CONFIG_NAME, overrides=words)


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    composition._kept.clear()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["optimizer.lr=0.5", "pyramid.levels=[4,2]", "name=${data.name}-${seed}"],
        ["pyramid=l421", "optimizer=adamw", "pyramid.levels=[1]", "head=linear"],
        ["optimizer.lr=1", "optimizer=adamw"],  # a value stands above a choice that comes after it
        ["seed=1", "++seed=2", "seed=3"],
        ["++seed=2", "seed=3", "++seed=4"],
        ["+experiment=flowers5_zf5_multi", "data.batch_size=7"],
        ["~pyramid"],
        ["~head.hidden", "+head.hidden=[3]"],
        ["callbacks=[early_stopping]"],
        ["evaluation.protocols=[full,{name: center, top: 3}]"],
        ["data@backbone=folder"],
        ["backbone={width: 1}"],
        ["optimizer.lr=1", "optimizer={lr: 2}"],  # and so does a group's dict of values, in their order
    ],
)
def test_it_is_what_hydra_composes(words: list[str]) -> None:
    # Twice: as it was composed, and as it was kept.
    found: list[Any] = []
    for _ in range(2):
        try:
            found.append(compose_unchecked(words))
        except ConfigError as error:
            found.append(str(error))
    try:
        expected = hydras(words)
    except Exception:
        assert isinstance(found[0], str)
        assert found[0] == found[1]
        return
    for config in found:
        assert OmegaConf.to_container(config) == OmegaConf.to_container(expected)
        assert list(config) == list(expected)
        assert OmegaConf.is_struct(config) == OmegaConf.is_struct(expected)


@pytest.mark.parametrize(
    "word",
    [
        "optimizer.lrr=1",
        "+seed=1",
        "~nothing",
        "backbone=none_such",
        "nothing=1",
        "seed=1,2",
        "seed=[",
        "@=1",
        "a/b=c",
    ],
)
def test_wrong_words_are_told_by_hydra_whatever_is_kept(word: str) -> None:
    with pytest.raises(ConfigError) as first:
        compose_unchecked(["pyramid=l421", word])
    compose_unchecked(["pyramid=l421"])
    with pytest.raises(ConfigError) as second:
        compose_unchecked(["pyramid=l421", word])
    assert str(first.value) == str(second.value)


def test_a_config_is_the_callers_own() -> None:
    first = compose_unchecked(["pyramid=l421"])
    first.pyramid.levels = [9]
    assert compose_unchecked(["pyramid=l421"]).pyramid.levels == [4, 2, 1]


def test_files_are_read_again_once_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "pyramid" / "mine.yaml"
    file.parent.mkdir()
    base = tmp_path / "pyramid" / "base.yaml"
    base.write_text("levels: [5]\n")
    file.write_text("defaults: [base]\n")
    words = ["pyramid=mine", "seed=1"]
    assert compose_unchecked(words, tmp_path).pyramid.levels == [5]
    base.write_text("levels: [7]\n")
    os.utime(base, ns=(1, 1))  # a copy may be older than what it replaces
    assert compose_unchecked(words, tmp_path).pyramid.levels == [7]
    file.unlink()
    with pytest.raises(ConfigError, match="mine"):
        compose_unchecked(words, tmp_path)


def test_another_folder_of_configs_is_another_choice(tmp_path: Path) -> None:
    for level in (5, 7):
        folder = tmp_path / str(level) / "pyramid"
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(f"levels: [{level}]\n")
    for level in (5, 7, 5):
        assert compose_unchecked(["pyramid=mine"], tmp_path / str(level)).pyramid.levels == [level]


def test_a_name_may_come_to_mean_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level in (5, 7):
        folder = tmp_path / str(level) / "conf" / "pyramid"
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(f"levels: [{level}]\n")
        os.utime(folder / "mine.yaml", ns=(1, 1))
    (tmp_path / "linked" / "pyramid").mkdir(parents=True)
    for level in (5, 7, 5):
        monkeypatch.chdir(tmp_path / str(level))
        for link, target in (("conf", "conf"), ("linked/pyramid/mine.yaml", "conf/pyramid/mine.yaml")):
            (tmp_path / link).unlink(missing_ok=True)
            (tmp_path / link).symlink_to(tmp_path / str(level) / target)
        for folder in (Path("conf"), tmp_path / "conf", tmp_path / "linked"):
            assert compose_unchecked(["pyramid=mine"], folder).pyramid.levels == [level]


def test_threads_compose_one_after_the_other() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            words = [
                ["pyramid=" + name, f"seed={seed}"] for seed in (1, 2) for name in ("l1", "l421", "l6321")
            ]
            found = list(pool.map(compose_unchecked, words))
    finally:
        sys.setswitchinterval(interval)
    levels = [[1], [4, 2, 1], [6, 3, 2, 1]]
    assert [(one.pyramid.levels, one.seed) for one in found] == [
        (level, s) for s in (1, 2) for level in levels
    ]


def test_the_same_choices_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compose_unchecked(["pyramid=l421"])
    monkeypatch.setattr("sppcls.config.compose.hydra_compose", None)
    assert compose_unchecked(["pyramid=l421", "seed=5"]).seed == 5


def test_no_more_is_kept_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composition, "_KEPT", 2)
    for pyramid in ("l421", "l321", "l421", "l6321"):
        compose_unchecked([f"pyramid={pyramid}"])
    assert [key[-1] for key in composition._kept] == ["pyramid=l421", "pyramid=l6321"]
