"""Images with several labels in shards and in Hugging Face data sets: the labels that a folder of the same images has."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sppcls.cli.main import main
from sppcls.data.folder import folder_sources
from sppcls.data.folds import into_folds
from sppcls.data.huggingface import huggingface
from sppcls.data.label_sets import LabelSets
from sppcls.data.shards import INDEX, shards
from sppcls.errors import ConfigError, DataError

CLASSES = ["bird", "cat", "dog"]
SETS: list[list[str]] = [
    ["cat"], ["cat", "dog"], [], ["dog"], ["bird", "cat", "dog"], ["bird"], ["cat"], ["dog"], ["cat", "dog"], [],
]  # fmt: skip


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def photos(root: Path, split: bool = False) -> Path:
    root.mkdir()
    lines = ["path,tags,split" if split else "path,tags"]
    for number, labels in enumerate(SETS):
        (root / f"{number}.png").write_bytes(picture(number))
        role = ("val" if number > 7 else "train",) if split else ()
        lines.append(",".join([f"{number}.png", "|".join(labels), *role]))
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    return root


def found(source: Any) -> dict[str, list[str]]:
    assert isinstance(source.targets, LabelSets)
    return {source.name(i): [source.classes[n] for n in source.targets[i]] for i in range(len(source))}


@pytest.mark.parametrize("split", [True, False])
def test_shards_have_the_labels_of_the_folder(tmp_path: Path, split: bool) -> None:
    root, out = photos(tmp_path / "photos", split), tmp_path / "out"
    assert main(["shards", str(root), str(out), "--workers", "0"]) == 0
    folder, read = folder_sources(root), shards(str(out))
    for there, here in ((folder.train, read.train), (folder.val, read.val)):
        assert list(found(here).items()) == list(found(there).items())
        assert here.classes == there.classes == CLASSES
        assert [here.data(i) for i in range(len(here))] == [
            (root / there.name(i)).read_bytes() for i in range(len(there))
        ]
    with tarfile.open(out / "train-000000.tar") as tar:
        labels = {m.name: json.loads(tar.extractfile(m).read()) for m in tar if m.name.endswith(".json")}
    assert labels == {
        f"{i:09d}.json": {"labels": list(numbers)} for i, numbers in enumerate(folder.train.targets)
    }
    # Without the index, from the tar files alone.
    before = (out / INDEX).read_bytes()
    assert main(["shards", "--index", str(out)]) == 0
    again = shards(str(out))
    assert sorted(found(again.train).values()) == sorted(found(read.train).values())
    assert json.loads((out / INDEX).read_bytes())["version"] == json.loads(before)["version"] == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves files open
def test_webdataset_reads_the_labels(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    root, out = photos(tmp_path / "photos", split=True), tmp_path / "out"
    assert main(["shards", str(root), str(out), "--workers", "0"]) == 0
    url = str(out / "train-000000.tar")
    samples = webdataset.WebDataset([url], shardshuffle=False).decode()
    read = {int(sample["__key__"]): sample["json"]["labels"] for sample in samples}
    assert read == {i: [CLASSES.index(name) for name in labels] for i, labels in enumerate(SETS[:8])}


@pytest.mark.parametrize("several", [True, False])
def test_another_share_is_held_out_as_of_the_folder(tmp_path: Path, several: bool) -> None:
    if several:
        root = photos(tmp_path / "photos")
    else:
        root = tmp_path / "photos"
        for number in range(24):
            (root / CLASSES[number % 3]).mkdir(parents=True, exist_ok=True)
            (root / CLASSES[number % 3] / f"{number}.png").write_bytes(picture(number))
    out = tmp_path / "out"
    assert main(["shards", str(root), str(out), "--workers", "0"]) == 0
    for fraction in (0.2, 0.4):
        there, here = folder_sources(root, val_fraction=fraction), shards(str(out), val_fraction=fraction)
        assert here.held_out
        for one, other in zip(there[:2], here[:2], strict=True):
            assert [one.name(i) for i in range(len(one))] == [other.name(i) for i in range(len(other))]
            assert list(one.targets) == list(other.targets)
            assert all((one.image(i) == other.image(i)).all() for i in range(len(one)))


def test_folds_of_shards_have_a_share_of_every_label(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "photos"), tmp_path / "out"
    assert main(["shards", str(root), str(out), "--workers", "0"]) == 0
    everything = {name: labels for source in shards(str(out))[:2] for name, labels in found(source).items()}
    tested: dict[str, list[str]] = {}
    for fold in range(2):
        splits = into_folds(shards(str(out)), 2, fold)
        parts = [{n.partition("/")[2]: labels for n, labels in found(s).items()} for s in splits[:2]]
        assert parts[0] | parts[1] == everything
        assert set(chain(*parts[1].values())) == set(CLASSES)
        tested |= parts[1]
    assert tested == everything


def test_a_validation_split_is_kept(tmp_path: Path) -> None:
    root, out = photos(tmp_path / "photos", split=True), tmp_path / "out"
    assert main(["shards", str(root), str(out), "--workers", "0"]) == 0
    with pytest.raises(
        ConfigError, match=r"data.val_fraction=0.3: these shards have a validation split of their own"
    ):
        shards(str(out), val_fraction=0.3)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda split: split.update(labels=split["shard"]), "damaged"),
        (lambda split: split.pop("labels"), "images of one split have several labels"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], line: str
) -> None:
    root, out = photos(tmp_path / "photos", split=True), tmp_path / "out"
    assert main(["shards", str(root), str(out), "--workers", "0"]) == 0
    content = json.loads((out / INDEX).read_text())
    change(content["splits"]["train"])
    (out / INDEX).write_text(json.dumps(content))
    with pytest.raises(DataError, match=line):
        shards(str(out))


# --- Hugging Face data sets


def saved(root: Path, columns: dict[str, Any], features: dict[str, Any] | None = None) -> str:
    datasets = pytest.importorskip("datasets")
    images = [{"bytes": picture(i), "path": None} for i in range(len(SETS))]
    made = datasets.Dataset.from_dict({"image": images, **columns}).cast_column("image", datasets.Image())
    for name, feature in (features or {}).items():
        made = made.cast_column(name, feature)
    datasets.DatasetDict({"train": made, "validation": made.select([1, 2, 4, 5])}).save_to_disk(str(root))
    return str(root)


FLAGS = {name: [int(name in labels) for labels in SETS] for name in CLASSES}
NUMBERS = [[CLASSES.index(name) for name in labels] for labels in SETS]


def test_lists_of_numbers_with_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    kind = datasets.Sequence(datasets.ClassLabel(names=CLASSES))
    read = huggingface(saved(tmp_path / "set", {"label": NUMBERS}, {"label": kind}))
    assert read.train.classes == CLASSES
    assert list(found(read.train).values()) == SETS
    assert list(found(read.val).values()) == [SETS[i] for i in (1, 2, 4, 5)]


@pytest.mark.parametrize(
    ("columns", "words", "classes"),
    [
        ({"label": SETS}, {}, CLASSES),
        ({"label": NUMBERS}, {}, ["0", "1", "2"]),
        ({"label": ["|".join(labels) for labels in SETS]}, {}, CLASSES),
        ({"label": [", ".join(labels) for labels in SETS]}, {"multi_label": "comma"}, CLASSES),
        ({"label": ["|".join(labels) or None for labels in SETS]}, {"multi_label": True}, CLASSES),
        (FLAGS, {"label": CLASSES}, CLASSES),
        ({name: list(map(bool, flags)) for name, flags in FLAGS.items()}, {"label": CLASSES}, CLASSES),
        ({"label": [list(row) for row in zip(*FLAGS.values(), strict=True)]}, {}, ["0", "1", "2"]),
    ],
)
def test_other_ways_to_write_them(
    tmp_path: Path, columns: dict[str, Any], words: dict[str, Any], classes: list[str]
) -> None:
    read = huggingface(saved(tmp_path / "set", columns), **words)
    assert read.train.classes == classes
    assert [[CLASSES[n] for n in numbers] for numbers in read.train.targets] == SETS
    assert isinstance(read.val.targets, LabelSets)


def test_a_share_of_every_label_is_held_out(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = [{"bytes": picture(i), "path": None} for i in range(40)]
    rows = {"image": images, "label": [SETS[i % 10] for i in range(40)]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "set"))
    read = huggingface(str(tmp_path / "set"), val_fraction=0.25)
    assert (len(read.train), len(read.val)) == (30, 10)
    counts = np.array([read.val.targets.counts(3), read.train.targets.counts(3)])
    assert np.abs(counts[0] - counts.sum(0) / 4).max() <= 1
    # The labels are still those of their images.
    for source in (read.train, read.val):
        for i in range(len(source)):
            row = int(source.image(i)[0, 0, 0])
            assert [read.train.classes[n] for n in source.targets[i]] == SETS[row % 10]


@pytest.mark.parametrize(
    ("columns", "words", "error", "line"),
    [
        ({"label": SETS}, {"multi_label": False}, DataError, "a row has 3 labels; several need data.multi_label=true"),
        (FLAGS | {"cat": [2] * 10}, {"label": CLASSES}, DataError, "cat is 2 in a row; each class has a 0 or a 1"),
        (FLAGS, {"label": ["cat"]}, ConfigError, "name a column for each class"),
        (FLAGS, {"label": ["cat", "cow"]}, ConfigError, "data.label=cow: .* has no such column"),
        ({"label": [[[1]]] * 10}, {}, DataError, "neither whole numbers nor names, nor lists of them"),
    ],
)  # fmt: skip
def test_what_is_odd_is_one_line(
    tmp_path: Path, columns: dict[str, Any], words: dict[str, Any], error: type[Exception], line: str
) -> None:
    with pytest.raises(error, match=line):
        huggingface(saved(tmp_path / "set", columns), **words)
