"""Runs on images with several labels: trained, resumed, tested, predicted with, exported and compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import Loaded
from gloo import in_two_processes
from PIL import Image
from sklearn.metrics import average_precision_score
from tiny_runs import TINY

import sppcls
from sppcls.cli.doctor.config import classes
from sppcls.cli.main import main
from sppcls.config.build import load_sources
from sppcls.data import build_sources
from sppcls.engine.metrics import LabelValidationCounter
from sppcls.engine.preflight import RunChecks
from sppcls.errors import CheckpointError, ConfigError, DataError
from sppcls.runs.checkpoint import read_checkpoint

COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 40), "red": (220, 30, 30)}
WORDS = [
    *(word for word in TINY if not word.startswith(("data.", "sizes.", "backbone.", "trainer.max"))),
    *("data=folder", "data.workers=0", "data.batch_size=16", "sizes.sizes=[64,48]", "backbone.width=0.125"),
    *("optimizer=adamw", "optimizer.lr=3e-3", "scheduler=constant", "trainer.max_epochs=3"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares of up to three colours on grey noise; a third of the images is kept for the end."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["path,tags,split"]
    for number in range(150):
        image = rng.integers(180, 240, (56, 56, 3), dtype=np.uint8)
        labels = [name for name in COLOURS if rng.random() < 0.45]
        for name in labels:
            y, x = rng.integers(0, 36, 2)
            image[y : y + 20, x : x + 20] = COLOURS[name]
        Image.fromarray(image).save(root / f"{number:03}.png")
        split = "train" if number < 80 else "val" if number < 120 else "test"
        lines.append(f"{number:03}.png,{'|'.join(labels)},{split}")
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two seeds of each of two losses."""
    place = tmp_path_factory.mktemp("runs")
    return {
        f"{loss}{seed}": sppcls.train(
            sppcls.compose(
                [*words_for(photos, place), f"loss={loss}", f"seed={seed}", f"run_name={loss}{seed}"]
            )
        )
        for loss in ("bce", "asymmetric")
        for seed in (0, 1)
    }


def words_for(photos: Path, place: Path, *more: str) -> list[str]:
    return [*WORDS, f"data.root={photos}", f"runs_dir={place}", *more]


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_beats_guessing_and_says_what_it_counts(runs: dict[str, Any]) -> None:
    run = runs["bce0"]
    folder = Path(run["folder"])
    log = (folder / "train.log").read_text()
    assert "labels      several an image: mean 1.3" in log
    assert "best epoch by 100 - mAP" in log
    guessing = float(log.partition("guessing    100 - mAP ")[2].partition(" %")[0])
    assert 45 < guessing < 65
    assert run["last"]["val_64/map_error"] < guessing - 20
    assert run["best"]["val_64/map_error"] <= run["last"]["val_64/map_error"]
    rows = rows_of(folder / "metrics.csv")
    figures = ("loss", "map_error", "exact_match_error", "label_error", "f1", "micro_f1")
    assert [name for name in rows[0] if name.startswith("val_64/")] == [f"val_64/{name}" for name in figures]
    assert float(rows[-1]["train/label_error"]) < float(rows[0]["train/label_error"])
    with np.load(folder / "predictions" / "val_64.npz") as kept:
        wanted = 100 - 100 * average_precision_score(kept["label"], kept["log_odds"], average="macro")
    assert run["last"]["val_64/map_error"] == pytest.approx(wanted, abs=1e-4)
    result = json.loads((folder / "result.json").read_text())
    test = result["test"]["last"]
    assert test["test_64/map_interval"][0] < test["test_64/map_error"] < test["test_64/map_interval"][1]
    by_class = {row["class"]: float(row["ap_error"]) for row in rows_of(folder / "classes.csv")}
    assert np.mean(list(by_class.values())) == pytest.approx(run["last"]["val_64/map_error"], abs=1e-3)


@pytest.mark.parametrize("more", [[], ["mix.mixup=0.4", "mix.cutmix=1", "loss.class_weights=balanced"]])
def test_a_resumed_run_ends_with_the_same_weights(photos: Path, tmp_path: Path, more: list[str]) -> None:
    words = words_for(photos, tmp_path, "loss=bce", "best_by=micro_f1", *more)
    whole = sppcls.train(sppcls.compose([*words, "run_name=whole"]))
    part = sppcls.train(sppcls.compose([*words, "run_name=part", "trainer.max_epochs=1"]))
    resumed = sppcls.train(sppcls.compose([*words, f"ckpt_path={part['folder']}"]))
    ends = [read_checkpoint(Path(run["folder"]) / "last.ckpt") for run in (whole, part)]
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name])
    assert resumed["last"] == whole["last"]
    assert resumed["best"] == whole["best"]


