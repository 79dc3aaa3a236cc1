"""Linear SVMs on features against the same made by hand, and the protocols against counts."""

from __future__ import annotations

import csv
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked import Loaded
from saved_nets import SIZE, save_net, write_photo

from sppcls import load_classifier
from sppcls.cli.main import main
from sppcls.errors import ConfigError, DataError
from sppcls.inference.features import extract_features
from sppcls.inference.transfer.tasks import ClassTask, Draw, caltech_task, folder_task
from sppcls.inference.transfer.transfer import TransferTable, transfer
from sppcls.nn import SPPClassifier

svm = pytest.importorskip("sklearn.svm")

ROOT = Path(__file__).resolve().parents[2]
# Classes that a linear model on features of a random network can tell at times.
COLOURS = {"grey": (128, 128, 128), "reddish": (136, 124, 124), "bluish": (124, 124, 134)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_net(tmp_path_factory.mktemp("net") / "best.ckpt", levels=[3, 2, 1])


@pytest.fixture(scope="module")
def net(checkpoint: Path) -> SPPClassifier:
    return load_classifier(checkpoint)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 8, 11 and 14 images."""
    root = tmp_path_factory.mktemp("photos")
    for number, (name, colour) in enumerate(COLOURS.items()):
        for image in range(8 + 3 * number):
            write_photo(root / name / f"{image:02d}.png", 100 * number + image, colour)
    return root


@pytest.fixture(scope="module")
def split(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as train/ and val/; val has 2, 4 and 7 of them."""
    root = tmp_path_factory.mktemp("split")
    for name, count in zip(COLOURS, (2, 4, 7), strict=True):
        for place, photo in enumerate(sorted((photos / name).iterdir())):
            target = root / ("val" if place < count else "train") / name / photo.name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(photo, target)
    return root


def by_hand(rows: np.ndarray, labels: np.ndarray, c: float = 1.0) -> object:
    return svm.LinearSVC(C=c, loss="hinge", tol=1e-3, random_state=0, max_iter=10_000).fit(rows, labels)


def unit(rows: np.ndarray) -> np.ndarray:
    return np.stack([row / max(np.sqrt((row.astype(float) ** 2).sum()), 1e-30) for row in rows]).astype(
        np.float32
    )


def figures(table: TransferTable, layer: str, view: str = "full") -> dict[str, list[float]]:
    (score,) = [s for s in table.scores if (s.layer, s.view.kind) == (layer, view)]
    return score.measured.overall


# --- class folders


@pytest.mark.parametrize("c", [1.0, 0.01])
def test_the_given_split_is_what_an_svm_by_hand_gets(net: SPPClassifier, split: Path, c: float) -> None:
    table = transfer(net, split, layers=["spp", "fc7"], c=c, batch_size=4)
    for layer in ("spp", "fc7"):
        found = extract_features(net, split, layer, shorter_side=SIZE)
        rows = unit(found.features)
        val = np.array([path.startswith("val/") for path in found.paths])
        model = by_hand(rows[~val], found.labels[~val], c)
        wrong = model.predict(rows[val]) != found.labels[val]  # type: ignore[attr-defined]
        shares = [wrong[found.labels[val] == k].mean() for k in range(3)]
        measured = figures(table, layer)
        assert measured["top-1 error"] == [pytest.approx(100 * wrong.sum() / 13)]
        assert measured["class-mean error"] == [pytest.approx(100 * np.mean(shares))]
        assert 0 < wrong.sum() < 13
    score = table.scores[0]
    assert set(score.measured.by_class["top-1 error"]) == set(COLOURS)
    assert (score.length, score.view.shorter_side) == (16 * 14, SIZE)
    assert "3 classes; the given split: 20 training, 13 test images" in str(table)


def test_features_that_tell_the_classes_are_told_from_those_that_do_not(
    net: SPPClassifier, photos: Path, tmp_path: Path
) -> None:
    """Pure colours are learned without an error; the same images under shuffled names are not."""
    for number in range(30):
        write_photo(tmp_path / "right" / "rgb"[number % 3] / f"{number}.png", number, _pure(number % 3))
        write_photo(tmp_path / "wrong" / "rgb"[number // 3 % 3] / f"{number}.png", number, _pure(number % 3))
    right = transfer(net, tmp_path / "right", ["spp"], per_class=5, splits=3)
    assert figures(right, "spp")["top-1 error"] == [0.0] * 3
    wrong = transfer(net, tmp_path / "wrong", ["spp"], per_class=5, splits=3)
    assert np.mean(figures(wrong, "spp")["top-1 error"]) > 30


def _pure(channel: int) -> tuple[int, int, int]:
    return tuple(200 if channel == k else 60 for k in range(3))  # type: ignore[return-value]


def test_no_view_and_no_layer_are_the_usual_ones(net: SPPClassifier, photos: Path) -> None:
    usual = transfer(net, photos, per_class=4, splits=2)
    assert usual.scores
    assert str(transfer(net, photos, [], view=[], per_class=4, splits=2)) == str(usual), (
        "as `--view ''` gives it"
    )


def test_both_views_in_one_table(net: SPPClassifier, photos: Path) -> None:
    table = transfer(net, photos, per_class=4, splits=2, view=("full", "crop"))
    names = [(score.layer, score.view.kind) for score in table.scores]
    vectors = [(layer, view) for layer in ("level3", "spp", "fc6", "fc7") for view in ("crop", "full")]
    assert names == [("conv5", "crop"), *vectors]
    crops = extract_features(net, photos, "conv5", view="crop", shorter_side=SIZE)
    assert table.scores[0].length == crops.features.shape[1]
    (row,) = [line for line in str(table).splitlines() if line.startswith("conv5")]
    assert row.split()[-2:] == ["–", "–"]
    assert "view crop 96x96, shorter side 96\nview full, shorter side 96\n" in str(table)


def test_images_go_through_the_network_once_for_all_layers(net: SPPClassifier, photos: Path) -> None:
    seen = []
    hook = net.backbone.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    try:
        transfer(
            net, photos, ["conv4", "conv5", "level3", "spp", "fc6", "fc7"], view="crop", per_class=4, splits=1
        )
    finally:
        hook.remove()
    assert sum(seen) == 33 + 1  # and one image of zeros, which tells the lengths


# --- splits


def _task(counts: dict[str, int], draw: Draw) -> ClassTask:
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    return ClassTask(Path("photos"), [f"{i}.png" for i in range(len(labels))], labels, list(counts), draw)


def test_drawn_splits_have_the_numbers_asked_for() -> None:
    draw = Draw(per_class=5, test_per_class=4, splits=6, seed=3)
    task = _task({"a": 6, "b": 9, "c": 40}, draw)
    kept = np.arange(55)
    splits = list(task.splits(kept))
    assert len(splits) == 6
    for train, test in splits:
        assert not set(train) & set(test)
        assert len(set(train)) + len(set(test)) == 15 + 1 + 4 + 4
        assert Counter(task.labels[train]) == {0: 5, 1: 5, 2: 5}
        assert Counter(task.labels[test]) == {0: 1, 1: 4, 2: 4}
    assert len({tuple(train) for train, _ in splits}) == 6
    used = Counter(int(i) for train, _ in splits for i in train if i >= 15)
    assert len(used) > 15  # 30 draws of 40 images

    again = list(_task({"a": 6, "b": 9, "c": 40}, draw).splits(kept))
    assert all((s[0] == t[0]).all() and (s[1] == t[1]).all() for s, t in zip(splits, again, strict=True))
    other = list(_task({"a": 6, "b": 9, "c": 40}, Draw(5, 4, 6, seed=4)).splits(kept))
    assert any((s[0] != t[0]).any() for s, t in zip(splits, other, strict=True))


def test_the_paper_s_numbers_are_the_defaults() -> None:
    assert Draw() == Draw(per_class=30, test_per_class=50, splits=10, seed=0)


def test_images_that_were_left_out_are_not_drawn() -> None:
    task = _task({"a": 8, "b": 8}, Draw(per_class=5, test_per_class=4, splits=20))
    kept = np.array([i for i in range(16) if i not in (3, 12)])
    drawn = {int(kept[place]) for split in task.splits(kept) for part in split for place in part}
    assert drawn == set(kept.tolist())
    with pytest.raises(DataError, match="class 'a' has 5 image"):
        task.check(np.arange(3, 16))


def test_a_class_folder_in_decomposed_letters_is_not_empty(photos: Path, tmp_path: Path) -> None:
    for name, class_folder in {"grey": "cafe\u0301", "bluish": "the"}.items():  # as macOS writes it
        shutil.copytree(photos / name, tmp_path / class_folder)
    task = folder_task(tmp_path, per_class=3)
    assert task.classes == ["caf\u00e9", "the"]


def test_train_and_val_are_drawn_from_together_only_if_asked(split: Path, photos: Path) -> None:
    given = folder_task(split)
    ((train, test),) = given.splits(np.arange(33))
    assert {given.names[i].split("/")[0] for i in train} == {"train"}
    assert {given.names[i].split("/")[0] for i in test} == {"val"}
    drawn = folder_task(split, per_class=3, test_per_class=50, splits=2)
    assert len(drawn.names) == 33
    for train, test in drawn.splits(np.arange(33)):
        assert (len(train), len(test)) == (9, 24)


def test_caltech101_s_own_folders(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "caltech101" / "101_ObjectCategories")
    for folder in (tmp_path, tmp_path / "caltech101", photos):
        assert caltech_task(folder, per_class=3).classes == sorted(COLOURS)
    with pytest.raises(DataError, match="class 'bluish' has 14 .* lower --per-class to 13"):
        caltech_task(photos)


# --- VOC


@pytest.fixture(scope="module")
def voc(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two colours, with objects called after them. Every fifth has its objects marked as difficult."""
    root = tmp_path_factory.mktemp("voc") / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    keys: dict[str, list[str]] = {"trainval": [], "test": []}
    for number in range(40):
        key = f"{number:06d}"
        keys["test" if number % 2 else "trainval"].append(key)
        names = [[], ["grey"], ["bluish"], ["grey", "bluish"]][number // 2 % 4]
        colour = COLOURS[names[0]] if names else COLOURS["reddish"]
        write_photo(root / "JPEGImages" / f"{key}.jpg", number, colour)
        hard = int(number // 2 % 5 == 0)
        objects = "".join(f"<object><name>{n}</name><difficult>{hard}</difficult></object>" for n in names)
        (root / "Annotations" / f"{key}.xml").write_text(f"<annotation>{objects}</annotation>")
    for name, members in keys.items():
        (root / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(members))
    return root.parent


def naive_ap(scores: np.ndarray, present: np.ndarray) -> tuple[float, float]:
    """From the definition: for every threshold the images above it, counted."""
    points = []
    for threshold in sorted(scores, reverse=True):
        above = scores >= threshold
        hits = int((above & present).sum())
        points.append((hits, hits / int(above.sum())))
    total = int(present.sum())
    best = [max(p for hits, p in points if 10 * hits >= step * total) for step in range(11)]
    area = [max(p for hits, p in points if hits >= k) for k in range(1, total + 1)]
    return float(np.mean(best)), float(np.mean(area))


def test_voc_is_what_svms_by_hand_get(net: SPPClassifier, voc: Path) -> None:
    table = transfer(net, voc, ["spp"], shorter_side=110)
    found = extract_features(net, voc / "VOC2007" / "JPEGImages", "spp", shorter_side=110)
    rows = unit(found.features)
    number = np.array([int(Path(path).stem) for path in found.paths])
    test, group, easy = number % 2 == 1, number // 2 % 4, number // 2 % 5 != 0
    results = {}
    for name, groups in (("bluish", (2, 3)), ("grey", (1, 3))):
        holds = np.isin(group, groups)
        counted = ~holds | easy
        model = by_hand(rows[~test & counted], holds[~test & counted])
        scores = model.decision_function(rows[test & counted])  # type: ignore[attr-defined]
        results[name] = naive_ap(scores, holds[test & counted])
    measured = table.scores[0].measured
    for place, measure in enumerate(("mAP 11-point", "mAP all-point")):
        assert measured.by_class[measure] == {
            name: [pytest.approx(100 * aps[place])] for name, aps in results.items()
        }
        assert measured.overall[measure] == [pytest.approx(50 * sum(aps[place] for aps in results.values()))]
    assert 0 < measured.overall["mAP all-point"][0] < 100  # else any ranking would pass
    assert "2 VOC classes; 20 trainval, 20 test images" in str(table)


# --- the command


def test_the_command_prints_and_writes_the_table(
    checkpoint: Path, net: SPPClassifier, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.csv"
    words = [
        "transfer",
        str(checkpoint),
        "--data",
        str(photos),
        "--layers",
        "fc7,spp,fc7",
        "--per-class",
        "4",
    ]
    words += ["--test-per-class", "3", "--splits", "3", "--seed", "5", "--workers", "1", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    truth = transfer(net, photos, ["fc7", "spp"], per_class=4, test_per_class=3, splits=3, seed=5)
    assert str(truth) in printed
    assert "random split(s): 4 training and at most 3 test images per class, seed 5" in printed
    values = figures(truth, "spp")["top-1 error"]
    assert len(set(values)) > 1
    assert f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}" in printed
    with open(out, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["layer"] for row in rows} == {"fc7", "spp"}
    for row in rows:
        if (row["layer"], row["measure"], row["class"]) == ("spp", "top-1 error", ""):
            assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-4)
            assert float(row["std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-4)
            assert (row["view"], row["shorter_side"], row["length"], row["splits"]) == (
                "full",
                "96",
                "224",
                "3",
            )
    assert {row["class"] for row in rows} == {"", *COLOURS}
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err


def test_bad_images_are_named_and_left_out(
    checkpoint: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos, tmp_path / "p")
    (tmp_path / "p" / "grey" / "00.png").write_bytes(b"no image")
    words = ["transfer", str(checkpoint), "--data", str(tmp_path / "p"), "--layers", "fc7", "--per-class"]
    assert main([*words, "6", "--splits", "2", "--view", "full,crop"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "00.png: text, not an image" in err
    assert main([*words, "7", "--splits", "2"]) == 1  # of 8 images 7 are left, none to test on
    assert "class 'grey' has 7 image(s); 7 to train on and one to test on" in capsys.readouterr().err


def _one_image(root: Path) -> str:
    write_photo(root / "alone" / "1.png", 1)
    return "class 'alone' has 1 image(s); 30 to train on and one to test on are needed at least\n"


def _empty_class(root: Path) -> str:
    (root / "nothing").mkdir()
    return "no image in the folder of class 'nothing'"


def _loose(root: Path) -> str:
    write_photo(root / "1.png", 1)
    return "not every image is in the folder of a class"


def _single(root: Path) -> str:
    for name in ("reddish", "bluish"):
        shutil.rmtree(root / name)
    return "a single class folder ('grey')"


def _no_images(root: Path) -> str:
    for name in COLOURS:
        shutil.rmtree(root / name)
    return "no image in this folder"


def _val_only(root: Path) -> str:
    for name in COLOURS:
        shutil.move(root / name, root / "val" / name)
    return "there is no training folder beside val/"


def _strange_class(root: Path) -> str:
    shutil.copytree(root, root.with_name("copy"))
    shutil.move(root.with_name("copy"), root / "train")
    for name in COLOURS:
        shutil.move(root / name, root / "val" / name)
    write_photo(root / "val" / "strange" / "1.png", 1)
    return "class 'strange' is not among the classes in"


@pytest.mark.parametrize(
    "damage", [_one_image, _empty_class, _loose, _single, _no_images, _val_only, _strange_class]
)
def test_folders_that_cannot_be_learned_are_one_line(
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], str],
) -> None:
    root = tmp_path / "p"
    shutil.copytree(photos, root)
    message = damage(root)
    assert main(["transfer", str(checkpoint), "--data", str(root), "--layers", "fc7"]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers", "fc7,fc9"], "layer 'fc9': this network has conv1, "),
        (["--layers", "conv5"], "vectors of many lengths; take view crop"),
        (["--view", "half"], "view 'half': choose from full, crop"),
        (["--protocol", "imagenet"], "protocol 'imagenet': choose from folder, caltech101, voc07"),
        (["--protocol", "voc07"], "no VOC folder; JPEGImages/"),
        (["--splits", "3"], "--splits 3: {data} has its own split, train/ and val/; add --per-class"),
        (["--per-class", "0"], "--per-class 0: must be a whole number of at least 1"),
        (["--c", "-1"], "--c -1: must be a number greater than 0"),
        (["--c", "x"], "--c x: must be a number greater than 0"),
        (["--out", "nowhere/t.csv"], "there is no folder nowhere"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
    ],
)
def test_impossible_requests_are_one_line(
    checkpoint: Path, split: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["transfer", str(checkpoint), "--data", str(split), *words]) == 1
    err = capsys.readouterr().err
    assert message.format(data=split) in err
    assert err.count("\n") == 1


def test_impossible_arguments(net: SPPClassifier, photos: Path, voc: Path) -> None:
    with pytest.raises(ConfigError, match="--splits 2: a VOC folder has its own split"):
        transfer(net, voc, splits=2)
    with pytest.raises(ConfigError, match="--splits 0: must be at least 1"):
        transfer(net, photos, splits=0)
    with pytest.raises(ConfigError, match="C 0: must be greater than 0"):
        transfer(net, photos, c=0)


@pytest.mark.run
def test_without_scikit_learn_it_is_one_line(checkpoint: Path, photos: Path, loaded: Loaded) -> None:
    hidden = "import sys; sys.modules['sklearn'] = None; from sppcls.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = loaded.run(["-c", hidden, "transfer", str(checkpoint), "--data", str(photos)])
    assert done.returncode == 1
    assert done.stderr == 'sppcls: error: transfer needs scikit-learn: pip install "sppcls[transfer]"\n'
