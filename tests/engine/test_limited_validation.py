"""``trainer.limit_val_batches``: a part of the validation images that stands for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_runs import TINY

from sppcls import compose, train
from sppcls.config.build import load_sources, make_datamodule
from sppcls.config.schedule import size_schedule
from sppcls.data import EvalSampler


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 cats before 40 dogs, as a folder sorts them: the first images are all cats."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, cats, dogs in (("train", 16, 16), ("val", 60, 40)):
        for name, count in (("cat", cats), ("dog", dogs)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (76, 76, 3), dtype=np.uint8)).save(
                    root / split / name / f"{i:02}.png"
                )
    return root


def words_for(photos: Path, *more: str) -> list[str]:
    words = [word for word in TINY if not word.startswith(("data.num", "trainer.max_epochs"))]
    return [
        *words,
        "data=folder",
        f"data.root={photos}",
        "trainer.max_epochs=1",
        "data.val_batch_size=5",
        *more,
    ]


def test_each_class_is_there_in_proportion(photos: Path, tmp_path: Path) -> None:
    config = compose(words_for(photos, f"runs_dir={tmp_path}", "trainer.limit_val_batches=4"))
    folder = Path(train(config)["folder"])
    kept = np.load(folder / "predictions" / "val_96.npz")
    assert np.bincount(kept["label"]).tolist() == [12, 8], "of 60 and 40"
    result = json.loads((folder / "result.json").read_text())
    assert result["last"]["val_96/images"] == 20
    assert result["validation_images"] == {"used": 20, "of": 100}
    assert "20 of 100 validation images (limit_val_batches 4)" in (folder / "train.log").read_text()


def test_they_are_the_same_in_every_run_and_shared_among_processes(photos: Path) -> None:
    parts = []
    for seed in (0, 1):
        config = compose(words_for(photos, f"seed={seed}", "trainer.limit_val_batches=3"))
        datamodule = make_datamodule(config, size_schedule(config), *load_sources(config)[:2])
        parts.append([int(i) for batch in datamodule.val_dataloader() for i in batch.index])
    assert parts[0] == parts[1] == datamodule.val_part
    assert len(set(parts[0])) == 15
    shares = [list(EvalSampler(100, rank, 4, parts[0])) for rank in range(4)]
    assert sorted(index for share in shares for index in share) == parts[0]
    assert [len(share) for share in shares] == [4, 4, 4, 3]


@pytest.mark.parametrize("limit", ["20", "1000", "null"])
def test_a_limit_that_leaves_nothing_out_changes_nothing(photos: Path, limit: str) -> None:
    config = compose(words_for(photos, f"trainer.limit_val_batches={limit}"))
    datamodule = make_datamodule(config, size_schedule(config), *load_sources(config)[:2])
    assert [int(i) for batch in datamodule.val_dataloader() for i in batch.index] == list(range(100))
