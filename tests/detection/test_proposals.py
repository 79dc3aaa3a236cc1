"""Windows: the same ones on every run, kept and mended, and their recall by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from forked import Loaded
from voc_folder import write_voc

from sppcls.cli.main import main
from sppcls.detection.boxes import iou
from sppcls.detection.proposals import Proposer, grid, make_proposer, propose, recall, selective_search
from sppcls.detection.scenes import scenes
from sppcls.detection.sets import read_set
from sppcls.detection.truth import DetectionSet, Truth
from sppcls.detection.window_files import read_windows, write_windows
from sppcls.errors import ConfigError, DataError


def test_windows_and_their_order_are_the_same_every_time_and_with_workers(tmp_path: Path) -> None:
    images = scenes("train", 10)
    proposer = Proposer(limit=300)
    alone = propose(images, proposer, tmp_path / "a")
    together = propose(images, proposer, tmp_path / "b", workers=2)
    for first, second in zip(alone, together, strict=True):
        assert (first == second).all()
        assert len(first) <= 300
    # A fair sample, not the upper left of the image.
    few = [boxes[:50].mean(0) / boxes.mean(0) for boxes in alone]
    assert np.abs(np.mean(few, 0) - 1).max() < 0.15


def test_what_was_made_is_read_and_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    images, proposer = scenes("train", 3), Proposer(limit=50)
    first = propose(images, proposer, tmp_path)
    files = sorted((tmp_path / "windows").rglob("*.npz"))
    assert len(files) == 3
    before = [file.read_bytes() for file in files]
    middle = len(before[0]) // 2
    files[0].write_bytes(before[0][:middle] + bytes([before[0][middle] ^ 1]) + before[0][middle + 1 :])
    files[1].write_bytes(before[1][:40])
    files[2].chmod(0o400)
    stamp = files[2].stat().st_mtime_ns
    again = propose(images, proposer, tmp_path)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert [file.read_bytes() for file in files] == before
    assert files[2].stat().st_mtime_ns == stamp  # read, not made


def test_a_large_photo_is_searched_small_and_its_windows_mapped_back() -> None:
    scene = scenes("val", 1).image(0)
    height, width = scene.shape[1:]
    large = scene.repeat_interleave(3, 1).repeat_interleave(3, 2)
    found = selective_search(large)
    assert (found[:, 2] <= 3 * width).all()
    assert (found[:, 3] <= 3 * height).all()
    for box in scenes("val", 1).truths[0].boxes:
        assert iou(3 * box[None], found).max() > 0.7


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (5, 5), (300, 40), (19, 19)])
@pytest.mark.parametrize("method", ["selective_search", "grid"])
def test_odd_images_have_windows_inside(size: tuple[int, int], method: str) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    boxes = Proposer(method)(image)
    assert 1 <= len(boxes) <= 2000
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [size[1], size[0]]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_grid_keeps_to_the_limit_and_finds_every_place() -> None:
    for limit in (200, 2000):
        assert limit * 0.4 < len(grid((375, 500), limit)) <= limit
    boxes = grid((375, 500))
    for left, top, side in ((0, 0, 90), (200, 130, 60), (410, 290, 80)):
        assert iou(np.array([[left, top, left + side, top + side]]), boxes).max() > 0.5


def test_recall_by_hand() -> None:
    truth = Truth(
        np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]),
        np.array([0, 1, 1]),
        np.array([False, False, True]),
    )
    empty = Truth(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, bool))
    images = DetectionSet(
        "hand",
        "train",
        ("a", "b"),
        ("x", "y"),
        ((50, 50),) * 2,
        (truth, empty),
        lambda i: torch.empty(0),
        str,
    )
    windows = [np.array([[20.0, 0, 30, 20], [0, 0, 10, 9], [40, 0, 50, 10]]), np.array([[0.0, 0, 5, 5]])]
    assert [part.tolist() for part in recall(images, windows, 1, 0.5)] == [[0, 1], [1, 1]]  # .5 exactly
    assert recall(images, windows, 3, 0.5)[0].tolist() == [1, 1]
    assert recall(images, windows, 3, 0.7)[0].tolist() == [1, 0]


def test_files_of_windows(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"train": {"a": [("cat", (1, 1, 9, 9), 0)], "b": []}})
    boxes = {"a": np.array([[0.0, 0, 30, 20], [10, 5, 60, 40]]), "b": np.array([[1.0, 2, 3, 4]])}
    write_windows(tmp_path / "w.npz", boxes)
    (tmp_path / "w.json").write_text(json.dumps({name: value.tolist() for name, value in boxes.items()}))
    rows = [
        {"file_name": f"{name}.jpg", "bbox": [left, top, right - left, bottom - top]}
        for name, value in boxes.items()
        for left, top, right, bottom in value
    ]
    (tmp_path / "coco.json").write_text(json.dumps(rows))
    cells = np.empty(2, object), np.empty(2, object)
    for number, (name, value) in enumerate(boxes.items()):
        cells[0][number] = name
        cells[1][number] = (value[:, [1, 0, 3, 2]] + [1, 1, 0, 0]).astype(np.uint16)
    scipy.io.savemat(tmp_path / "w.mat", {"images": cells[0], "boxes": cells[1]})
    images = read_set(str(root))
    for name in ("w.npz", "w.json", "coco.json", "w.mat"):
        found = propose(images, make_proposer(str(tmp_path / name)), tmp_path)
        assert [one.tolist() for one in found] == [value.tolist() for value in boxes.values()], name


def test_bad_files_of_windows_are_one_line(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"train": {"a": [("cat", (1, 1, 9, 9), 0)]}})
    images = read_set(str(root))

    def reading(name: str) -> None:
        propose(images, make_proposer(str(tmp_path / name)), tmp_path)

    write_windows(tmp_path / "other.npz", {"b": np.array([[0.0, 0, 3, 3]])})
    with pytest.raises(DataError, match="has no windows of image a"):
        reading("other.npz")
    # The rows and columns of a 40 x 60 image exchanged.
    write_windows(tmp_path / "order.npz", {"a": np.array([[0.0, 20, 30, 60]])})
    with pytest.raises(DataError, match=r"window \[0, 20, 30, 60\] .* are its numbers in another order\?"):
        reading("order.npz")
    (tmp_path / "broken.json").write_text("[{")
    with pytest.raises(DataError, match=r"broken\.json: no windows can be read"):
        reading("broken.json")
    with pytest.raises(DataError, match=r"none\.mat: no such file"):
        read_windows(tmp_path / "none.mat")
    with pytest.raises(ConfigError, match="choose from selective_search, grid, or a file"):
        make_proposer("edges")


def test_without_opencv_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r'pip install "sppcls\[detect\]"; --proposals grid needs nothing'):
        make_proposer("selective_search")
    make_proposer("grid")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "w.npz"
    words = ["detect", "windows", "shapes", "--scenes", "4", "--proposals", "grid", "--cache", str(tmp_path)]
    assert main([*words, "--out", str(out), "--workers", "0"]) == 0
    printed = capsys.readouterr().out
    objects = sum(len(truth.boxes) for truth in scenes("train", 4).truths)
    assert f"all       {objects:7}" in printed.replace("disc    ", "disc    ")
    assert set(read_windows(out)) == {f"train_{i:05d}" for i in range(4)}
    assert main([*words, "--out", str(out)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["detect", "windows", str(tmp_path / "none")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["detect", "windows", str(tmp_path), "--scenes", "3"]) == 1
    assert "scenes are generated for shapes only" in capsys.readouterr().err
    assert main(["detect", "boxes"]) == 1
    assert "choose from windows" in capsys.readouterr().err


def test_photos_without_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_voc(tmp_path / "voc", {"train": {"a": [], "b": []}}) / "JPEGImages"
    assert main(["detect", "windows", str(root), "--cache", str(tmp_path), "--proposals", "grid"]) == 0
    printed = capsys.readouterr().out
    assert "photos: 2 images" in printed
    assert "recall" not in printed


@pytest.mark.run
def test_all_of_detection_is_imported_without_opencv_and_scikit_learn(loaded: Loaded) -> None:
    code = (
        "import sys, pkgutil, importlib; assert not {'cv2', 'sklearn'} & {*sys.modules}\n"
        "sys.modules['cv2'] = sys.modules['sklearn'] = None\n"
        "import sppcls.detection as d\n"
        "for m in pkgutil.iter_modules(d.__path__): importlib.import_module(f'sppcls.detection.{m.name}')\n"
        "from sppcls.cli.detect import VERBS\n"
        "for v in VERBS: importlib.import_module(f'sppcls.cli.detect_{v}')"
    )
    done = loaded.run(["-c", code])
    assert done.returncode == 0, done.stderr
