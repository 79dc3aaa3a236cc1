"""Images with several labels: files of labels as people write them, folders of tags, and how they are divided."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from sppcls.data import ImageDataset, collate
from sppcls.data.files import FileSource, Source, keep_class_order
from sppcls.data.folds import into_folds
from sppcls.data.label_sets import LabelSets, spread_label_sets
from sppcls.data.own import as_splits
from sppcls.data.sources import build_sources
from sppcls.data.transforms import EvalTransform
from sppcls.errors import ConfigError, DataError

TAGS = {
    f"{number}.png": labels
    for number, labels in enumerate(
        [["cat"], ["cat", "dog"], [], ["dog"], ["bird", "cat", "dog"], ["bird"], ["cat"], ["dog"], ["cat", "dog"], []]
    )
}  # fmt: skip
CLASSES = ["bird", "cat", "dog"]


def put(root: Path) -> Path:
    for number, name in enumerate(TAGS):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(root / name)
    return root


def write(root: Path, file: str, lines: list[str]) -> Path:
    (root / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def found(source: Source | None) -> dict[str, list[str]]:
    assert isinstance(source, FileSource)
    assert isinstance(source.targets, LabelSets)
    return {
        source.name(i): [source.classes[label] for label in labels] for i, labels in enumerate(source.targets)
    }


FLAGS = {name: [int(c in labels) for c in CLASSES] for name, labels in TAGS.items()}
FILES = {
    "bars": ("tags.csv", ["path,tags", *(f"{n},{'|'.join(t)}" for n, t in TAGS.items())]),
    "semicolons and blanks": ("a.csv", ["image,labels", *(f"{n},{' ; '.join(t)}" for n, t in TAGS.items())]),
    "a repeated label": ("a.csv", ["path,label", *(f"{n},{'|'.join([*t, *t])}" for n, t in TAGS.items())]),
    "columns": ("a.csv", ["image,bird,cat,dog", *(f"{n},{','.join(map(str, FLAGS[n]))}" for n in TAGS)]),
    "columns of words": ("a.tsv", ["id\tbird\tcat\tdog", *(f"{n[:-4]}\t" + "\t".join(str(bool(f)) for f in FLAGS[n]) for n in TAGS)]),
    "JSON lists": ("a.jsonl", [json.dumps({"file_name": n, "labels": t}) for n, t in TAGS.items()]),
    "JSON columns": ("a.jsonl", [json.dumps({"file_name": n, **dict(zip(CLASSES, FLAGS[n], strict=True))}) for n in TAGS]),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_several_labels_are_recognised(tmp_path: Path, kind: str) -> None:
    splits = build_sources("folder", write(put(tmp_path), *FILES[kind]))
    assert splits.train.classes == CLASSES
    assert found(splits.train) | found(splits.val) == TAGS
    assert len(splits.val) == 2


TYPED = {
    "comma": ["path,tags", *(f'{n},"{", ".join(t)}"' for n, t in TAGS.items())],
    "space": ["path,tags", *(f"{n},{' '.join(t)}" for n, t in TAGS.items())],
    True: ["path,label", *(f"{n},{label}" for n, t in TAGS.items() for label in t or [""])],
}


@pytest.mark.parametrize("typed", TYPED)
def test_other_ways_are_typed(tmp_path: Path, typed: str | bool) -> None:
    write(put(tmp_path), "tags.csv", TYPED[typed])
    splits = build_sources("folder", tmp_path, multi_label=typed)
    assert found(splits.train) | found(splits.val) == TAGS


@pytest.mark.parametrize(
    "lines",
    [
        ["path,label", *(f"{n},{'tench; Tinca' if i % 2 else 'stove'}" for i, n in enumerate(TAGS))],
        ["path,cat,dog", *(f"{n},{i % 2},{1 - i % 2}" for i, n in enumerate(TAGS))],
    ],
)
def test_one_label_each_stays_one(tmp_path: Path, lines: list[str]) -> None:
    """A class may be called "tench; Tinca", and columns with a single 1 in each line are one label."""
    splits = build_sources("folder", write(put(tmp_path), "labels.csv", lines))
    assert sorted(splits.train.targets) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(splits.train.classes) == 2
    several = build_sources("folder", tmp_path, multi_label=True)
    assert {len(labels) for labels in several.train.targets} <= {1, 2}
    assert isinstance(several.train.targets, LabelSets)


def test_false_takes_signs_for_letters(tmp_path: Path) -> None:
    lines = ["path,label", *(f"{n},{'cat|dog' if i % 2 else 'dog'}" for i, n in enumerate(TAGS))]
    write(put(tmp_path), "labels.csv", lines)
    assert build_sources("folder", tmp_path, multi_label=False).train.classes == ["cat|dog", "dog"]
    assert build_sources("folder", tmp_path).train.classes == ["cat", "dog"]


def test_splits_are_kept(tmp_path: Path) -> None:
    roles = ["train"] * 6 + ["val", "val", "test", "test"]
    lines = ["path,tags,split", *(f"{n},{'|'.join(t)},{r}" for (n, t), r in zip(TAGS.items(), roles, strict=True))]  # fmt: skip
    splits = build_sources("folder", write(put(tmp_path), "tags.csv", lines))
    assert [len(s) for s in splits[:3] if s is not None] == [6, 2, 2]
    assert found(splits.test) == {"8.png": ["cat", "dog"], "9.png": []}
    assert "no validation image of class 'bird'" in splits.warnings


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("a.csv", ["path,cat,dog", "0.png,1,0", "1.png,1,1", "2.png,-1,0"], "line 4: cat='-1'; each class has a 0 or a 1"),
        ("a.csv", ["path,cat,dog", "0.png,1,1", "1.png,,0"], "line 3: cat=''; each class has a 0 or a 1"),
        ("a.csv", ["path,tags", "0.png,cat|dog", "nobody.png,cat", "1.png,dog"], "line 3: no image 'nobody.png'"),
        ("a.jsonl", ['{"path": "0.png", "labels": ["cat", "dog"]}', '{"path": "1.png", "labels": [["cat"]]}'], "line 2: the label is .'cat'."),
        ("a.csv", ["path,tags,split", "0.png,cat|dog,train", "1.png,dog,train", "2.png,cat|cow,val"], "line 4: class 'cow' has no image to train on, only for val"),
        ("a.csv", ["path,tags,split", "0.png,cat|dog,train", "1.png,dog,train", "0.png,dog,val"], "line 4: '0.png' has split 'val', and 'train' in line 2"),
        ("a.csv", ["path,label", "0.png,cat", "1.png,dog", "0.png,dog"], "'dog', and 'cat' in line 2; images with several labels: data.multi_label=true"),
    ],
)  # fmt: skip
def test_wrong_lines_are_named(tmp_path: Path, file: str, lines: list[str], message: str) -> None:
    write(put(tmp_path), file, lines)
    with pytest.raises(DataError, match=message):
        build_sources("folder", tmp_path, labels=file)


def test_a_single_label_is_none(tmp_path: Path) -> None:
    lines = ["path,tags", *(f"{n},{'cat' if t else ''}" for n, t in TAGS.items())]
    write(put(tmp_path), "tags.csv", lines)
    with pytest.raises(DataError, match=r"tags.csv: holds a single class \('cat'\)"):
        build_sources("folder", tmp_path, multi_label=True)


def test_only_folders_take_the_key() -> None:
    with pytest.raises(ConfigError, match="data.multi_label=true: only for data=folder, not for shapes"):
        build_sources("shapes", multi_label=True)


def test_class_folders_are_tags(tmp_path: Path) -> None:
    """The same photo, by a copy under another name, a hard link or a symbolic one; not another photo of its name."""
    photos = put(tmp_path / "all" if (tmp_path / "all").mkdir() is None else tmp_path)
    root = tmp_path / "tags"
    ways = [shutil.copy, os.link, os.symlink]
    for number, (name, labels) in enumerate(TAGS.items()):
        for turn, label in enumerate(labels):
            (root / label).mkdir(parents=True, exist_ok=True)
            ways[(number + turn) % 3](photos / name, root / label / (name if turn else f"first-{name}"))
    for shade, label in enumerate(CLASSES):
        Image.new("RGB", (8, 6), (0, 0, 200 + shade)).save(root / label / "same name.png")
    splits = build_sources("folder", root, multi_label=True, val_fraction=0.3)
    together = found(splits.train) | found(splits.val)
    expected = [labels for labels in TAGS.values() if labels] + [[label] for label in CLASSES]
    assert sorted(together.values()) == sorted(expected)
    single = build_sources("folder", root, val_fraction=0.34)
    assert len(single.train) + len(single.val) == sum(map(len, expected)), "without the key: one label each"


def test_every_part_has_its_share_of_every_label() -> None:
    rng = np.random.default_rng(0)
    table = rng.random((600, 6)) < np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.02])
    sets = [np.flatnonzero(row).tolist() for row in table]
    names = [f"{n}.jpg" for n in range(600)]
    parts = np.array(spread_label_sets(sets, names, [0.8, 0.2]))
    assert abs((parts == 1).sum() - 120) <= 6
    held = table[parts == 1].sum(0)
    assert np.abs(held - 0.2 * table.sum(0)).max() <= 1.5, (
        "far closer than chance, whose deviation is up to 5"
    )
    order = rng.permutation(600)
    again = spread_label_sets([sets[i] for i in order], [names[i] for i in order], [0.8, 0.2])
    assert parts[order].tolist() == again, "the order in which files are listed decides nothing"


def test_folds_have_every_label_and_every_image_once(tmp_path: Path) -> None:
    splits = build_sources("folder", write(put(tmp_path), *FILES["bars"]))
    validated: dict[str, list[str]] = {}
    for fold in range(2):
        made = into_folds(splits, 2, fold)
        validated |= found(made.val)
        assert found(made.train).keys().isdisjoint(found(made.val))
        assert made.val.targets.counts(3).min() >= 1  # type: ignore[attr-defined]
    assert validated == TAGS
    with pytest.raises(DataError, match="data.folds=3: class 'bird' has 2 different image"):
        into_folds(splits, 3, 0)


def test_a_batch_has_a_row_for_each_image(tmp_path: Path) -> None:
    train = build_sources("folder", write(put(tmp_path), *FILES["bars"])).train
    dataset = ImageDataset(train, EvalTransform((6, 6)), 0)
    batch = collate([dataset[index] for index in range(len(train))])
    expected = [[float(label in TAGS[train.name(i)]) for label in CLASSES] for i in range(len(train))]
    assert torch.equal(batch.target, torch.tensor(expected))
    keep_class_order(train, ["dog", "bird", "cat"])
    assert found(train) == {
        name: sorted(TAGS[name], key=["dog", "bird", "cat"].index) for name in found(train)
    }


def test_a_dataset_gives_rows_of_labels() -> None:
    images, rows = (
        torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
        torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]),
    )
    splits = as_splits((TensorDataset(images, rows), TensorDataset(images, rows.float())), "sources")
    for source in (splits.train, splits.val):
        assert list(source.targets) == [(0, 2), (), (1,), (0, 1, 2)]
        assert source.classes == ["0", "1", "2"]
    with pytest.raises(
        DataError, match="train: several labels of an item are a row of 0 and 1 for all classes"
    ):
        as_splits((TensorDataset(images, 2 * rows), TensorDataset(images, rows)), "sources")
    numbers = TensorDataset(images, torch.tensor([[1], [0], [1], [0]]))
    assert as_splits((numbers, numbers), "sources").train.targets == [1, 0, 1, 0], "a column of class numbers"
