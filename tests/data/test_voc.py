"""VOC folders written by hand, and average precision against exact fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sppcls.data.voc import average_precision, find_voc, read_voc
from sppcls.errors import DataError

# --- average precision


def exact(present: list[bool]) -> tuple[Fraction, Fraction]:
    """(11-point, all-point) of images in the order of their rank, from the definition, without rounding."""
    total = sum(present)
    points = []  # (recall, precision) after each image
    for n in range(1, len(present) + 1):
        hits = sum(present[:n])
        points.append((Fraction(hits, total), Fraction(hits, n)))

    def highest(recall: Fraction) -> Fraction:
        return max(p for r, p in points if r >= recall)

    eleven = sum(highest(Fraction(k, 10)) for k in range(11)) / 11
    area = sum(highest(Fraction(k, total)) for k in range(1, total + 1)) / total
    return Fraction(eleven), Fraction(area)


def test_average_precision_by_hand() -> None:
    # Ranked: yes, no, yes, no, no. Precision 1 at recall 1/2, 2/3 at recall 1.
    scores = np.array([0.1, 0.9, 0.2, 0.8, 0.7])
    present = np.array([False, True, False, False, True])
    eleven, area = average_precision(scores, present)
    assert eleven == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)  # recalls 0 to 0.5, then 0.6 to 1
    assert area == pytest.approx((1 + 2 / 3) / 2)


def test_average_precision_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = int(rng.integers(1, 40))
        present = rng.random(count) < rng.random()
        present[rng.integers(count)] = True
        scores = rng.permutation(count).astype(float)
        ranked = present[np.argsort(-scores)].tolist()
        expected = [float(value) for value in exact(ranked)]
        assert average_precision(scores, present) == pytest.approx(expected, abs=1e-12)


def test_recalls_are_met_exactly() -> None:
    """With ten images recall is 0.3, 0.6 and 0.7 at times, where 3 * 0.1 in floating point is more."""
    present = np.array([True] * 3 + [False] * 7 + [True] * 7)
    scores = -np.arange(len(present))
    assert average_precision(scores, present)[0] == pytest.approx((4 * 1 + 7 * 10 / 17) / 11)


def test_equal_scores_keep_their_order() -> None:
    assert average_precision(np.zeros(2), np.array([True, False])) == (1, 1)
    assert average_precision(np.zeros(2), np.array([False, True])) == (0.5, 0.5)


def test_average_precision_of_nothing() -> None:
    with pytest.raises(ValueError, match="holds the class"):
        average_precision(np.zeros(3), np.zeros(3, bool))


# --- folders

Annotation = list[tuple[str, str | None]]  # (class, text of <difficult>)


def write_voc(root: Path, trainval: dict[str, Annotation], test: dict[str, Annotation]) -> Path:
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, images in (("trainval", trainval), ("test", test)):
        (root / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{key}\n" for key in images))
        for key, objects in images.items():
            (root / "JPEGImages" / f"{key}.jpg").write_bytes(b"never opened")
            lines = [
                f"<object><name>{label}</name>"
                + (f"<difficult>{difficult}</difficult>" if difficult is not None else "")
                + "<part><name>head</name></part></object>"
                for label, difficult in objects
            ]
            xml = f"<annotation><folder>VOC2007</folder>{''.join(lines)}</annotation>"
            (root / "Annotations" / f"{key}.xml").write_text(xml)
    return root


TRAINVAL: dict[str, Annotation] = {
    "000005": [("dog", "0"), ("dog", "1"), ("cat", "1")],
    "000007": [("cat", "0")],
    "000009": [],
}
TEST: dict[str, Annotation] = {"000001": [("dog", None), ("cat", "0")], "000002": [("dog", "1")]}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "VOCdevkit" / "VOC2007", TRAINVAL, TEST)


def test_presence(voc: Path) -> None:
    images = read_voc(voc)
    assert images.classes == ["cat", "dog"]  # parts of objects are none
    assert [Path(name).stem for name in images.names] == ["000005", "000007", "000009", "000001", "000002"]
    assert all((images.root / name).is_file() for name in images.names)
    assert images.is_test.tolist() == [False, False, False, True, True]
    # One easy dog among difficult ones is enough; only difficult ones leave the image out; a missing tag means easy.
    assert images.presence.tolist() == [[0, 1], [1, -1], [-1, -1], [1, 1], [-1, 0]]


@pytest.mark.parametrize("above", [0, 1, 2])
def test_the_folder_or_one_above_it(voc: Path, above: int) -> None:
    folder = [voc, *voc.parents][above]
    assert find_voc(folder) == voc
    assert len(read_voc(folder).names) == 5


def test_sets_with_a_second_column(voc: Path) -> None:
    (voc / "ImageSets/Main/test.txt").write_text("000001  1\n000002 -1\n\n")
    assert read_voc(voc).is_test.sum() == 2


def _break_xml(voc: Path) -> str:
    path = voc / "Annotations/000007.xml"
    path.write_text("<annotation><object>")
    return "000007.xml: broken annotation"


def _nameless(voc: Path) -> str:
    (voc / "Annotations/000007.xml").write_text("<annotation><object/></annotation>")
    return "000007.xml: broken annotation (an object without a name)"


def _binary_xml(voc: Path) -> str:
    (voc / "Annotations/000007.xml").write_bytes(bytes(range(256)))
    return "000007.xml: broken annotation"


def _odd_encoding(voc: Path) -> str:
    (voc / "Annotations/000007.xml").write_text('<?xml version="1.0" encoding="klingon"?><annotation/>')
    return "000007.xml: broken annotation"


def _bomb(voc: Path) -> str:
    (voc / "Annotations/000007.xml").write_text(
        '<!DOCTYPE a [<!ENTITY b "cccc"><!ENTITY d "&b;&b;">]><annotation><object><name>&d;</name></object></annotation>'
    )
    return "000007.xml: broken annotation (it has a document type"


def _no_xml(voc: Path) -> str:
    (voc / "Annotations/000002.xml").unlink()
    return "000002.xml: annotation cannot be read (No such file or directory)"


def _no_image(voc: Path) -> str:
    (voc / "JPEGImages/000001.jpg").unlink()
    return "000001.jpg: no such image (1 of 5 listed are missing)"


def _no_set(voc: Path) -> str:
    (voc / "ImageSets/Main/test.txt").unlink()
    return "test.txt: cannot be read (No such file or directory)"


def _empty_set(voc: Path) -> str:
    (voc / "ImageSets/Main/test.txt").write_text("\n")
    return "test.txt: lists no image"


def _binary_set(voc: Path) -> str:
    (voc / "ImageSets/Main/test.txt").write_bytes(b"\xff\xfe\x80")
    return "test.txt: not a text file"


def _overlap(voc: Path) -> str:
    (voc / "ImageSets/Main/test.txt").write_text("000001\n000007\n")
    return "image 000007 is listed twice in trainval and test"


def _difficult_only(voc: Path) -> str:
    xml = voc / "Annotations/000001.xml"
    xml.write_text(xml.read_text().replace("cat</name><difficult>0", "cat</name><difficult>1"))
    return "class 'cat': test.txt has no image with an object of it"


def _no_negative(voc: Path) -> str:
    for key in ("000007", "000009"):
        xml = voc / f"Annotations/{key}.xml"
        xml.write_text(
            xml.read_text().replace(
                "</folder>", "</folder><object><name>dog</name></object><object><name>cat</name></object>"
            )
        )
    return "trainval.txt has no image without an object of it"


@pytest.mark.parametrize(
    "damage",
    [
        _break_xml,
        _nameless,
        _binary_xml,
        _odd_encoding,
        _bomb,
        _no_xml,
        _no_image,
        _no_set,
        _empty_set,
        _binary_set,
        _overlap,
        _difficult_only,
        _no_negative,
    ],
)
def test_damage_is_one_line(voc: Path, damage: Callable[[Path], str]) -> None:
    message = damage(voc)
    with pytest.raises(DataError) as caught:
        read_voc(voc)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_objects_at_all(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"1": []}, {"2": []})
    with pytest.raises(DataError, match="no image of trainval and test holds an object"):
        read_voc(root)


def test_not_a_voc_folder(tmp_path: Path) -> None:
    assert find_voc(tmp_path) is None
    with pytest.raises(DataError, match="no VOC folder; JPEGImages/"):
        read_voc(tmp_path)