def test_the_default_loss_is_binary_cross_entropy(photos: Path, tmp_path: Path) -> None:
    ends = []
    for word in ("loss=bce", "loss=cross_entropy"):
        words = words_for(
            photos, tmp_path, word, f"run_name={word[5:]}", "trainer.max_epochs=1", "log.images=true"
        )
        ends.append(sppcls.train(sppcls.compose(words))["last"])
    assert ends[0] == ends[1]
    for name in ("curves", "explain"):
        assert (tmp_path / "folder" / "bce" / "pictures" / f"{name}.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.sampler=balanced"], "data.sampler=balanced: the images have several labels, so no order draws all"),
        (["best_by=top5_error"], "best_by=top5_error: the images have several labels; choose from loss, map_error"),
        (["callbacks=early_stopping"], "callbacks.early_stopping.monitor=val/top1_error: is not measured on these images; type callbacks.early_stopping.monitor=val/map_error"),
        (["mix.label_smoothing=0.1"], "mix.label_smoothing=0.1: is for images with one label"),
        (["loss=logit_adjusted"], "loss=logit_adjusted: is for images with one label; these have several: loss=bce"),
        (["data.multi_label=perhaps"], "data.multi_label=perhaps: choose from null, true, false, comma, space"),
        (["data.multi_label=false", "loss=bce"], "loss=bce: is for images with several labels; these have one each"),
        (["data.multi_label=false", "best_by=map_error"], "best_by=map_error: the images have one label each; choose"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_before_work_begins(
    photos: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    """The same lines from a training and from what looks at a sweep before it begins."""
    given = words_for(photos, tmp_path, *words)
    if "data.multi_label=false" in words:  # as one label each, some "blue|red" are in one split alone
        (tmp_path / "p").mkdir()
        for number in range(20):
            Image.new("RGB", (56, 56)).save(tmp_path / "p" / f"{number}.png")
        lines = ["path,label", *(f"{number}.png,{'a' if number % 2 else 'b|c'}" for number in range(20))]
        (tmp_path / "p" / "labels.csv").write_text("\n".join(lines))
        given = words_for(tmp_path / "p", tmp_path / "runs", *words)
    with pytest.raises(ConfigError, match=message):
        sppcls.train(sppcls.compose(given))
    with pytest.raises(ConfigError, match=message):
        RunChecks().check(sppcls.compose(given))
    assert not list(tmp_path.glob("**/config.yaml"))


def test_another_kind_of_labels_is_another_run(photos: Path, runs: dict[str, Any], tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    lines = ["path,label"]
    for number in range(60):
        (root / f"{number:03}.png").symlink_to(photos / f"{number:03}.png")
        lines.append(f"{number:03}.png,{list(COLOURS)[number % 3]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    checkpoint = runs["bce0"]["last_checkpoint"]
    words = words_for(root, tmp_path, f"ckpt_path={checkpoint}", "trainer.max_epochs=4")
    with pytest.raises(
        CheckpointError, match="trained on images with several labels, those of this config have"
    ):
        sppcls.train(sppcls.compose(words))
    # One label each can be tested as a set of one; and a network begins with what another one has learned.
    tested = sppcls.evaluate(sppcls.load_classifier(checkpoint), build_sources("folder", root).val)
    assert all(0 <= result.predictions.figures["map_error"] <= 100 for result in tested)
    single = sppcls.train(
        sppcls.compose(words_for(root, tmp_path, f"init_from={checkpoint}", "trainer.max_epochs=1"))
    )
    net = sppcls.load_classifier(single["last_checkpoint"])
    with pytest.raises(
        DataError, match="the images have several labels, and the network was trained on images"
    ):
        sppcls.evaluate(net, build_sources("folder", photos).val)
    with pytest.raises(ConfigError, match="network 1 gives several labels of an image and network 2 one"):
        sppcls.ensemble([sppcls.load_classifier(checkpoint), net])


def test_answers_are_all_classes_from_the_threshold_on(
    photos: Path, runs: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    net = sppcls.load_classifier(runs["bce0"]["last_checkpoint"])
    files = [photos / f"{number:03}.png" for number in range(120, 150)]
    every = list(sppcls.predict(net, files, top=3))
    assert all(len(p.classes) == 3 for p in every)
    assert any(sum(p.probabilities) > 1.2 for p in every), "not shares of one"
    for threshold, found in (
        (0.5, sppcls.predict(net, files)),
        (0.9, sppcls.predict(net, files, threshold=0.9)),
    ):
        for all_of, some in zip(every, found, strict=True):
            pairs = zip(all_of.classes, all_of.probabilities, strict=True)
            assert list(zip(some.classes, some.probabilities, strict=True)) == [
                (name, value) for name, value in pairs if value >= threshold
            ]
    assert {len(p.classes) for p in sppcls.predict(net, files)} >= {0, 1, 2}
    checkpoint = str(runs["bce0"]["last_checkpoint"])
    out = tmp_path / "out.csv"
    assert main(["predict", checkpoint, *map(str, files), "--workers=0", "--format=csv", f"--out={out}"]) == 0
    rows = rows_of(out)
    assert [[r[f"class{i}"] for i in (1, 2, 3) if r[f"class{i}"]] for r in rows] == [
        list(p.classes) for p in sppcls.predict(net, files)
    ]
    assert main(["predict", checkpoint, str(files[0]), "--threshold=1.5"]) == 1
    assert "1.5: must be a number from 0 to 1" in capsys.readouterr().err


def test_tests_of_a_checkpoint_give_the_figures_of_the_run(runs: dict[str, Any], tmp_path: Path) -> None:
    run = runs["bce0"]
    out = tmp_path / "out"
    words = [
        "evaluate",
        str(run["last_checkpoint"]),
        "--protocol=center,ten_view",
        f"--out={out}",
        "--workers=0",
    ]
    assert main(words) == 0
    rows = {row["protocol"]: row for row in rows_of(out / "errors.csv")}
    for figure in ("map_error", "exact_match_error", "f1", "micro_f1"):
        assert float(rows["center"][figure]) == pytest.approx(run["last"][f"val_64/{figure}"], abs=1e-3)
    assert float(rows["ten_view"]["map_error_low"]) <= float(rows["ten_view"]["map_error"])
    assert (
        main(["evaluate", str(run["last_checkpoint"]), "--split=test", f"--out={out}2", "--workers=0"]) == 0
    )
    (row, *_) = rows_of(f"{out}2/errors.csv")
    test = json.loads((Path(run["folder"]) / "result.json").read_text())["test"]["last"]
    assert float(row["map_error"]) == pytest.approx(test["test_64/map_error"], abs=1e-3)


def test_an_ensemble_averages_probabilities(photos: Path, runs: dict[str, Any]) -> None:
    nets = [sppcls.load_classifier(runs[name]["last_checkpoint"]) for name in ("bce0", "bce1")]
    files = [photos / f"{number:03}.png" for number in range(120, 126)]

    def table(net: Any) -> np.ndarray:
        answers = sppcls.predict(net, files, top=3)
        return np.array(
            [[dict(zip(p.classes, p.probabilities, strict=True))[c] for c in COLOURS] for p in answers]
        )

    together = table(sppcls.ensemble(nets))
    assert np.allclose(together, (table(nets[0]) + table(nets[1])) / 2, atol=1e-6)


def test_an_exported_file_gives_sigmoid_probabilities(runs: dict[str, Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    net = sppcls.load_classifier(runs["bce0"]["last_checkpoint"])
    sppcls.export(net, tmp_path / "net.onnx", size=64)
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map["probabilities"]) == "sigmoid of each class"
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
    assert np.allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_runs_are_compared_by_their_mean_average_precision(runs: dict[str, Any], tmp_path: Path) -> None:
    place = Path(runs["bce0"]["folder"]).parent
    found = sppcls.compare(place)
    assert not found.refused
    assert found.problems == [], "a loss has keys of its own"
    assert found.name_of(found.main, 1) == "val_64/map_error"
    assert {group.label for group in found.groups} == {"loss=bce", "loss=asymmetric"}
    for group in found.groups:
        errors = {run.seed: runs[run.folder.name]["last"]["val_64/map_error"] for run in group.runs}
        assert group.errors(found.main) == pytest.approx(errors, abs=1e-4)
    assert found.guessing == pytest.approx(55, abs=8)
    assert main(["compare", str(place), "--out", str(tmp_path / "report")]) == 0
    report = (tmp_path / "report" / "comparison.md").read_text()
    assert "val_64/map_error" in report
    assert "100 - mAP: " in report
    assert "top-1" not in report.lower()
    assert "over the 40 images" in report


ROWS = 33  # of which the first process has all but two, or all


def in_a_process(rank: int, folder: Path) -> None:
    found = []
    for first in (ROWS - 2, ROWS):
        counter = LabelValidationCounter(3)
        logits, target = answers()
        mine = slice(0, first) if rank == 0 else slice(first, ROWS)
        if len(logits[mine]):
            counter.update(logits[mine], target[mine], torch.ones(len(logits[mine])))
        found.append(counter.compute())
    (folder / f"{rank}.json").write_text(json.dumps(found))


def answers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, 3, generator=generator), (torch.rand(ROWS, 3, generator=generator) < 0.4).float()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_count_as_one_does(loaded: Loaded, tmp_path: Path, unused_port: int) -> None:
    in_two_processes(loaded, unused_port, in_a_process, tmp_path)
    alone = LabelValidationCounter(3)
    alone.update(*answers(), torch.ones(ROWS))
    for rank in range(2):
        for found in json.loads((tmp_path / f"{rank}.json").read_text()):
            assert found == pytest.approx(alone.compute())


def test_explain_and_doctor_know_several_labels(
    photos: Path, runs: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = str(runs["bce0"]["last_checkpoint"])
    explained = sppcls.explain(sppcls.load_classifier(checkpoint), photos / "120.png")
    assert float(explained.probabilities.sum()) != pytest.approx(1, abs=1e-3)
    assert main(["explain", checkpoint, "--set", str(photos)]) == 1
    assert "counts top-1 errors, and" in capsys.readouterr().err
    config = sppcls.compose(words_for(photos, tmp_path))
    splits = load_sources(config)
    (counted, *more) = classes(splits.train, splits.val)
    assert "3 classes, 80 training images" in counted.text
    assert not more
    RunChecks().check(config)
