"""Files of labels that nobody has named: found in every form that programs write, and never passed over in silence."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from sppcls.data.files import FileSource, Splits
from sppcls.data.sources import build_sources
from sppcls.errors import DataError

IMAGES = [f"photos/{name}{number}.png" for name in ("bär", "dog") for number in range(5)]
EXPECTED = {name: Path(name).name[:3] for name in IMAGES}


def put(root: Path, *names: str) -> Path:
    """Empty files: nobody looks into the images here."""
    for name in names or IMAGES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(delimiter: str, head: str = "path,label", end: str = "\r\n") -> str:
    lines = [head, *(f"{name},{label}" for name, label in EXPECTED.items())]
    return end.join(line.replace(",", delimiter) for line in lines) + end


JSON = "\n".join(json.dumps({"path": n, "label": label}, ensure_ascii=False) for n, label in EXPECTED.items())
ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16 little": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16 big": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32 little": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "utf-32 big": lambda text: codecs.BOM_UTF32_BE + text.encode("utf-32-be"),
}
FORMS = {
    "commas": ("labels.csv", table(",")),
    "semicolons": ("labels.csv", table(";")),
    "Excel's first line": ("labels.csv", "sep=|\r\n" + table("|")),
    "tabs": ("labels.tsv", table("\t")),
    "Excel's Unicode text": ("labels.txt", table("\t")),
    "JSON lines": ("labels.jsonl", JSON),
    "JSON lines, called json": ("all.json", JSON),
}


def labels(splits: Splits) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in (splits.train, splits.val):
        assert isinstance(source, FileSource)
        found |= {source.name(i): source.classes[target] for i, target in enumerate(source.targets)}
    return found


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_every_encoding(form: str, encoding: str, tmp_path: Path) -> None:
    name, text = FORMS[form]
    (put(tmp_path) / name).write_bytes(ENCODINGS[encoding](text))
    splits = build_sources("folder", tmp_path)
    assert labels(splits) == EXPECTED
    assert splits.found.startswith(f"{name} 10, of which 2 held out")


USELESS: dict[str, tuple[str, bytes, str]] = {
    "empty": ("labels.csv", b"", r"labels\.csv is not used: empty"),
    "blank": ("labels.csv", b"\r\n \n,,\n", r"labels\.csv is not used: empty"),
    "empty JSON": ("labels.jsonl", b"", r"labels\.jsonl is not used: no line of labels in it"),
    "header only": ("labels.csv", b"path,label\n", r"labels\.csv is not used: no line of labels in it"),
    "no header": ("x.csv", table(",").split("\r\n", 1)[1].encode(),
                  r"x\.csv is not used: line 1: no column for the path; 'photos/bär0\.png' is an image: the first line must name"),
    "other columns": ("x.csv", b"name,kind\na,b\n", r"x\.csv is not used: line 1: no column for the path; there are 'name', 'kind'"),
    "another delimiter": ("x.csv", b"path|label\na|b\n", r"x\.csv is not used: line 1: no column for the path; there are 'path\|label'"),
    "Latin-1": ("labels.csv", table(",").encode("latin-1"), r"labels\.csv is not used: not UTF-8 text; save it as CSV in UTF-8"),
    "UTF-16 without a mark": ("labels.csv", table(",").encode("utf-16-le"), r"labels\.csv is not used: not UTF-8 text"),
    "the same in ASCII": ("x.csv", "path,label\na,b\n".encode("utf-16-le"), r"x\.csv is not used: line 1: no column"),
    "an array of JSON": ("labels.json", b'[{"path": "a.png", "label": "a"}]', r"labels\.json is not used: line 1: an object is needed"),
    "JSON over lines": ("train.json", b'[\n{"path": "a.png", "label": "a"}]', r"train\.json is not used: line 1: not a line of JSON"),
    "pairs": ("train.txt", b"photos/dog0.png 0\nphotos/dog1.png 0\n", r"train\.txt is not used: line 1: no column"),
    "a spreadsheet": ("labels.xlsx", b"PK", r"labels\.xlsx is not used: it cannot be read here; save it as CSV"),
    "a submission": ("Submission.csv", b"path,label\na,b\n", r"Submission\.csv is not used: its name is that of a submission"),
}  # fmt: skip


@pytest.mark.parametrize("name", USELESS)
@pytest.mark.parametrize("folder", [".", "photos"])
def test_what_cannot_be_used_is_told(name: str, folder: str, tmp_path: Path) -> None:
    file, content, said = USELESS[name]
    (put(tmp_path) / folder / file).write_bytes(content)
    for other in ("classes.txt", "settings.json"):  # nobody takes these for labels
        (tmp_path / other).write_text("cat\ndog\n")
    (tmp_path / "README.md").write_text("path,label\na,b\n")
    with pytest.raises(DataError, match=f"; .*{said}") as caught:
        build_sources("folder", tmp_path)
    assert not any(word in str(caught.value) for word in ("\n", "classes.txt", "settings", "README"))


def test_what_is_left_out_beside_labels_is_told(tmp_path: Path) -> None:
    (put(tmp_path) / "labels.csv").write_text(table(","))
    assert labels(build_sources("folder", tmp_path)) == EXPECTED
    assert ";" not in build_sources("folder", tmp_path).found
    (tmp_path / "old.tsv").write_bytes(b"")
    (tmp_path / "test.csv").write_text("id\n1\n")
    (tmp_path / "photos" / "labels.csv").write_text(table(","))
    assert build_sources("folder", tmp_path).found.split("; ")[1:] == [
        "old.tsv is not used: empty",
        "test.csv is not used: line 1: no column for the label",
        "photos/labels.csv is not used: labels.csv is",
    ]


@pytest.mark.parametrize("split", ["val", "valid", "test"])
def test_a_split_whose_labels_cannot_be_read(split: str, tmp_path: Path) -> None:
    (put(tmp_path) / "train.csv").write_text(table(","))
    (tmp_path / f"{split}.csv").write_bytes(b"")
    if split == "test":  # is often handed out without labels
        assert build_sources("folder", tmp_path).found.endswith("; test.csv is not used: empty")
        return
    with pytest.raises(DataError, match=rf"{split}\.csv: empty"):
        build_sources("folder", tmp_path)


@pytest.mark.parametrize("name", ["test", "val_labels"])
def test_a_lone_file_labels_all_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    (put(tmp_path) / f"{name}.csv").write_text(table(","))
    assert build_sources("folder", tmp_path).found.startswith(f"{name}.csv 10, of which 2 held out")


CLASSES = ["cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png"]


@pytest.mark.parametrize("above", ["", "inner/"])
def test_labels_beside_class_folders_are_told(above: str, tmp_path: Path) -> None:
    put(tmp_path, *(f"{above}{name}" for name in CLASSES))
    found = build_sources("folder", tmp_path, val_fraction=0.5).found
    assert found.endswith("(data.val_fraction=0.5)")
    (tmp_path / above / "photos.csv").write_text("path,label\ncat/a.png,cat\n")
    (tmp_path / above / "annotations.tsv").write_bytes(b"")
    (tmp_path / above / "sizes.csv").write_text("width,height\n6,4\n")
    (tmp_path / above / "weights.xlsx").write_bytes(b"PK")
    told = build_sources("folder", tmp_path, val_fraction=0.5).found
    assert told == f"{found}; {above}photos.csv is not used; {above}annotations.tsv is not used"
    # Words of one's own need no comment.
    assert "not used" not in build_sources("folder", tmp_path, val_fraction=0.5, train_dir=above or ".").found


def test_each_of_several_files_is_compared_with_class_folders(tmp_path: Path) -> None:
    put(tmp_path, *CLASSES)
    (tmp_path / "a.csv").write_text("path,label\ncat/a.png,cat\n")
    (tmp_path / "b.csv").write_text("path,label\ncat/a.png,old\n")
    with pytest.raises(DataError, match=r"which are the labels\? b\.csv has others"):
        build_sources("folder", tmp_path, val_fraction=0.5)


def test_labels_beside_splits_are_told(tmp_path: Path) -> None:
    put(tmp_path, *(f"{split}/{name}" for split in ("train", "val") for name in CLASSES))
    (tmp_path / "labels.csv").write_text("path,label\ntrain/cat/a.png,old\n")
    assert build_sources("folder", tmp_path).found == "train/ 4, val/ 4 as validation; labels.csv is not used"


@pytest.mark.parametrize("written", ["{n}", "{n}.png", "images/{n}", "images/{n}.png"])
@pytest.mark.parametrize("deep", ["", "images/"])
def test_photos_in_the_folder_of_the_file_go_first(deep: str, written: str, tmp_path: Path) -> None:
    inside = "images/" if deep or written.startswith("images/") else ""
    put(
        tmp_path, *(f"{place}/{inside}{n}.png" for place in ("train", "test", "old/train") for n in range(10))
    )
    put(tmp_path, *(f"{inside}{n}.png" for n in range(10)))
    rows = [f"{written.format(n=n)},{'cat' if n % 2 else 'dog'}" for n in range(10)]
    (tmp_path / "train" / "labels.csv").write_text("\n".join(["id,label", *rows]))
    expected = {f"train/{inside}{n}.png": "cat" if n % 2 else "dog" for n in range(10)}
    assert labels(build_sources("folder", tmp_path, labels="train/labels.csv")) == expected


def test_labels_in_the_training_folder_beside_a_test_folder(tmp_path: Path) -> None:
    put(tmp_path, *(f"{split}/{n}.png" for split in ("train", "test") for n in range(10)))
    rows = [f"{n},{'cat' if n % 2 else 'dog'}" for n in range(10)]
    (tmp_path / "train" / "labels.csv").write_text("\n".join(["id,label", *rows]))
    assert set(labels(build_sources("folder", tmp_path))) == {f"train/{n}.png" for n in range(10)}


@pytest.mark.parametrize("place", ["", "sub/"])
def test_photos_right_in_the_folder_go_before_those_below(place: str, tmp_path: Path) -> None:
    put(tmp_path, *(f"{place}{below}{n}.png" for below in ("", "more/") for n in range(10)))
    rows = [f"{n},{'cat' if n % 2 else 'dog'}" for n in range(10)]
    (tmp_path / place / "labels.csv").write_text("\n".join(["id,label", *rows]))
    splits = build_sources("folder", tmp_path, labels=f"{place}labels.csv")
    assert set(labels(splits)) == {f"{place}{n}.png" for n in range(10)}


def test_a_whole_path_means_no_other_photo(tmp_path: Path) -> None:
    put(tmp_path, *(f"{place}{n}.png" for place in ("", "sub/") for n in range(10)))
    rows = [f"{tmp_path}/{n}.png,{'cat' if n % 2 else 'dog'}" for n in range(10)]
    (tmp_path / "sub" / "labels.csv").write_text("\n".join(["id,label", *rows]))
    assert set(labels(build_sources("folder", tmp_path))) == {f"{n}.png" for n in range(10)}


def test_twins_in_the_folder_of_the_file_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "train/0.png", "train/0.jpg", "test/0.png", "train/1.png")
    (tmp_path / "train" / "labels.csv").write_text("id,label\n0,cat\n1,dog\n")
    with pytest.raises(DataError, match=r"line 2: '0' could be 'train/0\.jpg', 'train/0\.png'; write"):
        build_sources("folder", tmp_path)


@pytest.mark.parametrize(
    ("file", "column"), [("train.csv", ""), ("lists/Training.csv", ""), ("all.csv", ",train")]
)
def test_a_split_says_which_of_two_photos_is_meant(file: str, column: str, tmp_path: Path) -> None:
    places = ("photos/train_set/a", "photos/test_set/a")
    put(tmp_path, *(f"{place}/{n}.png" for place in places for n in range(10)))
    rows = [f"{n},{'cat' if n % 2 else 'dog'}{column}" for n in range(10)]
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("\n".join(["id,label" + (",split" if column else ""), *rows]))
    splits = build_sources("folder", tmp_path, labels=file)
    assert set(labels(splits)) == {f"photos/train_set/a/{n}.png" for n in range(10)}


def test_photos_right_in_the_root_go_before_those_elsewhere(tmp_path: Path) -> None:
    put(tmp_path, *(f"{place}{n}.png" for place in ("", "other/") for n in range(10)))
    rows = [f"{n},{'cat' if n % 2 else 'dog'}" for n in range(10)]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "labels.csv").write_text("\n".join(["id,label", *rows]))
    splits = build_sources("folder", tmp_path, labels="lists/labels.csv")
    assert set(labels(splits)) == {f"{n}.png" for n in range(10)}


@pytest.mark.parametrize("written", ["photos/x.psd", "x.psd"])
def test_a_photo_of_a_kind_that_cannot_be_read_is_told_as_such(written: str, tmp_path: Path) -> None:
    (put(tmp_path) / "photos" / "x.psd").write_bytes(b"8BPS")
    (tmp_path / "labels.csv").write_text(table(",") + f"{written},dog\n")
    with pytest.raises(DataError, match=rf"line 12: '{written}' is of a kind that cannot be read here$"):
        build_sources("folder", tmp_path)
    (tmp_path / "labels.csv").write_text(table(",") + "y.psd,dog\n")
    with pytest.raises(DataError, match=r"line 12: no image 'y\.psd' in "):
        build_sources("folder", tmp_path)


def test_whole_paths_hold_through_a_link_to_the_root(tmp_path: Path) -> None:
    put(tmp_path / "real")
    rows = [
        f"{place}/{name},{EXPECTED[name]}"
        for name, place in zip(IMAGES, 5 * [tmp_path / "real", tmp_path / "link"], strict=True)
    ]
    (tmp_path / "real" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    (tmp_path / "link").symlink_to("real")
    assert labels(build_sources("folder", tmp_path / "link")) == EXPECTED


def test_labels_do_not_stand_in_where_folders_are_named(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/{n}.png" for n in range(10)), *(f"val/{name}" for name in CLASSES))
    rows = [f"{n},{'cat' if n % 2 else 'dog'}" for n in range(10)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *rows]))
    with pytest.raises(DataError, match=r"train/ holds images and no class folders") as caught:
        build_sources("folder", tmp_path, val_dir="val")
    assert "labels.csv" not in str(caught.value)
