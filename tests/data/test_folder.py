"""Image folders on disk, good and bad."""

from __future__ import annotations

import contextlib
import os
import shutil

import pytest
from PIL import Image

from sppcls.data.files import check_headers
from sppcls.data.sources import build_sources
from sppcls.errors import ConfigError, DataError, ImageError


def put(path, colour="red", size=(6, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower(), "PNG")
    Image.new("RGB", size, colour).save(path, kind)


def two_splits(root, train=("cat", "dog"), val=("cat", "dog"), images=2):
    for split, classes in (("train", train), ("val", val)):
        for name in classes:
            for number in range(images):
                put(root / split / name / f"{number}.png")
    return root


def names(source):
    return [source.name(index) for index in range(len(source))]


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_train_and_val_folders(tmp_path):
    root = two_splits(tmp_path, train=("dog", "cat", "Zebra"), val=("dog", "cat"))
    train, val, *_ = build_sources("folder", root)
    assert train.classes == val.classes == ["Zebra", "cat", "dog"]
    assert names(train) == [f"{c}/{n}.png" for c in ("Zebra", "cat", "dog") for n in (0, 1)]
    assert train.targets == [0, 0, 1, 1, 2, 2]
    assert names(val) == [f"{c}/{n}.png" for c in ("cat", "dog") for n in (0, 1)]
    assert val.targets == [1, 1, 2, 2]  # numbered as in train, although val has no Zebra
    assert train.image(0).shape == (3, 4, 6)
    assert len(train) == 6


def test_imagenet_layout(tmp_path):
    for split in ("train", "val"):
        for wnid in ("n02", "n01"):
            put(tmp_path / split / wnid / f"{wnid}_1.JPEG".replace("JPEG", "jpeg"))
    train, val, *_ = build_sources("imagenet", tmp_path)
    assert train.classes == ["n01", "n02"]
    assert val.targets == [0, 1]


def test_odd_names_extensions_subfolders_and_other_files(tmp_path):
    root = two_splits(tmp_path)
    folder = root / "train" / "cat"
    for name in ["A.JPG", "b.Jpeg", "sub/deeper/c.PNG", "häst och föl.jpg", "猫 1.png"]:
        put(folder / name)
    for name in ["notes.txt", "Thumbs.db", "noextension"]:
        (folder / name).write_text("x")
    put(folder / ".hidden.jpg")
    put(folder / "._A.JPG")
    put(folder / ".cache" / "d.jpg")
    put(root / "train" / ".ipynb_checkpoints" / "e.jpg")
    (root / "train" / "readme.md").write_text("x")
    train, _, *_ = build_sources("folder", root)
    assert train.classes == ["cat", "dog"]
    expected = ["0.png", "1.png", "A.JPG", "b.Jpeg", "sub/deeper/c.PNG", "häst och föl.jpg", "猫 1.png"]
    assert sorted(names(train)) == sorted([f"cat/{name}" for name in expected] + ["dog/0.png", "dog/1.png"])
    assert train.ignored == 2  # Thumbs.db is no file of anybody's
    for index in range(len(train)):
        train.image(index)


@pytest.mark.parametrize("labelled", [True, False])
def test_imagenets_test_images_are_used_where_they_have_labels(tmp_path, labelled):
    root = two_splits(tmp_path)
    put(root / "test" / ("cat" if labelled else "") / "0.png")
    found = build_sources("imagenet", root).test
    assert (None if found is None else names(found)) == (["cat/0.png"] if labelled else None)


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="needs symbolic links")
def test_links_are_followed_but_not_in_circles(tmp_path):
    root = two_splits(tmp_path / "data")
    put(tmp_path / "elsewhere" / "bird" / "x.png")
    (root / "train" / "bird").symlink_to(tmp_path / "elsewhere" / "bird")
    (root / "train" / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "bird" / "x.png")
    (root / "train" / "cat" / "loop").symlink_to(root / "train")
    (root / "train" / "dog" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    train, _, *_ = build_sources("folder", root)
    assert train.classes == ["bird", "cat", "dog"]
    assert {"bird/x.png", "cat/linked.png", "dog/broken.png"} <= set(names(train))
    assert len(names(train)) == len(set(names(train))) < 20
    assert [name for name, _ in check_headers(train)] == ["dog/broken.png"]


def test_a_name_that_is_not_utf8(tmp_path):
    root = two_splits(tmp_path)
    try:
        os.rename(
            os.fsencode(root / "train" / "cat" / "0.png"),
            os.fsencode(root / "train" / "cat") + b"/\xff\xfe.png",
        )
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    train, _, *_ = build_sources("folder", root)
    assert train.image(names(train).index(os.fsdecode(b"cat/\xff\xfe.png"))).shape == (3, 4, 6)


# --- one folder, split


def single(root, classes=("a", "b"), images=10):
    for name in classes:
        for number in range(images):
            put(root / name / f"{number}.png")
    return root


def test_single_folder_is_split_within_each_class(tmp_path):
    train, val, *_ = build_sources("folder", single(tmp_path), val_fraction=0.3)
    assert [train.targets.count(c) for c in (0, 1)] == [7, 7]
    assert [val.targets.count(c) for c in (0, 1)] == [3, 3]
    assert sorted(names(train) + names(val)) == sorted(f"{c}/{n}.png" for c in "ab" for n in range(10))
    assert train.classes == val.classes == ["a", "b"]


def test_the_split_depends_neither_on_the_place_nor_on_the_listing_nor_on_the_seed(tmp_path, monkeypatch):
    first = build_sources("folder", single(tmp_path / "one"), seed=0)
    shutil.copytree(tmp_path / "one", tmp_path / "another place")
    second = build_sources("folder", tmp_path / "another place", seed=7)
    assert [names(s) for s in first[:2]] == [names(s) for s in second[:2]]
    scandir = os.scandir

    @contextlib.contextmanager
    def backwards(path):
        with scandir(path) as found:
            yield reversed(list(found))

    monkeypatch.setattr(os, "scandir", backwards)
    third = build_sources("folder", tmp_path / "one")
    assert [names(s) for s in first[:2]] == [names(s) for s in third[:2]]
    # Written down once: the split must not change between versions.
    assert names(first[1]) == ["a/2.png", "a/9.png", "b/2.png", "b/7.png"]


@pytest.mark.parametrize(("fraction", "side"), [(0.04, "validation"), (0.96, "training")])
def test_fraction_that_empties_a_side(tmp_path, fraction, side):
    with pytest.raises(
        DataError, match=rf"data\.val_fraction={fraction}: class 'a' .* 10 image\(s\).*{side}"
    ) as caught:
        build_sources("folder", single(tmp_path), val_fraction=fraction)
    one_line(caught)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_fraction_out_of_range(tmp_path, fraction):
    with pytest.raises(ConfigError, match=r"data\.val_fraction=.*between 0 and 1"):
        build_sources("folder", single(tmp_path), val_fraction=fraction)


# --- bad folders


def bad(root, message, name="folder"):
    with pytest.raises(DataError, match=message) as caught:
        build_sources(name, root)
    return one_line(caught)


def test_root_is_missing(tmp_path):
    bad(tmp_path / "gone", r"data\.root=.*gone: no such folder")


def test_root_is_a_file(tmp_path):
    put(tmp_path / "image.png")
    bad(tmp_path / "image.png", "is a file")


def test_root_is_empty(tmp_path):
    bad(tmp_path, "no class folders")


def test_images_without_class_folders(tmp_path):
    put(tmp_path / "0.png")
    bad(tmp_path, "one folder per class")


def test_a_validation_split_alone(tmp_path):
    put(tmp_path / "val" / "cat" / "0.png")
    put(tmp_path / "val" / "dog" / "0.png")
    bad(tmp_path, r"there is no training folder beside val/; name one, data\.train_dir=FOLDER")


def test_imagenet_needs_train(tmp_path):
    bad(single(tmp_path), "no folder train/", name="imagenet")


def test_class_in_val_that_train_lacks(tmp_path):
    root = two_splits(tmp_path, val=("cat", "cow", "dog", "hen"))
    assert "'cow', 'hen'" in bad(root, "not among the classes")


def test_class_without_a_training_image(tmp_path):
    root = two_splits(tmp_path)
    (root / "train" / "ant").mkdir()
    (root / "train" / "ant" / "notes.txt").write_text("x")
    assert "train: no image in the folder of class 'ant'" in bad(root, "ant")


@pytest.mark.parametrize("there", [True, False])
def test_class_without_a_validation_image(tmp_path, there):
    root = two_splits(tmp_path, train=("ant", "cat", "dog"))
    if there:
        (root / "val" / "ant").mkdir()
    splits = build_sources("folder", root)
    assert splits.found == "train/ 6, val/ 4 as validation"
    assert splits.warnings == ("val/ has no image of class 'ant'",)
    assert splits.val.targets == [1, 1, 2, 2]


def test_many_names_are_cut_short(tmp_path):
    for number in range(8):
        (tmp_path / f"class{number}").mkdir()
    assert bad(tmp_path, "no image").endswith("'class4' and 3 more")


def test_a_single_class(tmp_path):
    bad(single(tmp_path, classes=("only",)), "two classes are needed")


def test_unknown_source_and_missing_root():
    with pytest.raises(
        ConfigError, match=r"data\.name='mnist': choose from shapes, folder, imagenet, imagenette"
    ):
        build_sources("mnist", "x")
    with pytest.raises(ConfigError, match=r"data\.root is not set"):
        build_sources("folder")
    with pytest.raises(ConfigError, match=r"data\.num_train=5: only data=shapes"):
        build_sources("folder", "x", num_train=5)


# --- unreadable images


def test_bad_images_are_found_by_their_headers_and_named_when_read(tmp_path):
    root = two_splits(tmp_path)
    folder = root / "train" / "cat"
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    put(folder / "large.png", size=(200, 200))
    Image.effect_noise((64, 64), 80).save(folder / "short.jpg")
    data = (folder / "short.jpg").read_bytes()
    (folder / "short.jpg").write_bytes(data[: len(data) * 2 // 3])
    train, val, *_ = build_sources("folder", root, max_pixels=10_000)
    found = dict(check_headers(train))
    assert sorted(found) == ["cat/empty.jpg", "cat/large.png", "cat/text.jpg"]
    assert "200x200 is more than the 10,000 pixels allowed" in found["cat/large.png"]
    assert check_headers(val) == []
    for index, name in enumerate(names(train)):
        if name in (*found, "cat/short.jpg"):
            with pytest.raises(ImageError, match=str(folder / os.path.basename(name))) as caught:
                train.image(index)
            one_line(caught)
        else:
            train.image(index)
