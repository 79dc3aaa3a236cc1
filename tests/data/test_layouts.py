"""Photo folders as people have them: what is used as what, against a table written by hand."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sppcls.cli.main import main
from sppcls.data import image_files, labelled_images
from sppcls.data.files import FileSource, keep_class_order
from sppcls.data.names import is_junk, role_of
from sppcls.data.sources import build_sources
from sppcls.errors import CheckpointError, ConfigError, DataError
from sppcls.inference.transfer.tasks import folder_task


def put(folder: Path, images: int = 5) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        Image.new("RGB", (6, 4), (number, 0, 0)).save(folder / f"{number}.png")


def make(root: Path, layout: str) -> Path:
    """Folders of five images each; a number after ``*`` says otherwise."""
    for word in layout.split():
        folder, _, images = word.partition("*")
        put(root / folder, int(images or 5))
    return root


def paths(source: object, root: Path) -> set[str]:
    assert isinstance(source, FileSource)
    return {(source.root / source.name(i)).relative_to(root).as_posix() for i in range(len(source))}


CATS_DOGS = ["cat", "dog"]
HELD = "of which 2 held out for validation (data.val_fraction=0.2)"

# layout, the folders of training, validation ("" is held out) and test, and what is said of them
LAYOUTS = {
    "bare": ("cat dog", "", "", None, f"class folders 10, {HELD}"),
    "train and val": ("train/cat train/dog val/cat val/dog*3", "train", "val", None,
                      "train/ 10, val/ 8 as validation"),
    "three, mixed case": ("Train/cat Train/dog valid/cat*1 valid/dog*1 TEST/cat TEST/dog*2", "Train", "valid", "TEST",
                          "Train/ 10, valid/ 2 as validation, TEST/ 7 kept for the end"),
    "validation": ("training/cat training/dog validation/cat validation/dog", "training", "validation", None,
                   "training/ 10, validation/ 10 as validation"),
    "sets": ("training_set/cat training_set/dog test_set/cat test_set/dog", "training_set", "", "test_set",
             f"training_set/ 10, {HELD}, test_set/ 10 kept for the end"),
    "Training, Testing": ("Training/cat Training/dog Testing/cat Testing/dog", "Training", "", "Testing",
                          f"Training/ 10, {HELD}, Testing/ 10 kept for the end"),
    "folder in folder twice": ("seg_train/seg_train/cat seg_train/seg_train/dog seg_test/seg_test/cat "
                               "seg_test/seg_test/dog seg_pred/seg_pred", "seg_train/seg_train", "",
                               "seg_test/seg_test",
                               f"seg_train/seg_train/ 10, {HELD}, seg_test/seg_test/ 10 kept for the end; "
                               "seg_pred/ is not used"),
    "name of the set": ("pets_train/cat pets_train/dog pets_test/cat pets_test/dog", "pets_train", "", "pets_test",
                        f"pets_train/ 10, {HELD}, pets_test/ 10 kept for the end"),
    "lone train": ("train/cat train/dog", "train", "", None, f"train/ 10, {HELD}"),
    "wrapped classes": ("outer/inner/cat outer/inner/dog __MACOSX/outer", "outer/inner", "", None,
                        f"outer/inner/ 10, {HELD}"),
    "wrapped splits": ("archive/Train/cat archive/Train/dog archive/Val/cat archive/Val/dog", "archive/Train",
                       "archive/Val", None, "archive/Train/ 10, archive/Val/ 10 as validation"),
    "test without labels": ("train/cat train/dog test", "train", "", None,
                            f"train/ 10, {HELD}; test/ is not used: it holds no class folders"),
    "test in one folder": ("train/cat train/dog test/unknown", "train", "", None,
                           f"train/ 10, {HELD}; test/ is not used: none of its folders is a class of training"),
    "folders besides": ("train/cat train/dog val/cat val/dog old/cat/a .git/x", "train", "val", None,
                        "train/ 10, val/ 10 as validation; old/ is not used"),
    "val lacks a class": ("train/cat train/dog dev/cat", "train", "dev", None,
                          "train/ 10, dev/ 5 as validation; warning: dev/ has no image of class 'dog'"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_used_as_what(name: str, tmp_path: Path) -> None:
    layout, train, val, test, said = LAYOUTS[name]
    root = make(tmp_path / "root", layout)
    splits = build_sources("folder", root)
    assert "; warning: ".join([splits.found, *splits.warnings]) == said
    assert splits.train.classes == splits.val.classes == CATS_DOGS

    def below(folder: str) -> set[str]:
        found = (path.relative_to(root).as_posix() for path in (root / folder).rglob("*.png"))
        return {path for path in found if "__MACOSX" not in path}

    if val:
        assert (paths(splits.train, root), paths(splits.val, root)) == (below(train), below(val))
    else:
        assert paths(splits.train, root) | paths(splits.val, root) == below(train)
        assert len(splits.val) == 2
        assert not paths(splits.train, root) & paths(splits.val, root)
    assert (paths(splits.test, root) if splits.test else None) == (below(test) if test else None)


REFUSED = {
    "only split names, no classes": ("training_set test_set",
        r"root: training_set/ and test_set/ hold images and no class folders; .*data\.labels=FILE; "
        r"if they are classes, add data\.train_dir=\.$"),
    "val without labels": ("train/cat train/dog val", r"val/ holds images and no class folders"),
    "val without labels, in a folder": ("train/cat train/dog val/images", r"val/ holds images and no class folders"),
    "two to train on": ("train/cat train/dog training/cat training/dog val/cat",
        r"train/ and training/ could each be the training folder; .* data\.train_dir=train data\.val_dir=val;"),
    "a split beside classes": ("cat dog test/cat test/dog",
        r"test/ beside cat/ and dog/: splits or classes\? .* data\.train_dir=\. data\.test_dir=test$"),
    "a class beside splits": ("train/cat train/dog val/cat cow",
        r"train/ and val/ beside cow/: .*data\.train_dir=train data\.val_dir=val; data\.train_dir=\. if all are"),
    "a test folder beside classes": ("cat dog test", r"test/ beside cat/ and dog/: .*holds no class folders"),
    "nothing to train on": ("test/cat test/dog", r"no training folder beside test/; name one, data\.train_dir=FOLDER"),
    "one level too high": ("data/cat data/dog dest/train/cat dest/train/dog dest/val/cat dest/val/dog",
        r"one level too high\? dest/ holds train/ and val/; the likely root is data\.root=\S*root/dest;"),
    "one level too high, copies": ("data/cat data/dog dest/cat*7 dest/dog",
        r"too high\? data/ and dest/ hold the same folders \('cat', 'dog'\); the likely root is data\.root=\S*root/dest; "
        r"if they are splits, add data\.train_dir=dest data\.val_dir=data;"),
    "splits in another language": ("Testdaten/cat Testdaten/dog Trainingsdaten/cat Trainingsdaten/dog",
        r"if they are splits, add data\.train_dir=Trainingsdaten data\.val_dir=Testdaten;"),
    "a copy among the classes": ("cat dog all/cat all/dog",
        r"too high\? all/ holds folders of the same names as those beside it"),
    "splits inside the classes": ("cat/train cat/test dog/train dog/test", r"the splits are inside the classes"),
    "one class": ("train/cat val/cat", r"train: holds a single class folder \('cat'\)"),
    "class unknown to training": ("train/cat train/dog val/Cat val/dog",
        r"val: class 'Cat' is not among the classes in \S*train \(is it 'cat'\?\)"),
    "empty val": ("train/cat train/dog val/cat*0", r"val: no image in it or below"),
    "images alone": (". ", r"has no class folders; .*data\.labels=FILE"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_do(name: str, tmp_path: Path) -> None:
    layout, said = REFUSED[name]
    with pytest.raises(DataError, match=said) as caught:
        build_sources("folder", make(tmp_path / "root", layout))
    assert "\n" not in str(caught.value)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    splits = build_sources("folder", make(tmp_path, "bus car train"))
    assert splits.train.classes == ["bus", "car", "train"]
    assert any("train/ is taken for a class" in line for line in [splits.found, *splits.warnings])


@pytest.mark.parametrize(
    ("layout", "dirs", "train", "val", "test"),
    [
        ("cat dog test/cat test/dog", {"train_dir": ".", "test_dir": "test"}, "cat dog", "", "test"),
        ("train test", {"train_dir": "."}, "train test", "", ""),
        ("cat dog hold/cat hold/dog", {"val_dir": "hold"}, "cat dog", "hold", ""),
        ("train/cat train/dog training/cat training/dog val/cat", {"train_dir": "training"}, "training", "val", ""),
        ("a/cat a/dog b/cat b/dog c/cat", {"train_dir": "a", "val_dir": "b", "test_dir": "c"}, "a", "b", "c"),
        ("cat/in cat/out dog/in dog/out", {"train_dir": "."}, "cat dog", "", ""),
        ("w/train/cat w/train/dog w/Test/cat", {"train_dir": "w/train", "test_dir": "w/Test"}, "w/train", "", "w/Test"),
    ],
)  # fmt: skip
def test_folders_may_be_named(
    layout: str, dirs: dict[str, str], train: str, val: str, test: str, tmp_path: Path
) -> None:
    root = make(tmp_path / "root", layout)

    def below(folders: str) -> set[str]:
        return {
            path.relative_to(root).as_posix() for f in folders.split() for path in (root / f).rglob("*.png")
        }

    splits = build_sources("folder", root, **dirs)  # type: ignore[arg-type]
    if val:
        assert (paths(splits.train, root), paths(splits.val, root)) == (below(train), below(val))
    else:
        assert paths(splits.train, root) | paths(splits.val, root) == below(train)
    assert (paths(splits.test, root) if splits.test else set()) == below(test)
    absolute = {key: str((root / value).resolve()) for key, value in dirs.items()}
    again = build_sources("folder", root, **absolute)  # type: ignore[arg-type]
    assert [again.train.name(i) for i in range(len(again.train))] == [
        splits.train.name(i) for i in range(len(splits.train))
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"train_dir": "gone"}, r"data\.train_dir=gone: no such folder"),
        ({"val_dir": "cat/0.png"}, r"data\.val_dir=cat/0\.png: is a file"),
        ({"val_dir": " "}, r"data\.val_dir: empty"),
        ({"train_dir": ".", "val_dir": "."}, r"data\.train_dir and data\.val_dir are the same folder"),
        ({"val_dir": "cat/deep/er"}, r"data\.val_dir: \S*cat/deep/er lies inside a class"),
        ({"labels": "x.csv", "val_dir": "cat"}, r"data\.val_dir must be null"),
    ],
)
def test_folders_that_cannot_be_named(words: dict[str, str], said: str, tmp_path: Path) -> None:
    make(tmp_path, "cat dog cat/deep/er/cat cat/deep/er/dog")
    with pytest.raises((DataError, ConfigError), match=said):
        build_sources("folder", tmp_path, **words)  # type: ignore[arg-type]


def test_the_keys_are_for_folders_only() -> None:
    with pytest.raises(ConfigError, match=r"data\.val_dir=x: only for data=folder, not for shapes"):
        build_sources("shapes", val_dir="x")


ROLES = {
    "train": "train Train TRAIN training trainset training_set train_set TrainingSet seg_train train_images images-train "
             "trainImages train2017 train_256x256 trainval train_val traindata",
    "val": "val Val valid validation dev eval val_images Validation_Set valset val2017",
    "test": "test Test testing test_set testset seg_test TEST tests Testing-Set test_data",
    None: "cat tester trainee contest valley vale attest developer train_labels my_train 2017 images data _ tea valentine",
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_names_of_splits(role: str | None) -> None:
    assert {name: role_of(name) for name in ROLES[role].split()} == dict.fromkeys(ROLES[role].split(), role)


JUNK = [
    "__MACOSX", "._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints", "@eaDir", ".hidden.png",
    "$RECYCLE.BIN", "__pycache__",
]  # fmt: skip


def test_what_systems_leave_behind_is_nowhere(tmp_path: Path) -> None:
    assert all(map(is_junk, JUNK))
    root = make(tmp_path, "cat dog")
    for place in (root, root / "cat"):
        for name in JUNK:
            if "." in name[1:]:
                (place / name).write_bytes(b"x")
            else:
                put(place / name)
    splits = build_sources("folder", root)
    assert splits.train.classes == CATS_DOGS
    assert len(splits.train) + len(splits.val) == 10
    assert getattr(splits.train, "ignored", None) == 0
    assert len(image_files([root])) == 10


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "outer/train/cat outer/train/dog/deep outer/test/cat outer/test/dog outer/old")
    shutil.rmtree(tmp_path / "outer/old")
    listed: list[str] = []
    scandir = os.scandir

    def counting(path: str) -> object:
        listed.append(os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counting)
    splits = build_sources("folder", tmp_path)
    assert splits.test is not None
    assert len(listed) == len(set(listed)) == 9


# --- names of classes


def test_numbers_are_in_the_order_of_their_values(tmp_path: Path) -> None:
    make(tmp_path / "a", " ".join(map(str, range(1, 13))))
    assert build_sources("folder", tmp_path / "a").train.classes == [str(n) for n in range(1, 13)]
    make(tmp_path / "b", "1 2 10 ten")
    assert build_sources("folder", tmp_path / "b").train.classes == ["1", "10", "2", "ten"]


def test_the_numbers_of_a_checkpoint_are_kept(tmp_path: Path) -> None:
    splits = build_sources("folder", make(tmp_path, "1 2 10"))
    before = sorted(paths(splits.train, tmp_path))  # as sorted by name, which is how it used to be
    old = ["1", "10", "2"]
    keep_class_order(splits.train, old)
    train = splits.train
    assert train.classes == old
    assert [train.name(i) for i in range(len(train))] == before
    assert all(train.name(i).startswith(f"{old[target]}/") for i, target in enumerate(train.targets))
    keep_class_order(train, ["1", "2", "3"])
    assert train.classes == old


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))


def test_two_forms_of_the_same_letters_are_one_class(tmp_path: Path) -> None:
    if os.path.exists(make(tmp_path / "a", f"{COMPOSED} dog") / DECOMPOSED):
        pytest.skip("this file system takes both forms for one name")
    make(tmp_path / "a", DECOMPOSED)
    splits = build_sources("folder", tmp_path / "a")
    assert splits.train.classes == [COMPOSED, "dog"]
    assert len(splits.train) + len(splits.val) == 15
    assert "class 'Müller' has two folders, in composed (NFC)" in splits.warnings[0]
    for index in range(len(splits.train)):
        splits.train.image(index)
    # Between splits, and between a checkpoint and a folder.
    root = make(tmp_path / "b", f"train/{DECOMPOSED} train/dog val/{COMPOSED} val/dog")
    splits = build_sources("folder", root)
    assert splits.val.targets == [0] * 5 + [1] * 5
    images = labelled_images(root, [DECOMPOSED, "dog"])
    assert images.classes == [DECOMPOSED, "dog"]
    assert images.targets == [0] * 5 + [1] * 5


def test_classes_that_differ_in_case_are_told(tmp_path: Path) -> None:
    if os.path.exists(make(tmp_path, "Cat dog") / "cat"):
        pytest.skip("this file system takes both for one name")
    splits = build_sources("folder", make(tmp_path, "cat"))
    assert splits.train.classes == ["Cat", "cat", "dog"]
    assert splits.warnings == ("classes 'Cat', 'cat' differ in case or spaces only",)


# --- kinds of images


def test_kinds_are_the_same_for_training_and_for_predict(tmp_path: Path) -> None:
    make(tmp_path, "cat*3 dog*3")
    for extension in ("jpg", "webp", "jp2", "tga", "bmp"):
        Image.new("RGB", (6, 4)).save(tmp_path / "cat" / f"photo.{extension}")
    splits = build_sources("folder", tmp_path, val_fraction=0.3)
    there = paths(splits.train, tmp_path) | paths(splits.val, tmp_path)
    assert there == {path.relative_to(tmp_path).as_posix() for path in image_files([tmp_path])}
    assert len(there) == 11


def test_images_of_kinds_that_cannot_be_read_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path, "cat dog")
    for number in range(3):
        (tmp_path / "cat" / f"{number}.NEF").write_bytes(b"x")
    (tmp_path / "dog" / "0.dng").write_bytes(b"x")
    splits = build_sources("folder", tmp_path)
    assert splits.warnings[0].startswith(
        "4 camera raw images are left out ('cat' 3, 'dog' 1): develop them to JPEG"
    )
    words = ["sizes", "data=folder", f"data.root={tmp_path}", "data.batch_size=4", "trainer.max_epochs=1"]
    assert main(words) == 0
    assert "4 camera raw images are left out" in capsys.readouterr().out
    lines: list[str] = []
    assert len(image_files([tmp_path], lines.append)) == 10
    assert lines == [
        f"{tmp_path}: 4 camera raw images are left out ('cat' 3, 'dog' 1): develop them to JPEG, PNG or TIFF"
    ]
    for path in (tmp_path / "dog").glob("*.png"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"no image in the folder of class 'dog'; 1 camera raw images are left out"
    ):
        build_sources("folder", tmp_path)


# --- the other commands that take a folder


@pytest.mark.parametrize(
    ("layout", "used"),
    [
        ("train/cat train/dog valid/cat valid/dog test/cat test/dog", "valid"),
        ("Train/cat Train/dog Test_set/cat Test_set/dog", "Test_set"),
        ("cat dog", "."),
        ("w/cat w/dog", "w"),
        ("train/cat train/dog", "train"),
    ],
)
def test_what_a_network_is_tested_on(layout: str, used: str, tmp_path: Path) -> None:
    source = labelled_images(make(tmp_path, layout), CATS_DOGS)
    assert paths(source, tmp_path) == {
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / used).rglob("*.png")
    }
    with pytest.raises(CheckpointError, match="other classes"):
        labelled_images(tmp_path, ["cat", "hen"])


def test_transfer_takes_the_splits_that_training_does(tmp_path: Path) -> None:
    task = folder_task(make(tmp_path, "Training/cat Training/dog Testing/cat*2 Testing/dog*2"))
    assert str(task) == "2 classes; the given split: 10 training, 4 test images"
    assert {name.split("/")[0] for name in task.names[10:]} == {"Testing"}
    assert all((tmp_path / name).is_file() for name in task.names)


def test_folders_without_end_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "/".join(["x"] * 400)).mkdir(parents=True)
    with pytest.raises(DataError, match=r"folders within folders, 100 deep and more"):
        build_sources("folder", str(tmp_path))


def test_a_run_of_the_old_order_goes_on_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "photos", "1 2 10")
    words = ["data=folder", "data.root=photos", "data.batch_size=4", "data.workers=0", "sizes=single_224",
             "sizes.sizes=[64]", "pyramid=l1", "head=linear", "backbone.width=0.0625", "trainer.max_epochs=1",
             "trainer.accelerator=cpu", "trainer.threads=1", "log.images=false", "run_name=old"]  # fmt: skip
    assert main(["train", *words]) == 0
    last = tmp_path / "runs/folder/old/last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["sppcls"]["classes"] == ["1", "2", "10"]
    checkpoint["sppcls"]["classes"] = ["1", "10", "2"]  # by their text, as in earlier versions
    torch.save(checkpoint, last)
    assert main(["evaluate", str(last), "--protocol", "center"]) == 0
    assert main(["train", f"ckpt_path={last}", "trainer.max_epochs=2"]) == 0
    assert torch.load(last, weights_only=True)["sppcls"]["classes"] == ["1", "10", "2"]
    with np.load(last.parent / "predictions/val_64.npz") as kept:
        assert list(kept["classes"]) == ["1", "10", "2"]
        assert [kept["classes"][t] for t in kept["label"]] == [p.split("/")[0] for p in kept["path"]]
    capsys.readouterr()
