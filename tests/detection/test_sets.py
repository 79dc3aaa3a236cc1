"""The same photos and boxes as VOC, COCO and YOLO; whatever is wrong is one line that names it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from voc_folder import annotation, write_voc

from sppcls.detection.scenes import scenes
from sppcls.detection.sets import read_set
from sppcls.errors import DataError

IMAGES = {
    "a": [("cat", (1, 1, 30, 20), 0), ("dog", (11, 6, 60, 40), 0)],
    "b": [],
    "c": [("dog", (21, 11, 40, 30), 0)],
}
# By hand, from 0 and with the end left out, in the order of the classes cat, dog.
BOXES = {"a": [[0, 0, 30, 20], [10, 5, 60, 40]], "b": [], "c": [[20, 10, 40, 30]]}
LABELS = {"a": [0, 1], "b": [], "c": [1]}


def as_coco(root: Path, voc: Path) -> Path:
    root.mkdir()
    images, annotations = [], []
    for number, name in enumerate(IMAGES):
        (root / f"{name}.jpg").write_bytes((voc / "JPEGImages" / f"{name}.jpg").read_bytes())
        images.append({"id": 10 + number, "file_name": f"{name}.jpg", "height": 40, "width": 60})
        for box, label in zip(BOXES[name], LABELS[name], strict=True):
            left, top, right, bottom = box
            annotations.append(
                {"id": len(annotations), "image_id": 10 + number, "category_id": (7, 90)[label],
                 "bbox": [left, top, right - left, bottom - top], "iscrowd": int(name == "c")}
            )  # fmt: skip
    categories = [{"id": 90, "name": "dog"}, {"id": 7, "name": "cat"}]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (root / "instances_train.json").write_text(text)
    return root


def as_yolo(root: Path, voc: Path) -> Path:
    for name in IMAGES:
        for folder in ("images/train", "labels/train"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "images/train" / f"{name}.jpg").write_bytes((voc / f"JPEGImages/{name}.jpg").read_bytes())
        rows = [
            f"{label} {(b[0] + b[2]) / 120} {(b[1] + b[3]) / 80} {(b[2] - b[0]) / 60} {(b[3] - b[1]) / 40}\n"
            for b, label in zip(BOXES[name], LABELS[name], strict=True)
        ]
        if rows:  # a photo without objects has no file
            (root / "labels/train" / f"{name}.txt").write_text("".join(rows))
    (root / "data.yaml").write_text("names: {0: cat, 1: dog}\n")
    return root


@pytest.mark.parametrize("kind", ["VOC", "COCO", "YOLO"])
def test_three_layouts_of_the_same_set(kind: str, tmp_path: Path) -> None:
    place = write_voc(tmp_path / "voc", {"train": IMAGES})
    if kind != "VOC":
        place = {"COCO": as_coco, "YOLO": as_yolo}[kind](tmp_path / "other", place)
    found = read_set(str(place))
    assert kind in found.name
    assert (found.split, found.classes) == ("train", ("cat", "dog"))
    assert [Path(name).stem for name in found.names] == list(IMAGES)
    assert found.sizes == ((40, 60),) * 3
    for truth, name in zip(found.truths, IMAGES, strict=True):
        np.testing.assert_allclose(truth.boxes, np.array(BOXES[name]).reshape(-1, 4), atol=1e-9)
        assert truth.labels.tolist() == LABELS[name]
    assert found.truths[2].difficult.tolist() == [kind == "COCO"]  # a crowd
    assert found.image(0).shape == (3, 40, 60)
    assert found.digest(0) != found.digest(1)


def test_the_usual_splits(tmp_path: Path) -> None:
    objects = [("cat", (1, 1, 9, 9), 0)]
    sets = {name: {name: objects} for name in ("train", "val")}
    aquarium = write_voc(tmp_path / "a", {**sets, "trainval": {"train": objects, "val": objects}})
    assert read_set(str(aquarium)).split == "train"
    assert read_set(str(aquarium), purpose="test").split == "val"
    voc2007 = write_voc(
        tmp_path / "b" / "VOCdevkit" / "VOC2007", {**sets, "trainval": sets["val"], "test": {"t": objects}}
    )
    (voc2007 / "ImageSets/Main/cat_train.txt").write_text("train  1\n")
    assert read_set(str(tmp_path / "b")).split == "trainval"
    assert read_set(str(tmp_path / "b"), purpose="test").split == "test"
    with pytest.raises(DataError, match="no split 'dev'; choose from test, train, trainval, val"):
        read_set(str(tmp_path / "b"), "dev")


def test_the_class_numbers_of_a_detector(tmp_path: Path) -> None:
    found = read_set(str(write_voc(tmp_path, {"train": IMAGES})))
    renumbered = found.as_classes(("dog", "bird", "cat"))
    assert [truth.labels.tolist() for truth in renumbered.truths] == [[2, 0], [], [0]]
    assert renumbered.counts().tolist() == [2, 0, 1]
    with pytest.raises(DataError, match="has class 'dog', which the detector does not know; it has cat"):
        found.as_classes(("cat",))


BOMB = '<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;">]><annotation><object><name>&d;</name></object></annotation>'
READS = (
    '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><filename>&b;</filename></annotation>'
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (annotation([("cat", (5, 5, 4, 9), 0)]), r"a\.xml: box \[4, 4, 4, 9\] .* is empty"),
        (annotation([("cat", (5, 5, 70, 9), 0)]), r"a\.xml: box \[4, 4, 70, 9\] .* leaves its 60x40 image"),
        (annotation([("cat", (5, 5, "nan", 9), 0)]), "is not finite"),
        (annotation([("cat", (5, 5, "", 9), 0)]), "a.xml: cat: xmax is '', a number is needed"),
        (annotation([("", (5, 5, 6, 9), 0)]), "an object without a name"),
        ("<annotation>", "broken annotation"),
        (BOMB, "document type"),
        (READS, "document type"),
    ],
)
def test_a_bad_annotation_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    root = write_voc(tmp_path, {"train": IMAGES})
    (root / "Annotations/a.xml").write_text(text)
    with pytest.raises(DataError, match=line) as caught:
        read_set(str(root))
    assert "\n" not in str(caught.value)
    assert "a.xml" in str(caught.value)


def test_a_pixel_of_overshoot_is_cut(tmp_path: Path) -> None:
    # Whoever counts from 0 writes 0, and rounding gives one too many.
    root = write_voc(tmp_path, {"train": {"a": [("cat", (0, 0, 61, 41), 0)]}})
    assert read_set(str(root)).truths[0].boxes.tolist() == [[0, 0, 60, 40]]


def test_missing_turned_and_undecodable_photos(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"train": IMAGES})
    photo = root / "JPEGImages/b.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(photo, exif=exif)
    with pytest.raises(DataError, match=r"b\.jpg: is turned by its EXIF orientation 6.*save it upright"):
        read_set(str(root))
    photo.unlink()
    with pytest.raises(DataError, match=r"b\.jpg: no such photo; .*b\.xml names it"):
        read_set(str(root))
    photo.write_text("no image")
    with pytest.raises(DataError, match=r"b\.jpg: text, not an image"):
        read_set(str(root))


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("0 .5 .5 .2", r"labels/train/a\.txt, line 2: 4 numbers; class, x, y, width and height \(5\) are needed"),
        ("0 .5 .5 .2 .1 .9", "6 numbers"),
        ("2 .5 .5 .2 .2", "class number 2, but 2 classes are named"),
        ("x .5 .5 .2 .2", "is not all numbers"),
        ("0 inf .5 .2 .2", "is not all numbers"),
        ("0 .9 .5 .5 .2", "leaves its 60x40 image"),
        ("0 .5 .5 0 .2", "is empty"),
    ],
)  # fmt: skip
def test_a_bad_line_of_yolo(tmp_path: Path, row: str, line: str) -> None:
    root = as_yolo(tmp_path / "yolo", write_voc(tmp_path / "voc", {"train": IMAGES}))
    with open(root / "labels/train/a.txt", "r+") as file:
        first = file.readline()
        file.seek(0)
        file.write(f"{first}{row}\n")
        file.truncate()
    with pytest.raises(DataError, match=line):
        read_set(str(root))


def test_a_polygon_becomes_the_box_around_it(tmp_path: Path) -> None:
    root = as_yolo(tmp_path / "yolo", write_voc(tmp_path / "voc", {"train": IMAGES}))
    (root / "labels/train/b.txt").write_text("1 .5 .25 .25 .5 .75 .75\n")
    assert read_set(str(root)).truths[1].boxes.tolist() == [[15, 10, 45, 30]]


def test_bad_coco_files(tmp_path: Path) -> None:
    root = as_coco(tmp_path / "coco", write_voc(tmp_path / "voc", {"train": IMAGES}))
    file = root / "instances_train.json"
    data = json.loads(file.read_text())
    for changed, line in (
        ({"annotations": [{**data["annotations"][0], "category_id": 5}]}, "category_id 5 is not among"),
        ({"annotations": [{**data["annotations"][0], "image_id": 5}]}, "image_id 5 is not among"),
        ({"annotations": [{**data["annotations"][0], "bbox": [1, 2, 3]}]}, "4 numbers are needed"),
        ({"annotations": [{**data["annotations"][0], "bbox": None}]}, "bbox None .* 4 numbers are needed"),
        (
            {"annotations": [{"image_id": 10, "category_id": 7}]},
            r"broken annotation \(an entry lacks 'bbox'\)",
        ),
        ({"images": [{"id": 1}], "annotations": []}, "broken annotation"),
    ):
        file.write_text(json.dumps({**data, **changed}))
        with pytest.raises(DataError, match=line):
            read_set(str(root))


def test_ids_of_coco_are_unique_and_may_be_text(tmp_path: Path) -> None:
    root = as_coco(tmp_path / "coco", write_voc(tmp_path / "voc", {"train": IMAGES}))
    file = root / "instances_train.json"
    data = json.loads(file.read_text())
    for part, changed in (
        ("images", {**data["images"][1], "id": 10}),
        ("categories", {"id": 7, "name": "cow"}),
    ):
        file.write_text(json.dumps({**data, part: [data[part][0], changed, *data[part][1:]]}))
        with pytest.raises(DataError, match=rf"json: id (10|7) is that of two {part}"):
            read_set(str(root))
    file.write_text(json.dumps({**data, "categories": [*data["categories"], {"id": 8, "name": "cat"}]}))
    with pytest.raises(DataError, match="class 'cat' is named twice"):
        read_set(str(root))
    text = [{**one, "id": f"n{one['id']}", "file_name": f"sub\\{one['file_name']}"} for one in data["images"]]
    objects = [{**one, "image_id": f"n{one['image_id']}"} for one in data["annotations"]]
    (root / "sub").mkdir()
    for name in IMAGES:
        (root / f"{name}.jpg").rename(root / "sub" / f"{name}.jpg")
    file.write_text(json.dumps({**data, "images": text, "annotations": objects}))
    found = read_set(str(root))
    assert found.names == ("sub/a.jpg", "sub/b.jpg", "sub/c.jpg")
    assert [truth.labels.tolist() for truth in found.truths] == list(LABELS.values())


def test_ids_of_coco_may_be_written_as_numbers_with_a_point_or_a_sign(tmp_path: Path) -> None:
    root = as_coco(tmp_path / "coco", write_voc(tmp_path / "voc", {"train": IMAGES}))
    file = root / "instances_train.json"
    data = json.loads(file.read_text())
    plain = read_set(str(root))
    images = [{**one, "id": float(one["id"])} for one in data["images"]]  # as a table with gaps writes them
    first = min(one["id"] for one in data["categories"])  # and the first still
    number = {one["id"]: -5 if one["id"] == first else one["id"] for one in data["categories"]}
    categories = [{**one, "id": number[one["id"]]} for one in data["categories"]]
    objects = [{**one, "category_id": number[one["category_id"]]} for one in data["annotations"]]
    file.write_text(json.dumps({**data, "images": images, "categories": categories, "annotations": objects}))
    found = read_set(str(root))
    assert found.classes == plain.classes
    assert [one.labels.tolist() for one in found.truths] == [one.labels.tolist() for one in plain.truths]


def test_cocos_own_folders_by_the_file_and_by_the_folder(tmp_path: Path) -> None:
    root = as_coco(tmp_path / "coco", write_voc(tmp_path / "voc", {"train": IMAGES}))
    for folder in ("annotations", "train2017"):
        (root / folder).mkdir()
    for photo in root.glob("*.jpg"):
        photo.rename(root / "train2017" / photo.name)
    file = (root / "instances_train.json").rename(root / "annotations/instances_train2017.json")
    (root / "annotations/captions_train2017.json").write_text("is not read")
    for place in (root, file):
        found = read_set(str(place))
        assert (found.split, len(found)) == ("train2017", 3)


def test_a_single_split_is_not_taken_for_what_its_name_excludes(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"train": IMAGES})
    with pytest.raises(DataError, match="no split to judge on; choose one by its name: train"):
        read_set(str(root), purpose="test")
    assert read_set(str(root), "train", purpose="test").split == "train"
    every = write_voc(tmp_path / "all", {"all": IMAGES})
    assert read_set(str(every)).split == read_set(str(every), purpose="test").split == "all"
    coco = as_coco(tmp_path / "coco", root)  # a file that is named is meant
    assert read_set(str(coco / "instances_train.json"), purpose="test").split == "train"


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ("names: {'0': cat, '1': dog}\n", None),
        ("names: {0: cat, 2: dog}\n", "data.yaml: names: has no class number 1"),
        ("names: [cat, cat]\n", "class 'cat' is named twice"),
    ],
)
def test_names_of_yolo(tmp_path: Path, names: str, line: str | None) -> None:
    root = as_yolo(tmp_path / "yolo", write_voc(tmp_path / "voc", {"train": IMAGES}))
    (root / "data.yaml").write_text(names)
    if line is None:
        assert read_set(str(root)).classes == ("cat", "dog")
        return
    with pytest.raises(DataError, match=line):
        read_set(str(root))


def test_classes_without_names_are_those_that_are_used(tmp_path: Path) -> None:
    root = as_yolo(tmp_path / "yolo", write_voc(tmp_path / "voc", {"train": IMAGES}))
    (root / "data.yaml").unlink()
    (root / "labels/train/b.txt").write_text("999999999999 .5 .5 .2 .2\n")
    found = read_set(str(root))
    assert found.classes == ("class 0", "class 1", "class 999999999999")
    assert [truth.labels.tolist() for truth in found.truths] == [[0, 1], [2], [1]]


def test_more_than_8_bits_are_seen_as_the_network_sees_them(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"train": IMAGES})
    for photo in list((root / "JPEGImages").iterdir()):
        values = np.random.default_rng(0).integers(0, 4096, (40, 60)).astype(np.uint16)
        Image.fromarray(values).save(photo.with_suffix(".png"))
        photo.unlink()
    found = read_set(str(root))
    assert int(found.image(0).max()) < 20  # of 65,535
    seen = found.seen_as((0, 4095))
    assert (seen.image(0)[0].numpy() == np.rint(values * (255 / 4095))).all()
    assert seen.digest(0) != found.digest(0)  # so that other windows and maps are kept
    assert found.seen_as("full") is found


def test_what_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read_set(str(tmp_path / "none"))
    with pytest.raises(DataError, match="no images with boxes; looked for"):
        read_set(str(tmp_path))


def test_scenes_are_the_same_every_time_and_their_boxes_hold_the_object() -> None:
    once, again = scenes("train", 8), scenes("train", 8)
    other = scenes("val", 8)
    for index in range(8):
        assert (once.image(index) == again.image(index)).all()
        assert once.sizes[index] == tuple(once.image(index).shape[1:])
        truth = once.truths[index]
        assert (truth.boxes == again.truths[index].boxes).all()
        assert (truth.boxes[:, 2:] - truth.boxes[:, :2] >= 20).all()
    assert not (once.image(0).shape == other.image(0).shape and (once.image(0) == other.image(0)).all())


def test_the_box_of_a_drawn_shape_is_that_of_its_pixels() -> None:
    import random

    from sppcls.data.shapes import SHAPES, draw_object

    for seed, shape in enumerate(SHAPES):
        canvas = np.full((100, 120, 3), -1, np.int16)
        # Partly outside, so that the box ends at the border.
        box = draw_object(canvas, shape, "dots", 100, 50, 30, random.Random(seed))
        drawn = (canvas != -1).any(2)
        rows, columns = np.nonzero(drawn.any(1))[0], np.nonzero(drawn.any(0))[0]
        assert box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert box[2] == 120
