"""Labels in CSV and JSON-lines files, as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sppcls.data.files import FileSource, Source, Splits
from sppcls.data.sources import build_sources
from sppcls.errors import DataError

IMAGES = [f"images/{name}{number}.png" for name in ("cat", "dog") for number in range(5)]


def put(root: Path, *names: str) -> Path:
    for name in names or IMAGES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(root / name, "PNG")
    return root


def label(name: str) -> str:
    return Path(name).name[:3]


def write(path: Path, header: str, rows: list[str]) -> None:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def pairs(source: Source | None) -> dict[str, str]:
    assert isinstance(source, FileSource)
    assert all((source.root / source.name(i)).is_file() for i in range(len(source)))
    return {source.name(i): source.classes[target] for i, target in enumerate(source.targets)}


def together(splits: Splits) -> dict[str, str]:
    return pairs(splits.train) | pairs(splits.val)


EXPECTED = {name: label(name) for name in IMAGES}
ROWS = [f"{name},{label(name)}" for name in IMAGES]

FILES = {
    "as it should be": ("labels.csv", "path,label", ROWS),
    "semicolons": ("labels.csv", "filename;category", [row.replace(",", ";") for row in ROWS]),
    "tabs": ("labels.tsv", "Image Path\tClass", [row.replace(",", "\t") for row in ROWS]),
    "BOM and quotes": ("meta.csv", '\ufeff"File Name","Labels"', [f'"{n}","{label(n)}"' for n in IMAGES]),
    "Windows": ("labels.csv", "filepaths,labels", [f"images\\{Path(n).name},{label(n)}\r" for n in IMAGES]),
    "stems": ("labels.csv", "id,breed", [f"{Path(n).stem},{label(n)}" for n in IMAGES]),
    "names without folders": ("x.csv", "image,target", [f"{Path(n).name},{label(n)}" for n in IMAGES]),
    "dots": ("labels.csv", "img,class_name", [f"./images/../{n},{label(n)}" for n in IMAGES]),
    "more columns": ("labels.csv", "width,image_id,note,label", [f"6,{n},,{label(n)}" for n in IMAGES]),
    "beside the images": ("images/metadata.csv", "file_name,label", [f"{Path(n).name},{label(n)}" for n in IMAGES]),
    "blanks at the end": ("labels.csv", "path,label", [f"{row},, " for row in ROWS]),
    "blank lines and repeats": ("labels.csv", "path,label", ["", *ROWS, "", ROWS[0], " , "]),
    "JSON lines": ("images/metadata.jsonl", json.dumps({"file_name": "cat0.png", "label": "cat"}),
                   [json.dumps({"file_name": Path(n).name, "label": label(n), "box": [1, 2]}) for n in IMAGES[1:]]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_usual_files(name: str, tmp_path: Path) -> None:
    file, header, rows = FILES[name]
    write(put(tmp_path) / file, header, rows)
    found = build_sources("folder", tmp_path)  # without being named
    assert together(found) == EXPECTED
    assert (len(found.train), len(found.val), found.test) == (8, 2, None)
    assert found.found.startswith(f"{file} 10, of which 2 held out for validation")
    assert together(build_sources("folder", tmp_path, labels=file)) == EXPECTED
    assert together(build_sources("folder", tmp_path, labels=str(tmp_path / file))) == EXPECTED


@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "validation", "TEST"), ("train", "dev", "testing")]
)
def test_a_column_of_splits(words: tuple[str, ...], tmp_path: Path) -> None:
    where = [0, 0, 0, 1, 2, 0, 0, 0, 1, 2]
    rows = [f"{name},{label(name)},{words[split]}" for name, split in zip(IMAGES, where, strict=True)]
    write(put(tmp_path) / "labels.csv", "path,label,split", rows)
    splits = build_sources("folder", tmp_path)
    for source, number in zip(splits[:3], range(3), strict=True):
        assert set(pairs(source)) == {n for n, split in zip(IMAGES, where, strict=True) if split == number}  # type: ignore[arg-type]
    assert splits.found == "labels.csv 6, 2 as validation, 2 kept for the end"


def test_train_and_test_in_a_column_hold_out_of_train(tmp_path: Path) -> None:
    rows = [f"{name},{label(name)},{'test' if '4' in name else 'train'}" for name in IMAGES]
    write(put(tmp_path) / "labels.csv", "path,label,set", rows)
    splits = build_sources("folder", tmp_path, val_fraction=0.25)
    assert set(pairs(splits.test)) == {"images/cat4.png", "images/dog4.png"}
    assert together(splits) == {n: label(n) for n in IMAGES if "4" not in n}
    assert len(splits.val) == 2


def test_a_file_for_each_split(tmp_path: Path) -> None:
    names = [f"{split}_images/{number}.png" for split in ("train", "test") for number in range(10)]
    put(tmp_path, *names)
    for split in ("train", "test"):
        rows = [f"{number}.png,{'cat' if number % 2 else 'dog'}" for number in range(10)]
        write(tmp_path / f"{split}.csv", "image_id,label", rows)
    write(tmp_path / "sample_submission.csv", "image_id,label", ["0.png,cat"])
    splits = build_sources("folder", tmp_path)
    assert pairs(splits.test) == {f"test_images/{n}.png": "cat" if n % 2 else "dog" for n in range(10)}
    assert together(splits) == {f"train_images/{n}.png": "cat" if n % 2 else "dog" for n in range(10)}
    assert (
        "(data.val_fraction=0.2), test.csv 10 kept for the end; sample_submission.csv is not used"
        in splits.found
    )


def test_whole_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    lines = [
        json.dumps({"file_name": name, "label": [10, 9][number // 5]}) for number, name in enumerate(IMAGES)
    ]
    put(tmp_path).joinpath("labels.jsonl").write_text("\n".join(lines))
    splits = build_sources("folder", tmp_path)
    assert splits.train.classes == ["9", "10"]
    assert pairs(splits.val)[next(iter(pairs(splits.val)))] == "9"


def test_images_without_a_label_are_told(tmp_path: Path) -> None:
    put(tmp_path, *IMAGES, "images/new.png", "more/new.png")
    write(tmp_path / "labels.csv", "path,label", [*ROWS, ROWS[3]])
    splits = build_sources("folder", tmp_path, labels="labels.csv")
    assert together(splits) == EXPECTED
    assert splits.warnings == (
        "1 lines that repeat an image are counted once",
        "2 images have no label and are not used",
    )


def test_class_folders_go_before_a_file_that_agrees(tmp_path: Path) -> None:
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]
    write(put(tmp_path, *names) / "list.csv", "path,label", [f"{n},{n[:3]}" for n in names])
    assert build_sources("folder", tmp_path).found.startswith("class folders 10")
    write(tmp_path / "list.csv", "path,label", [f"{n},{'old' if n[4] in '012' else 'new'}" for n in names])
    with pytest.raises(
        DataError, match=r"data\.labels=list\.csv takes the file, data\.train_dir=\. the folders"
    ):
        build_sources("folder", tmp_path)
    assert build_sources("folder", tmp_path, labels="list.csv").train.classes == ["new", "old"]
    assert build_sources("folder", tmp_path, train_dir=".").train.classes == ["cat", "dog"]


WRONG = {
    "no such image": ("path,label", [*ROWS, "images/gone.png,cat"], r"labels\.csv: line 12: no image 'images/gone\.png' in \S+$"),
    "too long": ("path,label", [*ROWS, "A" * 5000 + ",cat"], r"labels\.csv: line 12: no image 'A{80}\.\.\.' in "),
    "several gone": ("path,label", ["a.png,cat", *ROWS, "b.png,dog"], r"line 2: no image 'a\.png' in \S+ \(2 such lines\)"),
    "no label": ("path,label", [*ROWS[:3], "images/cat3.png,", *ROWS[4:]], r"line 5: no label"),
    "no path": ("path,label", [",cat", *ROWS], r"line 2: no path"),
    "short line": ("path,label", [*ROWS, "images/cat0.png"], r"line 12: no label"),
    "two labels": ("path,label", [*ROWS, "images/cat0.png,dog"],
                   r"line 12: 'images/cat0\.png' has label 'dog', and 'cat' in line 2"),
    "two splits": ("path,label,split", [*(f"{row},train" for row in ROWS), f"{ROWS[0]},test"],
                   r"line 12: 'images/cat0\.png' has split 'test', and 'train' in line 2"),
    "odd split": ("path,label,split", [f"{row},{number}" for number, row in enumerate(ROWS)],
                  r"line 2: '0' is not the name of a split; use train, val or test"),
    "outside": ("path,label", [*ROWS, "../cat.png,cat"], r"line 12: '\.\./cat\.png' is outside of data\.root"),
    "outside, absolute": ("path,label", ["/etc/passwd,cat", *ROWS], r"line 2: '/etc/passwd' is outside of data\.root"),
    "outside, Windows": ("path,label", [r"C:\cat.png,cat", *ROWS], r"is outside of data\.root"),
    "address": ("path,label", ["https://x.org/a.jpg,cat", *ROWS], r"line 2: 'https://x\.org/a\.jpg' is an address"),
    "unquoted comma": ("path,label", [*ROWS, "images/a,b.png,cat"], r"line 12: 3 values for 2 columns; put values with ','"),
    "open quote": ("path,label", [*ROWS, '"images/cat0.png,cat'], r"line 12: broken \("),
    "no column": ("name,kind", ROWS, r"line 1: no column for the path; there are 'name', 'kind'"),
    "no header": (ROWS[0], ROWS[1:], r"no column for the path"),
    "the same column twice": ("path,label,label", [f"{row},x" for row in ROWS], r"two columns are called 'label'"),
    "no rows": ("path,label", [], r"labels\.csv: no image to train on"),
    "test only": ("path,label,split", [f"{row},test" for row in ROWS], r"no image to train on, only test"),
    "class for val only": ("path,label,split", [f"{row},{'val' if 'dog' in row else 'train'}" for row in ROWS],
                           r"line 7: class 'dog' has no image to train on, only for val"),
    "one class": ("path,label", ROWS[:5], r"holds a single class \('cat'\)"),
    "no image": ("path,label", [*ROWS, "labels.csv,cat"], r"line 12: 'labels\.csv' is not an image of a known kind"),
    "zero byte": ("path,label", ["images/\0.png,cat"], r"zero byte|NUL"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_line_is_told_with_its_number(name: str, tmp_path: Path) -> None:
    header, rows, said = WRONG[name]
    write(put(tmp_path) / "labels.csv", header, rows)
    with pytest.raises(DataError, match=said) as caught:
        build_sources("folder", tmp_path, labels="labels.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"line 11: not a line of JSON"),
        ("[1]", r"line 11: an object is needed, such as \{"),
        ('{"file_name": "images/cat0.png"}', r"line 11: no column for the label"),
        (
            '{"file_name": "images/cat0.png", "label": true}',
            r"line 11: the label is True; text or a whole number",
        ),
        ('{"file_name": "images/cat0.png", "label": 1.5}', r"line 11: the label is 1\.5"),
        ('{"file_name": ["a"], "label": 1}', r"line 11: the path is \['a'\]"),
        ('{"file_name": "images/cat0.png", "label": null}', r"line 11: no label"),
        ("[" * 100_000, r"line 11: not a line of JSON"),
    ],
)
def test_wrong_lines_of_json(line: str, said: str, tmp_path: Path) -> None:
    lines = [json.dumps({"file_name": name, "label": label(name)}) for name in IMAGES]
    put(tmp_path).joinpath("labels.jsonl").write_text("\n".join([*lines, line]))
    with pytest.raises(DataError, match=said):
        build_sources("folder", tmp_path, labels="labels.jsonl")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("gone.csv", r"data\.labels=gone\.csv: no such file"),
        ("images", r"data\.labels=images: not a file"),
        ("", r"data\.labels=: not a file"),
        ("images/cat0.png", r"data\.labels=images/cat0\.png: must be one of \.csv"),
        ("latin1.csv", r"latin1\.csv: not UTF-8 text"),
        ("cut.csv", r"cut\.csv: not UTF-8 text"),
        ("empty.csv", r"empty\.csv: empty"),
    ],
)
def test_files_that_are_no_files_of_labels(value: str, said: str, tmp_path: Path) -> None:
    put(tmp_path)
    (tmp_path / "latin1.csv").write_text("path,label\nimages/cat0.png,Bär\n", encoding="latin-1")
    (tmp_path / "cut.csv").write_bytes("path,label\nimages/cat0.png,cat".encode("utf-16")[:-1])
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match=said):
        build_sources("folder", tmp_path, labels=value)


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    put(tmp_path, *IMAGES, "more/cat0.png")
    shallow = put(tmp_path / "shallow")
    write(shallow / "a.csv", "path,label", ROWS)
    write(shallow / "train.csv", "path,label", ROWS)
    with pytest.raises(
        DataError, match=r"could each hold the labels; name one, such as data\.labels=train\.csv"
    ):
        build_sources("folder", shallow)
    write(tmp_path / "labels.csv", "path,label", [f"{Path(name).stem},{label(name)}" for name in IMAGES])
    with pytest.raises(
        DataError, match=r"line 2: 'cat0' could be .*'images/cat0\.png'.*; write their folders too"
    ):
        build_sources("folder", tmp_path, labels="labels.csv")


def test_labels_lead_nowhere_outside(tmp_path: Path) -> None:
    put(tmp_path, "secret.png", "root/images/a.png")
    write(tmp_path / "root/labels.csv", "path,label", ["secret,cat", "images/a.png,dog"])
    with pytest.raises(DataError, match=r"line 2: no image 'secret'"):
        build_sources("folder", tmp_path / "root", labels="labels.csv")
