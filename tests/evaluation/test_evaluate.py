"""``sppcls evaluate`` and protocols during training, on runs of the real program."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sppcls
from sppcls import compose, train
from sppcls.cli.main import main
from sppcls.config.build import load_sources
from sppcls.errors import CheckpointError, ConfigError
from sppcls.evaluation import evaluator
from sppcls.evaluation.curve import parse_sizes
from sppcls.evaluation.evaluate import evaluate
from sppcls.evaluation.recalibration import recalibrate

QUICK = ["--workers", "0", "--threads", "1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_words) -> Path:
    """The folder of a trained run."""
    words = [*tiny_words, f"runs_dir={tmp_path_factory.mktemp('runs')}"]
    return Path(train(compose(words))["folder"])


@pytest.fixture
def checkpoint(run, tmp_path) -> Path:
    shutil.copy(run / "last.ckpt", tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_center_is_the_validation_error_and_everything_is_written(run, checkpoint, capsys) -> None:
    assert main(["evaluate", str(checkpoint), *QUICK]) == 0
    shown = capsys.readouterr().out
    out = checkpoint.parent / "evaluation-last"
    found = {row["protocol"]: row for row in rows(out / "errors.csv")}
    assert list(found) == ["center", "full"]
    validated = rows(run / "metrics.csv")[-1]
    assert float(found["center"]["top1_error"]) == pytest.approx(float(validated["val_96/top1_error"]))
    assert float(found["center"]["top5_error"]) == pytest.approx(float(validated["val_96/top5_error"]))
    assert f"{float(validated['val_96/top1_error']):.2f}" in shown
    kept = np.load(out / "center_96.npz")
    wrong = (kept["top_class"][:, 0] != kept["label"]).mean()
    assert 100 * wrong == pytest.approx(float(found["center"]["top1_error"]), abs=1e-3)
    assert len(set(kept["path"].tolist())) == 40
    assert kept["top_class"].shape == kept["top_score"].shape == (40, 10)  # of 20 classes
    # A second time goes to a folder of its own.
    assert main(["evaluate", str(checkpoint), "--protocol", "ten_view", *QUICK]) == 0
    assert (checkpoint.parent / "evaluation-last-2" / "ten_view_96.npz").exists()


def test_the_resolution_curve(run, checkpoint, capsys, tmp_path) -> None:
    out = tmp_path / "curve"
    words = ["--sizes", "64:128:32", "--recalibrate", "16", "--out", str(out)]
    assert main(["evaluate", str(checkpoint), *words, *QUICK]) == 0
    found = rows(out / "errors.csv")
    assert [(r["size"], r["recalibrated_on"]) for r in found] == [
        (size, n) for size in ("64", "96", "128") for n in ("0", "16")
    ]
    assert str(out / "resolution.png") in capsys.readouterr().out
    with Image.open(out / "resolution.png") as picture:
        assert picture.width > 800
    curve = scalars(out)["resolution/center_top1_error"]
    assert [step for step, _ in curve] == [64, 96, 128]
    assert curve[1][1] == pytest.approx(float(found[2]["top1_error"]))
    assert "resolution/center_recalibrated_top1_error" in scalars(out)


def test_three_lines_of_python(run) -> None:
    net = sppcls.load_classifier(run / "last.ckpt")
    images = load_sources(compose(net_words(net)))[1]
    results = evaluate(net, images, ["full", "feature_ten_view"])
    assert [r.label for r in results] == ["full", "feature_ten_view"]
    assert all(0 <= r.predictions.top1_error <= 100 for r in results)


def net_words(net) -> list[str]:
    data = net.model_info["config"]["data"]
    return [f"data.num_train={data['num_train']}", f"data.num_val={data['num_val']}"]


def save_folder(folder: Path, classes: list[str]) -> None:
    for split in ("train", "val"):
        for number, name in enumerate(classes):
            place = folder / split / name
            place.mkdir(parents=True)
            for copy in range(2):
                Image.new("RGB", (100, 120), (number * 10, 90, copy * 40)).save(place / f"{copy}.png")


def test_other_data_must_have_the_same_classes(checkpoint, tmp_path, capsys) -> None:
    content = torch.load(checkpoint, weights_only=True)
    classes = content["sppcls"]["classes"] = sorted(content["sppcls"]["classes"])  # as folders are
    torch.save(content, checkpoint)
    save_folder(tmp_path / "photos", [*classes[1:], "zebra"])
    words = ["--data", "data=folder", f"data.root={tmp_path / 'photos'}", *QUICK]
    assert main(["evaluate", str(checkpoint), *words]) == 1
    error = capsys.readouterr().err
    assert f"only in the checkpoint: {classes[0]}; only in the data: zebra" in error
    assert error.count("\n") == 1
    assert not list(checkpoint.parent.glob("evaluation*"))
    os.rename(tmp_path / "photos" / "train" / "zebra", tmp_path / "photos" / "train" / classes[0])
    os.rename(tmp_path / "photos" / "val" / "zebra", tmp_path / "photos" / "val" / classes[0])
    bad = tmp_path / "photos" / "val" / classes[0] / "0.png"
    bad.write_bytes(bad.read_bytes()[:-30])
    assert main(["evaluate", str(checkpoint), "--split", "all", *words]) == 1  # an image was not tested
    shown = capsys.readouterr()
    assert "not tested" in shown.err
    assert "0.png" in shown.err
    found = rows(checkpoint.parent / "evaluation-last" / "errors.csv")
    assert [(r["images"], r["bad_images"]) for r in found] == [("79", "1"), ("79", "1")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "tenview"], "did you mean 'ten_view'"),
        (["--sizes", "96-448"], "--sizes 96-448: give low:high:step"),
        (["--sizes", "16"], "input_size=16x16"),
        (["--protocol", "full", "--sizes", "8"], "protocol full: a shorter side of 9 is too small"),
        (["--recalibrate", "0"], "must be a whole number of at least 1"),
        (["--window-rule", "mine"], "--window-rule mine: choose from appendix, report, released"),
        (["--window-rule", "released"], "none of center, full has windows"),
        (["--recalibrate", "8", "--split", "all"], "so they cannot be tested (--split all)"),
        (["--protocol", "full, full"], "a second one named full"),
        (["--data", "photos"], "data.root=photos: no such folder"),
        (["--data", "data.rot=x"], "data.rot: unknown key (did you mean 'root'?)"),
        (["--data", "data=folder", "data.root=nowhere"], "data.root=nowhere: no such folder"),
        (["--device", "tpu"], "--device tpu: choose from auto, cpu"),
        (["--out", "full"], "is not empty; name another folder"),
        (["--out", "last.ckpt"], "cannot be made"),
        (["--bogus"], "--bogus: unknown option"),
    ],
)
def test_mistakes_are_one_line(words, message, checkpoint, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    assert main(["evaluate", str(checkpoint), *words, *QUICK]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("sppcls: error: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("evaluation*"))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_bad_checkpoints_are_one_line(content, checkpoint, tmp_path, capsys) -> None:
    path = tmp_path / "bad.ckpt"
    whole = checkpoint.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert main(["evaluate", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "bad.ckpt" in error


def test_a_network_without_a_pyramid_says_what_it_cannot_see(tiny, capsys) -> None:
    result = train(
        compose(tiny("pyramid=none", "sizes=single_224", "sizes.sizes=[96]", "trainer.max_epochs=1"))
    )
    assert main(["evaluate", result["last_checkpoint"], "--protocol", "full", *QUICK]) == 1
    assert "this one takes 96 only, as it has no pyramid" in capsys.readouterr().err
    assert main(["evaluate", result["last_checkpoint"], *QUICK]) == 0
    assert "full" not in capsys.readouterr().out.split("\n\n")[0]


def test_what_was_found_is_kept_when_the_rest_cannot_be(checkpoint, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"

    def stop(self, *args, **options):
        raise KeyboardInterrupt

    original = evaluator.resize_to_be_seen
    monkeypatch.setattr(evaluator, "resize_to_be_seen", stop)
    assert main(["evaluate", "last.ckpt", "--protocol", "center,full", "--out", str(out), *QUICK]) == 130
    monkeypatch.setattr(evaluator, "resize_to_be_seen", original)
    assert [row["protocol"] for row in rows(out / "errors.csv")] == ["center"]
    assert (out / "center_96.npz").exists()
    monkeypatch.setattr(evaluator, "cut", stop)
    assert main(["evaluate", "last.ckpt", *QUICK]) == 130
    assert not list(tmp_path.glob("evaluation*"))  # nothing found, nothing left behind


def test_a_folder_of_classes_in_python(run, tmp_path) -> None:
    net = sppcls.load_classifier(run / "last.ckpt")
    save_folder(tmp_path, net.model_info["classes"])
    for folder in (tmp_path, tmp_path / "val"):
        assert len(evaluate(net, folder, ["center"])[0].predictions) == 40
    os.rename(tmp_path / "val" / net.model_info["classes"][3], tmp_path / "val" / "zebra")
    with pytest.raises(CheckpointError, match="only in the data: zebra"):
        evaluate(net, tmp_path, ["center"])


def test_every_must_be_when_there_is_a_validation(tiny) -> None:
    with pytest.raises(ConfigError, match="evaluation.every=3: must be a multiple of trainer.val_every=2"):
        compose(tiny("evaluation.every=3", "trainer.val_every=2"))


def test_help_is_quick_and_imports_no_torch() -> None:
    probe = "import sys; from sppcls.cli.main import main\ntry: main(['evaluate', '--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: sppcls evaluate")
    assert done.stdout.strip().endswith("False")


@pytest.mark.parametrize(
    ("text", "sizes"), [("96:160:32", [96, 128, 160]), ("96:100:32", [96]), ("224,180,224", [180, 224])]
)
def test_sizes(text, sizes) -> None:
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", "a", "1:2", "9:1:2", "1:9:0", "0,5", "1:9:-1"])
def test_impossible_sizes(text) -> None:
    with pytest.raises(ConfigError, match="give low:high:step"):
        parse_sizes(text)


# --- recalibration


def test_recalibrated_statistics_are_those_of_the_images(run) -> None:
    net = sppcls.load_classifier(run / "last.ckpt")
    weights = {name: p.clone() for name, p in net.named_parameters()}
    source = load_sources(compose(net_words(net)))[0]
    assert recalibrate(net, source, (80, 80), images=12, batch_size=12) == 12
    # The first layer by numpy: its mean and variance over every pixel of the twelve images.
    from sppcls.data import EvalTransform

    chosen = [EvalTransform((80, 80))(source.image(i * len(source) // 12)) for i in range(12)]
    x = torch.stack(chosen).numpy() / 255.0
    mean, std = (np.array(net.model_info[k]).reshape(3, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        y = net.backbone.layers.conv1(torch.tensor((x - mean) / std, dtype=torch.float32)).numpy()
    norm = net.backbone.layers.norm1
    assert norm.running_mean.numpy() == pytest.approx(y.mean((0, 2, 3)), abs=1e-4)
    assert norm.running_var.numpy() == pytest.approx(y.var((0, 2, 3), ddof=1), rel=1e-3)
    assert not net.training
    assert not norm.training
    assert norm.momentum == 0.1
    assert all(torch.equal(p, weights[name]) for name, p in net.named_parameters())


def test_the_mean_over_batches_is_kept_and_no_small_batch_is_left(run) -> None:
    source = load_sources(compose(net_words(sppcls.load_classifier(run / "last.ckpt"))))[0]
    seen = []
    net = sppcls.load_classifier(run / "last.ckpt")
    net.check_input_size(80, 80)  # looks at shapes, once
    net.backbone.layers.conv1.register_forward_hook(lambda m, i, o: seen.append(o.mean((0, 2, 3))))
    assert recalibrate(net, source, (80, 80), images=23, batch_size=8) == 23
    assert len(seen) == 2  # 8 and 15
    assert net.backbone.layers.norm1.running_mean.numpy() == pytest.approx(
        torch.stack(seen).mean(0).numpy(), abs=1e-5
    )


def test_a_network_without_batch_norm_cannot_be_recalibrated(tiny) -> None:
    result = train(compose(tiny("backbone.norm=none", "trainer.max_epochs=1")))
    net = sppcls.load_classifier(result["last_checkpoint"])
    source = load_sources(compose(net_words(net)))[0]
    with pytest.raises(ConfigError, match="no batch norm"):
        recalibrate(net, source, (96, 96))


# --- during training


@pytest.mark.parametrize("ema", ["false", "true"])
def test_protocols_at_the_end_and_every_so_many_epochs(tiny, ema) -> None:
    words = tiny(
        "trainer.max_epochs=3",
        "evaluation.protocols=[center,full]",
        "evaluation.every=2",
        f"ema.enabled={ema}",
    )
    result = train(compose(words))
    folder = Path(result["folder"])
    # The saved weights, averaged or not, are those that were tested.
    assert result["protocols"]["val_center_96/top1_error"] == pytest.approx(
        result["last"]["val_96/top1_error"]
    )
    drawn = scalars(folder)
    assert [step for step, _ in drawn["val_full_96/top1_error"]] == [1, 2]
    center, validated = drawn["val_center_96/top1_error"], dict(drawn["val_96/top1_error"])
    assert [value for _, value in center] == [validated[1], validated[2]]
    kept = np.load(folder / "protocols" / "center.npz")
    assert 100 * (kept["top_class"][:, 0] != kept["label"]).mean() == pytest.approx(center[-1][1], abs=1e-3)


def test_protocols_change_no_weight(tiny) -> None:
    plain = train(compose(tiny()))
    tested = train(compose(tiny("evaluation.protocols=[full]", "evaluation.every=1", "run_name=tested")))
    one, two = (sppcls.load_classifier(r["last_checkpoint"]).state_dict() for r in (plain, tested))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_impossible_protocols_are_refused_before_training(tiny, tmp_path) -> None:
    with pytest.raises(ConfigError, match="protocol full: has full views"):
        train(
            compose(
                tiny("pyramid=none", "sizes=single_224", "sizes.sizes=[96]", "evaluation.protocols=[full]")
            )
        )
    with pytest.raises(ConfigError, match="ful: no such protocol"):
        train(compose(tiny("evaluation.protocols=[ful]")))
    assert not (tmp_path / "runs").exists()
