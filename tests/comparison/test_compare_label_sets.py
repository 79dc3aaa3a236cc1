"""Files of predictions, and single runs, whose images have several labels: by what the average precision lacks."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from written_runs import misses, save_answers, write_run

from sppcls.cli.main import main

COUNT, CLASSES = 120, 5


def write_scores(path: Path, noise: float, labels: np.ndarray, seed: int = 3) -> np.ndarray:
    """Scores that fit the labels but for some noise, in a file as training writes it."""
    rng = np.random.default_rng(seed)
    scores = (labels + noise * rng.normal(size=labels.shape)).astype(np.float32)
    names = np.array([f"val/{i:03}.jpg" for i in range(len(labels))])
    order = rng.permutation(len(labels))
    np.savez(
        path,
        path=names[order],
        label=labels[order],
        log_odds=scores[order],
        top_class=np.argsort(-scores[order]),
    )
    return scores


def lacks(scores: np.ndarray, labels: np.ndarray) -> float:
    there = [c for c in range(labels.shape[1]) if labels[:, c].any()]
    return 100 - 100 * float(np.mean([average_precision_score(labels[:, c], scores[:, c]) for c in there]))


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.random.default_rng(0).random((COUNT, CLASSES)) < 0.3


def compared(
    capsys: pytest.CaptureFixture[str], *paths: Path
) -> tuple[list[dict[str, str]], list[dict[str, str]], str]:
    """The tables of files and of differences, and what is said in words."""
    words = ["compare", *map(str, paths)]
    assert main([*words, "--format", "csv"]) == 0
    files, differences = (
        list(csv.DictReader(io.StringIO(text))) for text in capsys.readouterr().out.split("\n\n")
    )
    assert main(words) == 0
    return files, differences, capsys.readouterr().out


def test_files_are_compared_by_average_precision(
    tmp_path: Path, labels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{name}.npz" for name in ("good", "poor")]
    scores = [write_scores(path, noise, labels) for path, noise in zip(paths, (0.4, 0.6), strict=True)]
    files, (row,), said = compared(capsys, *paths)
    errors = [lacks(one, labels) for one in scores]
    assert [float(file["map_error, %"]) for file in files] == pytest.approx(errors, abs=0.005)
    assert [file["images"] for file in files] == ["120", "120"]
    assert not any("top" in column for column in files[0])
    assert row["A - B"] == f"{paths[1]} - {paths[0]}"
    assert float(row["A - B, points"]) == pytest.approx(errors[1] - errors[0], abs=0.01)
    assert "right only in A" not in row
    rng = np.random.default_rng(9)
    drawn = [rng.integers(0, COUNT, COUNT) for _ in range(300)]
    gains = [lacks(scores[1][d], labels[d]) - lacks(scores[0][d], labels[d]) for d in drawn]
    low, high = map(float, row["95 % over images"].split(" to "))
    assert (low, high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])), abs=1.2)
    assert min(gains) > 0, "clearly worse"
    assert float(row["p"]) == pytest.approx(2 / 1001, abs=5e-5)
    assert f"these two networks differ: {paths[1]} is " in said
    assert "p = 0.002 by resampling them" in said


def test_hardly_a_difference_is_not_shown_and_several_pairs_are_corrected(
    tmp_path: Path, labels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{number}.npz" for number in range(3)]
    for seed, (path, noise) in enumerate(zip(paths, (0.5, 0.5, 0.8), strict=True)):
        write_scores(path, noise, labels, seed)
    _, rows, said = compared(capsys, *paths)
    p = [float(row["p"]) for row in rows]
    assert p[0] > 0.05 > max(p[1:])
    assert [float(row["p, corrected"]) for row in rows] == pytest.approx([p[0], 3 * p[1], 3 * p[2]], abs=2e-4)
    verdicts = [line.partition(":")[0] for line in said.splitlines() if "percentage points" in line]
    assert verdicts == ["no difference shown", "these two networks differ", "these two networks differ"]


def test_two_runs_of_one_seed_are_judged_by_their_images(
    tmp_path: Path, labels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, noise, lr in (("good", 0.4, 0.01), ("poor", 0.6, 0.02)):
        folder = tmp_path / "runs" / name
        scores = np.load(_scored(tmp_path / f"{name}.npz", noise, labels))
        error = lacks(scores["log_odds"], scores["label"])
        write_run(folder, error=error, optimizer__lr=lr)
        for file in ("metrics.csv", "result.json"):
            (folder / file).write_text((folder / file).read_text().replace("top1_error", "map_error"))
        (folder / "predictions").mkdir()
        (tmp_path / f"{name}.npz").rename(folder / "predictions" / "val_96.npz")
    assert main(["compare", str(tmp_path / "runs")]) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("optimizer, val_96/map_error: ")]
    assert "these two networks differ. lr=0.02 is " in line
    assert (
        "percentage points higher than lr=0.01 with one seed (0), so there is no interval over seeds" in line
    )
    assert "; over the 120 images +" in line
    assert line.endswith("(95 %; p = 0.002 by resampling them); this says nothing about another training run")


def _scored(path: Path, noise: float, labels: np.ndarray) -> Path:
    write_scores(path, noise, labels)
    return path


def test_other_labels_and_one_label_are_refused_in_a_line(
    tmp_path: Path, labels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    several, other, one = (tmp_path / f"{name}.npz" for name in ("several", "other", "one"))
    write_scores(several, 0.5, labels)
    write_scores(other, 0.5, ~labels)
    save_answers(one, misses(COUNT, 1))
    for paths, message in (
        (
            (several, other),
            f"{other}: is about other images or labels than {several} (120 and 120 images, 120 of",
        ),
        ((several, one), f"{several}: its images have several labels, those of {one} one each"),
        ((one, several), f"{several}: its images have several labels, those of {one} one each"),
    ):
        assert main(["compare", *map(str, paths)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
