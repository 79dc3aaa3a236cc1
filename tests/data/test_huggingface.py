"""Data sets of Hugging Face's ``datasets``: the images and classes that were put in, from each form on disk."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sppcls import compose, train
from sppcls.data.huggingface import huggingface
from sppcls.errors import ConfigError, DataError, ImageError

datasets = pytest.importorskip("datasets")


def picture(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def dataset(seeds: range, labels: list, classes: list[str] | None = None, image: str = "image"):
    kind = datasets.ClassLabel(names=classes) if classes else None
    columns = {image: [{"bytes": picture(s), "path": None} for s in seeds], "label": labels}
    made = datasets.Dataset.from_dict(columns).cast_column(image, datasets.Image())
    return made.cast_column("label", kind) if kind else made


def pixels(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(io.BytesIO(picture(seed)))).copy()).permute(2, 0, 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved")
    splits = {
        "train": dataset(range(12), [0, 1, 2] * 4, ["ant", "bee", "cow"]),
        "validation": dataset(range(100, 104), [2, 1, 0, 0], ["ant", "bee", "cow"]),
        "test": dataset(range(200, 202), [-1, -1], ["ant", "bee", "cow"]),
    }
    datasets.DatasetDict(splits).save_to_disk(root)
    return root


def test_a_saved_data_set_gives_what_was_put_in(saved: Path) -> None:
    found = huggingface(str(saved))
    assert (found.train.classes, list(found.train.targets)) == (["ant", "bee", "cow"], [0, 1, 2] * 4)
    assert list(found.val.targets) == [2, 1, 0, 0]
    assert all(torch.equal(found.train.image(i), pixels(i)) for i in range(12))
    assert torch.equal(found.val.image(3), pixels(103))
    assert found.test is None
    assert "test is not used: it has no labels" in found.found
    assert len({found.train.name(i) for i in range(12)}) == 12


def test_parquet_files_with_names_and_a_split_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    labels = ["dog", "cat"] * 10
    made = dataset(range(20), labels, image="photo")
    for part in range(2):
        rows = made.select(range(10 * part, 10 * part + 10))
        rows.to_parquet(tmp_path / "data" / f"train-0000{part}-of-00002.parquet")
    found = huggingface(str(tmp_path / "data"), image="photo", val_fraction=0.3)
    assert found.held_out
    assert found.train.classes == ["cat", "dog"]
    seen = {}
    for source in found[:2]:
        for i in range(len(source)):
            seen[source.name(i)] = (source.classes[source.targets[i]], source.image(i))
    assert [(label, torch.equal(image, pixels(int(name.rpartition("/")[2])))) for name, (label, image) in
            sorted(seen.items())] == [(label, True) for label in labels]  # fmt: skip
    assert [list(found.val.targets).count(label) for label in (0, 1)] == [3, 3]


@pytest.mark.run
def test_training_from_it(saved: Path, tiny) -> None:
    words = tiny(
        "data=huggingface",
        f"data.root={saved}",
        "data.batch_size=4",
        "data.workers=0",
        "trainer.max_epochs=1",
    )
    outcome = train(compose(words))
    assert 0 <= outcome["last"]["val_96/top1_error"] <= 100


@pytest.mark.parametrize(
    ("words", "error", "line"),
    [
        (
            {"image": "photo"},
            ConfigError,
            "data.image=photo: .* has no such column; choose from image, label",
        ),
        ({"label": "kind"}, ConfigError, "data.label=kind: .* has no such column"),
        ({"val": "dev"}, ConfigError, "data.val=dev: .* choose from train, validation, test"),
        ({"label": "image"}, DataError, "neither whole numbers nor names"),
        ({"train": "test"}, DataError, "2 rows of test have no label"),
    ],
)
def test_wrong_keys_are_one_line(saved: Path, words: dict, error: type, line: str) -> None:
    with pytest.raises(error, match=line):
        huggingface(str(saved), **words)


def test_what_is_no_data_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a data set that save_to_disk has written nor parquet"):
        huggingface(str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        huggingface(str(tmp_path / "none"))
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read"):
        huggingface(str(tmp_path))


def test_a_row_without_an_image_is_named(tmp_path: Path) -> None:
    rows = {"image": [{"bytes": picture(1), "path": None}, {"bytes": None, "path": "/etc/passwd"},
                      {"bytes": b"text", "path": None}], "label": ["a", "b", "a"]}  # fmt: skip
    made = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": made, "val": made}).save_to_disk(tmp_path)
    source = huggingface(str(tmp_path)).train
    source.image(0)
    with pytest.raises(ImageError, match="train/0000001: the row holds no image file"):
        source.image(1)
    with pytest.raises(ImageError, match="train/0000002: "):
        source.image(2)


def test_columns_that_were_hidden_when_it_was_saved_are_there(tmp_path: Path) -> None:
    dataset(range(8), [0, 1] * 4, ["ant", "bee"]).with_format(None, columns=["label"]).save_to_disk(tmp_path)
    found = huggingface(str(tmp_path), val_fraction=0.25)
    assert found.train.image(0).shape == (3, 40, 50)


def test_numbers_without_names_are_names_and_no_count(tmp_path: Path) -> None:
    dataset(range(8), [1, 5_000_000] * 4).to_parquet(tmp_path / "train.parquet")
    found = huggingface(str(tmp_path), val_fraction=0.25)
    assert found.train.classes == ["1", "5000000"]
    assert set(found.train.targets) == {0, 1}
