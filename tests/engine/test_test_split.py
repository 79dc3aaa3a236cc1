"""A split called test: looked at once, when training has finished, and kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killing import Runs, differences
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import TINY

from sppcls import compose, load_classifier, train
from sppcls.cli.common import RunWords
from sppcls.cli.doctor.config import check_run
from sppcls.cli.main import main
from sppcls.data import EvalTransform, prepare_batch, read_image
from sppcls.data.sources import build_sources
from sppcls.errors import DataError
from sppcls.evaluation import evaluate_protocol, load_protocol

CLASSES = ("cat", "dog", "owl")
BEST_IS_NOT_LAST = ["optimizer.lr=0.03", "scheduler=constant", "trainer.max_epochs=4"]


def make_photos(root: Path, test: dict[str, int]) -> Path:
    """Photos that are easily told apart: noise without one of the colours.

    That of a validation photo is the next class's. The better a network has learnt, the worse it does on them, so the
    best epoch is an early one and not the last, with any seed.
    """
    rng = np.random.default_rng(1)
    counts = {"train": dict.fromkeys(CLASSES, 16), "val": dict.fromkeys(CLASSES, 7), "test": test}
    for split, members in counts.items():
        for name, count in members.items():
            (root / split / name).mkdir(parents=True)
            without = (CLASSES.index(name) + (split == "val")) % len(CLASSES)
            for i in range(count):
                pixels = rng.integers(0, 255, (80, 90, 3), dtype=np.uint8)
                pixels[..., without] = 0
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def words_for(root: Path, runs_dir: Path, *more: str) -> list[str]:
    names = {word.partition("=")[0] for word in more}
    kept = [w for w in TINY if not w.startswith("data.num") and w.partition("=")[0] not in names]
    return [*kept, "data=folder", f"data.root={root}", f"runs_dir={runs_dir}", *more]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), {"cat": 9, "dog": 8})  # no owl


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(
        compose(
            words_for(photos, tmp_path_factory.mktemp("runs"), *BEST_IS_NOT_LAST, "data.val_batch_size=4")
        )
    )


def counted(checkpoint: Path, photos: Path, size: int) -> tuple[list[str], list[bool]]:
    """Names of the test images and whether a checkpoint gets each right, one after the other."""
    net = load_classifier(checkpoint)
    view, names, right = EvalTransform((96, 96), None), [], []
    for label, name in enumerate(CLASSES[:2]):
        for path in sorted((photos / "test" / name).iterdir()):
            image = view(read_image(path))[None]
            with torch.no_grad():
                logits = net(
                    prepare_batch(image, (size, size), net.model_info["mean"], net.model_info["std"])
                )
            names.append(f"{name}/{path.name}")
            right.append(int(logits.argmax()) == label)
    return names, right


def test_both_checkpoints_are_tested_on_every_image_at_every_size(
    finished: dict[str, Any], photos: Path
) -> None:
    folder = Path(finished["folder"])
    result = json.loads((folder / "result.json").read_text())
    assert result["test"]["last"]["epoch"] == 3
    assert result["test"]["best"]["epoch"] == result["best"]["epoch"] < 3
    assert result["test"]["best"]["test_best_96/top1_error"] > result["test"]["last"]["test_96/top1_error"]
    scalars = EventAccumulator(str(folder)).Reload()
    for weights, prefix in (("last", "test"), ("best", "test_best")):
        for size in (96, 72):
            names, right = counted(folder / f"{weights}.ckpt", photos, size)
            error = 100 * right.count(False) / 17
            figures, tag = result["test"][weights], f"{prefix}_{size}"
            assert (figures[f"{tag}/images"], figures[f"{tag}/top1_error"]) == (17, pytest.approx(error))
            low, high = figures[f"{tag}/top1_interval"]
            assert low <= error <= high
            kept = np.load(folder / "predictions" / f"{prefix}_{size}.npz")
            assert (str(kept["split"]), str(kept["weights"])) == ("test", weights)
            hits = dict(zip(kept["path"].tolist(), kept["top_class"][:, 0] == kept["label"], strict=True))
            assert hits == dict(zip(names, right, strict=True))
            (point,) = scalars.Scalars(f"{tag}/top1_error")
            assert (point.step, point.value) == (result["test"][weights]["epoch"], pytest.approx(error))
    assert finished["test"] == result["test"]


def test_it_is_said_before_and_after_training(finished: dict[str, Any]) -> None:
    text = (Path(finished["folder"]) / "train.log").read_text()
    assert "48 training, 21 validation images, 17 test images for the end" in text
    assert "no test image of class owl" in text
    best = finished["test"]["best"]
    assert f"Test error (17 images) of epoch {best['epoch'] + 1}, the best on the validation images:" in text
    assert "Test error (17 images) of epoch 4, the last:" in text
    assert f"  test_96: top-1 error {best['test_best_96/top1_error']:.2f} % (95 %: " in text


def test_a_finished_run_is_not_tested_again(finished: dict[str, Any]) -> None:
    file = Path(finished["folder"]) / "predictions" / "test_96.npz"
    before = file.stat().st_mtime_ns
    assert "test" not in train(compose([f"ckpt_path={finished['folder']}", *saved_words(finished)]))
    assert file.stat().st_mtime_ns == before


def saved_words(finished: dict[str, Any]) -> list[str]:
    import yaml

    config = yaml.safe_load((Path(finished["folder"]) / "config.yaml").read_text())
    return words_for(
        Path(config["data"]["root"]), Path(config["runs_dir"]), *BEST_IS_NOT_LAST, "data.val_batch_size=4"
    )


def test_evaluate_takes_the_test_images_of_the_run(
    finished: dict[str, Any], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = Path(finished["folder"]) / "last.ckpt", tmp_path / "out"
    words = ["evaluate", str(checkpoint), "--protocol", "center", "--workers", "0", "--out", str(out)]
    assert main([*words, "--split", "test"]) == 0
    kept = np.load(out / "center_96.npz")
    names, right = counted(checkpoint, photos, 96)
    assert kept["path"].tolist() == names
    assert (kept["top_class"][:, 0] == kept["label"]).tolist() == right
    assert str(kept["split"]) == "test"
    assert main([*words[:-1], str(tmp_path / "all"), "--split", "all"]) == 0
    assert len(np.load(tmp_path / "all" / "center_96.npz")["path"]) == 48 + 21 + 17
    without = tmp_path / "without"
    for split in ("train", "val"):
        shutil.copytree(photos / split, without / split)
    capsys.readouterr()
    assert main([*words[:-1], str(tmp_path / "no"), "--split", "test", "--data", f"data.root={without}"]) == 1
    assert f"--split test: data.root={without} has no test images; choose from val" in capsys.readouterr().err


def test_a_run_that_is_killed_while_it_is_tested_ends_alike(runs: Runs, photos: Path, tmp_path: Path) -> None:
    # Averaged weights, and two protocols: what is tested are neither the raw weights nor the centre view.
    more = [*BEST_IS_NOT_LAST, "ema.enabled=true", "ema.decay=0.5", "evaluation.protocols=[full,full_flip]",
            "run_name=run", "ckpt_path=auto"]  # fmt: skip
    whole, killed = (words_for(photos, tmp_path / name, *more) for name in ("whole", "killed"))
    assert runs.start(whole).status == 0
    folders = [tmp_path / name / "folder" / "run" for name in ("whole", "killed")]
    result = json.loads((folders[0] / "result.json").read_text())
    for weights, prefix in (("last", "test"), ("best", "test_best")):
        net = load_classifier(folders[0] / f"{weights}.ckpt")
        source = build_sources("folder", photos).test
        assert source is not None
        for name in ("full", "full_flip"):
            alone = evaluate_protocol(net, source, load_protocol(name).at((96, 96)))
            assert result["test"][weights][f"{prefix}_{name}_96/top1_error"] == pytest.approx(
                alone.top1_error
            )
    # Before the first test, and between two of them.
    for number in (1, 3):
        ended = runs.start(killed, {"call": "_keep", "number": number})
        assert ended.status == -9, ended.output
        assert not (folders[1] / "result.json").exists()
    ended = runs.start(killed)
    assert ended.status == 0, ended.output
    assert differences(*folders) == []
    assert "Nothing left to train" in ended.output
    assert "Test error (17 images) of epoch" in ended.output


def test_two_processes_test_each_image_once(
    program: Callable[..., Any], photos: Path, tmp_path: Path
) -> None:
    words = words_for(photos, tmp_path, *BEST_IS_NOT_LAST, "data.batch_size=8", "trainer.limit_val_batches=1")
    process = program(["trainer=ddp", *words, "trainer.devices=2"], children=1)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    (folder,) = (tmp_path / "folder").iterdir()
    for weights, prefix in (("last", "test"), ("best", "test_best")):
        figures = json.loads((folder / "result.json").read_text())["test"]
        names, right = counted(folder / f"{weights}.ckpt", photos, 96)
        kept = np.load(folder / "predictions" / f"{prefix}_96.npz")
        assert kept["path"].tolist() == names
        assert figures[weights][f"{prefix}_96/top1_error"] == pytest.approx(100 * right.count(False) / 17)
    # And a part of the validation images is as large as with one process.
    validated = np.load(folder / "predictions" / "val_96.npz")
    assert len(validated["path"]) == 8
    assert sorted(np.bincount(validated["label"])) == [2, 3, 3]
    assert figures["best"]["epoch"] < figures["last"]["epoch"] == 3
    assert output.count("Test error (17 images)") == 2


@pytest.mark.parametrize("broken", [1, 17])
def test_unreadable_test_images_cost_no_finished_run(photos: Path, tmp_path: Path, broken: int) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    for path in sorted((root / "test").rglob("*.png"))[:broken]:
        path.write_bytes(path.read_bytes()[:200])
    words = words_for(root, tmp_path / "runs", "trainer.max_epochs=1", "data.check=false")
    folder = Path(train(compose(words))["folder"])
    result, text = json.loads((folder / "result.json").read_text()), (folder / "train.log").read_text()
    assert f"{root}/test/cat/0.png: damaged image" in text
    if broken == 1:
        assert result["test"]["last"]["test_96/images"] == 16
        assert result["bad_images"] == 1
    else:
        assert "test" not in result
        assert "could not be tested on the test images: no image could be tested; the first: " in text
    assert result["epochs"] == 1


def test_a_test_image_of_a_class_that_is_not_trained_is_refused(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    shutil.copytree(root / "test" / "cat", root / "test" / "fox")
    with pytest.raises(DataError, match=r"test: class 'fox' is not among the classes in .*train"):
        train(compose(words_for(root, tmp_path / "runs")))
    assert not (tmp_path / "runs").exists()


def test_the_plan_and_doctor_know_of_the_test_images(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sizes", *words_for(photos, tmp_path)]) == 0
    assert "17 test images are tested once, after training." in capsys.readouterr().out
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    shutil.copy(root / "train" / "dog" / "3.png", root / "test" / "dog" / "3.png")
    # Without doctor's look at the packages, which takes most of its time: tests/cli/doctor/test_doctor.py has both.
    text = " ".join(finding.text for finding in check_run(RunWords(tuple(words_for(root, tmp_path)))))
    assert "17 test images, looked at once" in text
    assert "no test image of class owl" in text
    assert "1 of 17 test images are also training images: dog/3.png = dog/3.png" in text
