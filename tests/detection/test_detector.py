"""The whole way: training, killed wherever it may be; the file; the commands; bad input, one line each."""

from __future__ import annotations

import copy
import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Loaded
from PIL import Image
from region_nets import make_net, save_net
from tiny_runs import wait_until
from voc_folder import write_voc

import sppcls
from sppcls.cli.main import main
from sppcls.detection.ap import judge
from sppcls.detection.boxes import iou, nms
from sppcls.detection.detector import Detector
from sppcls.detection.predict import detect_set
from sppcls.detection.proposals import Proposer
from sppcls.detection.scenes import scenes
from sppcls.detection.sets import read_set
from sppcls.detection.settings import Settings
from sppcls.detection.train import train_detector
from sppcls.detection.tuning import TuningRules
from sppcls.errors import CheckpointError, ConfigError, DataError

SETTINGS = Settings(scales="120,200", proposals="grid", limit=200, tuning=TuningRules(steps=100))
WORDS = ["--data", "shapes", "--scenes", "12", "--scales", "120,200", "--proposals", "grid", "--limit", "200",
         "--tune", "100", "--workers", "0", "--threads", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and a detector that the command made of it."""
    place = tmp_path_factory.mktemp("detector")
    save_net(place / "net.ckpt")
    words = ["detect", "train", str(place / "net.ckpt"), *WORDS, "--cache", str(place / "cache")]
    assert main([*words, "--out", str(place / "det")]) == 0
    return place


@pytest.fixture(scope="module")
def detector(place: Path) -> Detector:
    return sppcls.load_detector(place / "det" / "detector.ckpt")


def same(first: Path, second: Path) -> bool:
    """Whether two detectors are equal, bit for bit."""

    def flat(value: object) -> list[object]:
        if isinstance(value, dict):
            return [(key, flat(part)) for key, part in value.items()]
        return [value.numpy().tobytes() if isinstance(value, torch.Tensor) else value]

    files = [torch.load(path, weights_only=True) for path in (first, second)]
    return flat(files[0]) == flat(files[1])


def test_the_python_way_is_the_command(place: Path, tmp_path: Path) -> None:
    net = sppcls.load_classifier(place / "net.ckpt")
    sppcls.train_detector(net, scenes("train", 12), tmp_path / "det", SETTINGS, cache=tmp_path / "cache")
    assert same(place / "det" / "detector.ckpt", tmp_path / "det" / "detector.ckpt")


def test_the_file_holds_all_that_is_needed(place: Path, detector: Detector, tmp_path: Path) -> None:
    images = scenes("val", 4)
    before = [detector.detect(images.image(i)) for i in range(4)]
    detector.save(tmp_path / "copy.ckpt")
    loaded = sppcls.load_detector(tmp_path / "copy.ckpt")
    for index, expected in enumerate(before):
        found = loaded.detect(images.image(index))
        for name in ("boxes", "labels", "scores"):
            assert (getattr(found, name) == getattr(expected, name)).all()
    # Its network is a classifier of windows.
    net = sppcls.load_classifier(tmp_path / "copy.ckpt")
    assert net.model_info["classes"] == ["disc", "square", "triangle", "cross", "(background)"]
    original = sppcls.load_classifier(place / "net.ckpt").state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(value, original[name]) == (
            name.startswith("backbone.") or name == "head.input_scale"
        )


def test_kept_windows_and_maps_change_nothing(detector: Detector, tmp_path: Path) -> None:
    images = scenes("val", 3)
    kept = detect_set(detector, images, detector.proposer, tmp_path)
    again = detect_set(detector, images, detector.proposer, tmp_path)
    for index in range(3):
        alone = detector.detect(images.image(index))
        for found in (kept[index], again[index]):
            assert (found.boxes == alone.boxes).all()
            assert (found.scores == alone.scores).all()


def test_photos_of_12_bits_look_the_same_in_a_set_and_alone(detector: Detector, tmp_path: Path) -> None:
    seen = copy.deepcopy(detector)
    seen.regions.net.model_info["config"] = {"data": {"pixel_range": [0, 4095]}}
    root = write_voc(tmp_path / "voc", {"val": {"a": [("square", (1, 1, 50, 40), 0)]}})
    path = root / "JPEGImages/a.png"
    Image.fromarray(scenes("val", 1).image(0)[0].numpy().astype(np.uint16) * 16).save(path)
    path.with_suffix(".jpg").unlink()
    images = read_set(str(root), purpose="test").as_classes(seen.classes)
    (found,) = detect_set(seen, images, seen.proposer, tmp_path / "cache")
    (unseen,) = detect_set(detector, images, seen.proposer, tmp_path / "cache")
    alone = seen.detect(path)
    assert len(alone.boxes)
    assert (found.boxes == alone.boxes).all()
    assert (found.scores == alone.scores).all()
    assert found.scores.tolist() != unseen.scores.tolist()


def test_boxes_are_apart_inside_and_by_hand_those_of_the_scores(detector: Detector) -> None:
    image = scenes("val", 1).image(0)
    size = (image.shape[1], image.shape[2])
    found = detector.detect(image)
    assert len(found.boxes)
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2:] <= [size[1], size[0]]).all()
    windows = detector.proposer(image)
    cells = detector.regions.cells(windows, size)
    pooled = detector.regions.pool(detector.regions.maps(image), cells)
    rows = detector.regions.layer(pooled, detector.layer).numpy()
    assert detector.scorer is not None
    assert detector.regression is not None
    for label in range(4):
        boxes = found.boxes[found.labels == label]
        near = iou(boxes, boxes) - np.eye(len(boxes))
        assert (near <= 0.3).all()
        values = rows @ detector.scorer.weight[label] + detector.scorer.bias[label]
        good = np.flatnonzero(values > -1.5)
        good = good[nms(windows[good], values[good], 0.3)][:100]
        moved = detector.regression(label, pooled[torch.from_numpy(good)].numpy(), windows[good], size)
        expected = moved[nms(moved, values[good], 0.3)]
        np.testing.assert_allclose(boxes, expected, atol=1e-3)


def test_photos_in_a_folder_do_not_change_each_other(detector: Detector, tmp_path: Path) -> None:
    for i in range(5):
        Image.fromarray(scenes("val", 5).image(i).permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_text("no image")
    together = list(sppcls.detect(detector, tmp_path, workers=2))
    assert [found.error is None for found in together] == [True] * 5 + [False]
    for found in together[:5]:
        alone = detector.detect(found.path)
        assert found.detections is not None
        assert sorted(map(tuple, found.detections.boxes)) == sorted(map(tuple, alone.boxes))
        assert (np.diff(found.detections.scores) <= 0).all()


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_any_kind_of_photo(detector: Detector, mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(scenes("val", 1).image(0).permute(1, 2, 0).numpy()).convert(mode).save(path)
    assert detector.detect(path).boxes.shape[1] == 4


def test_a_photo_that_is_turned_has_boxes_as_it_is_seen(detector: Detector, tmp_path: Path) -> None:
    image = Image.fromarray(scenes("val", 1).image(0).permute(1, 2, 0).numpy())
    image.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright, turned = (detector.detect(tmp_path / f"{name}.png") for name in ("upright", "turned"))
    assert (upright.boxes == turned.boxes).all()


def test_softmax_instead_of_svms(place: Path, tmp_path: Path) -> None:
    settings = Settings(
        scales="160",
        proposals="grid",
        limit=200,
        tuning=TuningRules(steps=50),
        scorer="softmax",
        regression=False,
    )
    made = train_detector(place / "net.ckpt", scenes("train", 8), tmp_path / "det", settings, cache=tmp_path)
    loaded = sppcls.load_detector(tmp_path / "det" / "detector.ckpt")
    found, expected = loaded.detect(scenes("val", 1).image(0)), made.detect(scenes("val", 1).image(0))
    assert (found.boxes == expected.boxes).all()
    assert ((found.scores > 0.01) & (found.scores < 1)).all()


# --- killed


def test_a_run_that_is_stopped_after_any_stage_ends_with_the_same_detector(
    place: Path, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    net, images = sppcls.load_classifier(place / "net.ckpt"), scenes("train", 12)

    def run(say: Callable[[str], None]) -> None:
        train_detector(net, images, tmp_path / "det", SETTINGS, cache=tmp_path / "cache", say=say)

    stages = ("windows", "maps: there", "fine-tuning", "SVMs", "box regression")
    for stage in stages:

        def stop(line: str, stage: str = stage) -> None:
            if line.startswith(stage):
                raise Stopped

        with pytest.raises(Stopped):
            run(stop)
    assert not (tmp_path / "det" / "detector.ckpt").exists()
    lines: list[str] = []
    run(lines.append)
    assert any(line.startswith("SVMs on fc7: there") for line in lines)
    assert same(place / "det" / "detector.ckpt", tmp_path / "det" / "detector.ckpt")


def test_a_process_that_is_killed_goes_on(place: Path, tmp_path: Path, loaded: Loaded) -> None:
    out, cache = tmp_path / "det", tmp_path / "cache"
    words = [
        "-m",
        "sppcls",
        "detect",
        "train",
        str(place / "net.ckpt"),
        *WORDS,
        "--cache",
        str(cache),
        "--out",
        str(out),
    ]
    # The test above stops it after every stage.
    moments = [
        lambda: len([*(cache / "maps").rglob("*.npz")]) > 5,
        lambda: (out / "stages/svm.npz").exists(),
    ]
    for happened in moments:
        process = loaded.start(words)
        wait_until(happened, process)
        process.kill()
        process.close()
    assert not (out / "detector.ckpt").exists()
    process = loaded.start(words)
    assert process.wait(100) == 0
    process.close()
    assert same(place / "det" / "detector.ckpt", out / "detector.ckpt")


# --- the commands


def test_evaluating(
    place: Path, detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ap.csv"
    words = ["detect", "evaluate", str(place / "det/detector.ckpt"), "--data", "shapes", "--scenes", "10"]
    assert main([*words, "--cache", str(tmp_path), "--out", str(out), "--workers", "0"]) == 0
    printed = capsys.readouterr().out
    images = scenes("val", 10)
    result = judge(images, detect_set(detector, images, Proposer("grid", 200), tmp_path))
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows[::2]] == [*images.classes, ""]
    for row in rows[-2:]:
        assert float(row["ap"]) == pytest.approx(result.mean[row["measure"]], abs=1e-4)
        assert f"{result.mean[row['measure']]:.1f}" in printed


def test_predicting_in_every_format(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, det = tmp_path / "photos", str(place / "det/detector.ckpt")
    photos.mkdir()
    for i in range(2):
        Image.fromarray(scenes("val", 2).image(i).permute(1, 2, 0).numpy()).save(photos / f"00{i}.png")
    words = ["detect", "predict", det, str(photos), "--min-score", "-1.2", "--workers", "0"]
    assert main([*words, "--format", "json", "--draw", str(tmp_path / "drawn")]) == 0
    found = json.loads(capsys.readouterr().out)
    boxes = [(one["path"], d["class"], d["score"], d["box"]) for one in found for d in one["detections"]]
    assert len(boxes) > 2
    assert all(score >= -1.2 for _, _, score, _ in boxes)
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["000.jpg", "001.jpg"]
    with Image.open(tmp_path / "drawn/000.jpg") as drawn:
        assert drawn.size == scenes("val", 1).sizes[0][::-1]

    assert main([*words, "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    sides = ("left", "top", "right", "bottom")
    assert [(r["path"], r["class"], float(r["score"]), [float(r[s]) for s in sides]) for r in rows] == boxes

    assert main([*words, "--format", "coco"]) == 0
    for one, (path, name, score, box) in zip(json.loads(capsys.readouterr().out), boxes, strict=True):
        left, top, width, height = one["bbox"]
        assert [left, top, left + width, top + height] == pytest.approx(box, abs=0.02)
        assert one["image_id"] == int(Path(path).stem)
        assert scenes("val", 1).classes[one["category_id"] - 1] == name
        assert one["score"] == score

    assert main([*words, "--format", "voc", "--out", str(tmp_path / "voc")]) == 0
    lines = [
        (file.stem.removeprefix("comp4_det_"), *line.split())
        for file in sorted((tmp_path / "voc").iterdir())
        for line in file.read_text().splitlines()
    ]
    assert len(lines) == len(boxes)
    for name, stem, *numbers in lines:
        mine = [
            (score, box[0] + 1, box[1] + 1, *box[2:])
            for path, kind, score, box in boxes
            if (Path(path).stem, kind) == (stem, name)
        ]
        assert min(np.abs(np.array(mine) - np.array(numbers, float)).max(1)) < 0.01

    (photos / "bad.jpg").write_text("no image")
    assert main(words) == 1
    err = capsys.readouterr().err
    assert "bad.jpg" in err
    assert "1 of 3 photos could not be searched" in err


def test_predicting_replaces_nothing_unasked(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, drawn = tmp_path / "photos", tmp_path / "drawn"
    (photos / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "more/a.png", "b.jpg")):
        Image.fromarray(scenes("val", 3).image(i).permute(1, 2, 0).numpy()).save(photos / name)
    words = ["detect", "predict", str(place / "det/detector.ckpt"), str(photos), "--min-score", "99"]
    words += ["--workers", "0"]
    assert main([*words, "--draw", str(drawn)]) == 0
    err = capsys.readouterr().err
    assert "nothing was found that is sure enough; --min-score -1.5 shows all boxes" in err
    sizes = {}
    for path in sorted(drawn.iterdir()):
        with Image.open(path) as picture:
            sizes[path.name] = picture.size[::-1]
    first, second, third = scenes("val", 3).sizes
    # In the order of the photos: a.png, b.jpg, more/a.png.
    assert sizes == {"a.jpg": first, "a-1.jpg": second, "b.jpg": third}
    before = {path.name: path.stat().st_mtime_ns for path in drawn.iterdir()}
    assert main([*words, "--draw", str(drawn)]) == 1
    assert "a.jpg exists already; name another folder, or add --overwrite" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in drawn.iterdir()} == before
    assert main([*words, "--draw", str(drawn), "--overwrite"]) == 0
    after = {path.name: path.stat().st_mtime_ns for path in drawn.iterdir()}
    assert after.keys() == before.keys()
    assert all(after[name] > time for name, time in before.items())
    original = (photos / "b.jpg").read_bytes()
    assert main([*words, "--draw", str(photos), "--overwrite"]) == 1
    assert "would replace the photo b.jpg" in capsys.readouterr().err
    assert (photos / "b.jpg").read_bytes() == original
    voc = [*words, "--format", "voc", "--out", str(tmp_path / "voc")]
    assert main(voc) == 0
    assert main(voc) == 1
    assert "comp4_det_disc.txt exists already" in capsys.readouterr().err
    assert main([*voc, "--overwrite"]) == 0


# --- bad input


def test_what_is_no_detector(place: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a classifier, no detector; `sppcls detect train"):
        sppcls.load_detector(place / "net.ckpt")
    data = (place / "det/detector.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged, cut short"):
        sppcls.load_detector(tmp_path / "cut.ckpt")
    checkpoint = torch.load(place / "det/detector.ckpt", weights_only=True)
    for part, value in (
        ("scorer", {"weight": torch.zeros(4, 3), "bias": torch.zeros(4)}),
        ("scorer", {"weight": torch.full((4, 12), torch.nan), "bias": torch.zeros(4)}),
        ("regression", {"weight": torch.zeros(1)}),
        ("classes", 7),
        ("rules", {"scales": "a"}),
        ("choice", {"unknown": 1}),
    ):
        torch.save({**checkpoint, "detector": {**checkpoint["detector"], part: value}}, tmp_path / "bad.ckpt")
        with pytest.raises((CheckpointError, ConfigError)) as caught:
            sppcls.load_detector(tmp_path / "bad.ckpt")
        assert "\n" not in str(caught.value)


def test_settings_that_cannot_be(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="scorer 'softmax': the network's own classes are not the set's"):
        Settings(scorer="softmax")
    for settings, line in (
        (Settings(layer="fc9", proposals="grid"), "layer 'fc9': this network has spp, fc6, fc7"),
        (Settings(scales="5", proposals="grid"), "scale 5: this network needs"),
        (Settings(proposals="edges"), "proposals 'edges': choose from"),
    ):
        with pytest.raises(ConfigError, match=line):
            train_detector(place / "net.ckpt", scenes("train", 4), tmp_path / "det", settings, cache=tmp_path)
    assert not (tmp_path / "det").exists()  # before work begins
    net, grid = make_net(tmp_path, levels=None), Settings(proposals="grid")
    with pytest.raises(ConfigError, match="has no pyramid"):
        train_detector(net, scenes("train", 4), tmp_path / "det", grid, cache=tmp_path)


def test_a_class_of_difficult_objects_alone(place: Path, tmp_path: Path) -> None:
    root = write_voc(
        tmp_path / "voc", {"train": {"a": [("cat", (1, 1, 30, 20), 1), ("dog", (1, 1, 30, 30), 0)]}}
    )
    with pytest.raises(
        DataError, match=r"class 'cat' has no object in train \(difficult ones do not count\)"
    ):
        train_detector(place / "net.ckpt", str(root), tmp_path / "det", SETTINGS, cache=tmp_path)


def test_another_detector_in_the_folder_is_not_replaced(place: Path, tmp_path: Path) -> None:
    net, images = place / "net.ckpt", scenes("train", 5)
    settings = Settings(scales="120", proposals="grid", limit=50, regression=False)
    train_detector(net, images, tmp_path / "det", settings, cache=tmp_path)
    before = (tmp_path / "det/detector.ckpt").read_bytes()
    other = Settings(scales="160", proposals="grid", limit=50, regression=False)
    with pytest.raises(ConfigError, match=r"holds a detector of another network.*add --overwrite"):
        train_detector(net, images, tmp_path / "det", other, cache=tmp_path)
    assert (tmp_path / "det/detector.ckpt").read_bytes() == before
    train_detector(net, images, tmp_path / "det", other, cache=tmp_path, overwrite=True)
    assert (tmp_path / "det/detector.ckpt").read_bytes() != before


def test_a_set_of_other_classes(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_voc(tmp_path / "voc", {"val": {"a": [("cat", (1, 1, 30, 20), 0)]}})
    assert main(["detect", "evaluate", str(place / "det/detector.ckpt"), "--data", str(root)]) == 1
    assert "has class 'cat', which the detector does not know; it has disc, square" in capsys.readouterr().err


def test_a_set_that_lacks_classes_is_judged_on_the_others(detector: Detector, tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"val": {"a": [("square", (1, 1, 50, 40), 0)]}}, size=(120, 160))
    images = read_set(str(root), purpose="test").as_classes(detector.classes)
    result = judge(images, detect_set(detector, images, detector.proposer, tmp_path))
    assert [one.objects for one in result.classes] == [0, 1, 0, 0]
    assert not np.isnan(result.mean["11-point"])


def test_without_scikit_learn_one_line(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(ConfigError, match=r'detect needs scikit-learn: pip install "sppcls\[detect\]"'):
        train_detector(place / "net.ckpt", scenes("train", 4), tmp_path / "det", SETTINGS, cache=tmp_path)


def test_a_compressed_detector_is_used_and_not_saved(place: Path, tmp_path: Path) -> None:
    path = place / "det/detector.ckpt"
    compressed = sppcls.load_detector(path, svd=11)  # fc6 has 16 rows
    assert len(compressed.detect(scenes("val", 1).image(0)).boxes)
    with pytest.raises(ConfigError, match="compressed is not saved"):
        compressed.save(tmp_path / "det.ckpt")
    assert main(["detect", "evaluate", str(path), "--data", "shapes", "--scenes", "2", "--svd", "0"]) == 1
