"""Names of run folders, and that no two runs ever share one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sppcls import compose
from sppcls.config.compose import to_yaml
from sppcls.runs.folder import claim_run_folder, has_finished, own_checkpoints, run_name


def test_names_say_what_was_trained() -> None:
    for words, name in (
        ([], "multi_224_180-l6321-zf5_small-seed0"),
        (["sizes=single_224", "pyramid=none", "seed=3"], "single_224-none-zf5_small-seed3"),
        (["backbone=resnet18", "pyramid.levels=[[2,3],1]"], "multi_224_180-l2x3_1-resnet18-seed0"),
        (["backbone=timm", "backbone.model=hf/some.model"], "multi_224_180-l6321-hf_some.model-seed0"),
        (
            ["sizes=random_batch_180_224", "pyramid.levels=[12,1]"],
            "random_batch_180_224-l12_1-zf5_small-seed0",
        ),
        (
            ["sizes=random_batch_180_224", "sizes.val_sizes=[224]"],
            "random_batch_180_224-l6321-zf5_small-seed0",
        ),
        (["sizes=progressive_128_224", "backbone=zf5"], "progressive_128_224-l6321-zf5-seed0"),
        (["sizes.period=2", "backbone.width=0.5"], "multi_224_180_period2-l6321-zf5w0.5-seed0"),
        (["sizes.val_sizes=[224]", "backbone.norm=none"], "multi_224_180-l6321-zf5w0.25-seed0"),
        (['run_name="../../my run; x"'], "_.._my_run_x"),
    ):
        assert run_name(compose(words)) == name


def test_runs_started_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    config = compose([f"runs_dir={tmp_path}"])
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim_run_folder(config), range(16)))
    assert len(set(folders)) == 16
    assert {f.name for f in folders} == {run_name(config)} | {f"{run_name(config)}-{n}" for n in range(2, 17)}


def test_auto_takes_the_newest_checkpoint_of_this_very_configuration(tmp_path: Path) -> None:
    config = compose([f"runs_dir={tmp_path}"])
    assert own_checkpoints(config) == []
    first, second = claim_run_folder(config), claim_run_folder(config)
    other = claim_run_folder(compose([f"runs_dir={tmp_path}", "seed=1"]))
    assert own_checkpoints(config) == []
    for folder in (second, first, other):
        (folder / "last.ckpt").write_bytes(b"x")
        (folder / "config.yaml").write_text(to_yaml(config))
    os.utime(second / "last.ckpt", (1, 1))
    assert own_checkpoints(config) == [first / "last.ckpt"]
    assert own_checkpoints(compose([f"runs_dir={tmp_path}", "optimizer.lr=0.5"])) == []
    assert own_checkpoints(compose([f"runs_dir={tmp_path}", "trainer.max_epochs=99"])) != []


@pytest.mark.parametrize(
    ("epochs", "finished"),
    [
        ("3", True),
        ("4", True),
        ("2", False),
        ("null", False),
        ('"x"', False),
        ("1e400", False),
        ("[3]", False),
    ],
)
def test_a_result_that_says_no_number_of_epochs_is_of_no_finished_run(
    tmp_path: Path, epochs: str, finished: bool
) -> None:
    (tmp_path / "result.json").write_text(f'{{"epochs": {epochs}}}')
    assert has_finished(tmp_path, 3) is finished


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "multi_224_180-l6_3_2_1-zf5w0.25-seed0"),
        (["sizes=single_224", "pyramid=none"], "single_224-nospp-zf5w0.25-seed0-2"),
        (["sizes=random_batch_180_224"], "randombatch_180_224_step4-l6_3_2_1-zf5w0.25-seed0"),
    ],
)
def test_auto_finds_folders_under_the_names_of_version_0_1(
    tmp_path: Path, words: list[str], name: str
) -> None:
    config = compose([f"runs_dir={tmp_path}", *words])
    folder = tmp_path / "shapes" / name
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"x")
    (folder / "config.yaml").write_text(to_yaml(config))
    assert own_checkpoints(config) == [folder / "last.ckpt"]
