"""An ensemble gives the mean of its networks' probabilities, whatever the order of their classes and their normalisation."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_nets import save_net, write_photo

import sppcls
from sppcls.cli.main import main
from sppcls.config.schema import as_dict
from sppcls.errors import SppclsError
from sppcls.evaluation.ensemble import average, evaluate_ensemble
from sppcls.evaluation.evaluator import evaluate_protocol
from sppcls.evaluation.protocols import load_protocols
from sppcls.nn import Ensemble, SPPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")

CLASSES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three networks: the second has its classes in another order, the third another normalisation and no pyramid."""
    folder = tmp_path_factory.mktemp("nets")
    config = as_dict(
        sppcls.compose(["data=folder", "data.root=PHOTOS", "sizes=single_224", "sizes.sizes=[96]"])
    )
    paths = [
        save_net(folder / "a.ckpt", levels=[3, 1], config=config),
        save_net(folder / "b.ckpt", levels=[2, 1], seed=1, classes=["c", "a", "d", "b"], config=config),
        save_net(folder / "c.ckpt", levels=[1], head="linear", hidden=(), seed=2, mean=[0.5, 0.4, 0.3],
                 std=[0.25, 0.3, 0.2], config=config),
    ]  # fmt: skip
    return list(map(str, paths))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(16):
        colour = (40 + 13 * number, 200 - 9 * number, (90 * number) % 256)
        write_photo(folder / "val" / CLASSES[number % 4] / f"{number:02d}.png", number, colour)
        write_photo(folder / "train" / CLASSES[number % 4] / f"{number:02d}.png", number + 100, colour)
    return folder


def loaded(checkpoints: list[str]) -> list[SPPClassifier]:
    return [sppcls.load_classifier(path) for path in checkpoints]


def by_name(found: sppcls.inference.predict.Prediction) -> np.ndarray:  # type: ignore[name-defined]
    values = dict(zip(found.classes, found.probabilities, strict=True))
    return np.array([values[name] for name in CLASSES])


def test_predicted_probabilities_are_the_mean(checkpoints: list[str], photos: Path) -> None:
    nets = loaded(checkpoints)
    alone = [[by_name(p) for p in sppcls.predict(net, photos / "val", top=4)] for net in nets]
    together = [by_name(p) for p in sppcls.predict(sppcls.ensemble(nets), photos / "val", top=4)]
    assert len(together) == 16
    assert np.ptp(np.array(alone), axis=0).max() > 0.05  # they do not agree anyway
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=2e-6)


@pytest.mark.parametrize("protocol", ["center", "full_flip", "feature_ten_view"])
def test_an_evaluation_averages_the_scores(protocol: str, checkpoints: list[str], photos: Path) -> None:
    nets = loaded(checkpoints)
    result = evaluate_ensemble(sppcls.ensemble(nets), photos, protocol, sizes=[80])[0]
    source = sppcls.data.labelled_images(photos, CLASSES)  # type: ignore[attr-defined]
    view = load_protocols([protocol])[0].at((80, 80))
    scores = []
    for net, one in zip(nets, result.alone, strict=True):
        images = sppcls.data.labelled_images(photos, net.model_info["classes"])  # type: ignore[attr-defined]
        found = evaluate_protocol(net, images, view, keep_scores=True)
        columns = [net.model_info["classes"].index(name) for name in CLASSES]
        assert found.scores is not None
        rows = [found.names.index(source.name(i)) for i in range(len(source))]
        scores.append(found.scores[rows][:, columns])
        assert one.top1_error == found.top1_error
    mean = np.mean(scores, axis=0)
    assert result.together.scores is not None
    names = [source.name(i) for i in range(len(source))]
    rows = [result.together.names.index(name) for name in names]
    np.testing.assert_allclose(result.together.scores[rows], mean, atol=1e-6)
    wrong = mean.argmax(1) != np.array(source.targets)
    assert result.together.top1_error == pytest.approx(100 * wrong.mean())


def test_one_network_as_a_crop_agrees_with_the_evaluation_of_the_members(
    checkpoints: list[str], photos: Path
) -> None:
    net = sppcls.ensemble(loaded(checkpoints))
    whole = sppcls.evaluate(net, photos, "center")[0].predictions
    members = evaluate_ensemble(net, photos, "center")[0].together
    np.testing.assert_allclose(whole.top_score, members.top_score, atol=2e-6)


def test_images_that_one_network_lacks_are_left_out(checkpoints: list[str], photos: Path) -> None:
    result = evaluate_ensemble(sppcls.ensemble(loaded(checkpoints)), photos)[0]
    first, second = result.alone[:2]
    few = type(first)(**{**vars(first), "indices": first.indices[4:], "names": first.names[4:],
                         "labels": first.labels[4:], "top_class": first.top_class[4:],
                         "top_score": first.top_score[4:], "scores": first.scores[4:], "bad": ["one"]})  # fmt: skip
    both = average([few, second])
    assert both.names == second.names[4:]
    assert both.bad == ["one"]
    np.testing.assert_allclose(both.scores, (few.scores + second.scores[4:]) / 2, atol=1e-7)


def test_the_command_prints_each_and_together(
    checkpoints: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.csv"
    words = ["ensemble", *checkpoints, "--data", f"data.root={photos}", "--out", str(out), "--workers", "0"]
    assert main([*words, "--protocol", "center", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == [*checkpoints, "their mean", "together"]
    errors = [float(row["top1_error"]) for row in rows]
    alone = [sppcls.evaluate(net, photos, "center")[0].predictions.top1_error for net in loaded(checkpoints)]
    assert errors[:3] == alone
    assert errors[3] == pytest.approx(sum(alone) / 3, abs=0.005)
    for row, error in zip(rows[:4], errors[:4], strict=True):
        assert float(row["gain"]) == pytest.approx(error - errors[4], abs=0.011)
        assert float(row["gain_low"]) <= float(row["gain"]) <= float(row["gain_high"])
        assert row["network"] in text


def test_predict_and_export_take_more_checkpoints(
    checkpoints: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(photos / "val" / "a" / "00.png")
    words = ["predict", checkpoints[0], photo, "--with", *checkpoints[1:], "--format", "csv"]
    assert main([*words, "--workers", "0", "--device", "cpu"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split(",")
    net = sppcls.ensemble(loaded(checkpoints))
    best = next(sppcls.predict(net, photo, top=1))
    assert row[1] == best.classes[0]
    assert float(row[2]) == pytest.approx(best.probabilities[0], abs=1e-6)


@pytest.mark.run
def test_an_exported_ensemble_is_the_mean(checkpoints: list[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    out, two = tmp_path / "both.onnx", checkpoints[1:]
    assert main(["export", two[0], "--with", two[1], "--out", str(out)]) == 0
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 101, 133)).astype(np.uint8)
    probabilities = onnxruntime.InferenceSession(str(out)).run(["probabilities"], {"images": images})[0]
    alone = []
    for net in loaded(two):
        info = net.model_info
        mean, std = (np.array(info[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
        with torch.inference_mode():
            found = net(torch.from_numpy((images / np.float32(255) - mean) / std)).softmax(1).numpy()
        alone.append(found[:, [info["classes"].index(name) for name in ["c", "a", "d", "b"]]])
    np.testing.assert_allclose(probabilities, np.mean(alone, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"classes": ["a", "b", "c", "e"]},
            r"^network 2: other classes than network 1; only in the former: e; ",
        ),
        ({"config": {"data": {"pixel_range": "image"}}}, r"^network 2: another pixel range than network 1 "),
        ({"size": 80, "levels": None}, r"^network 2: input_size=96x96: .* takes 80x80 only"),
    ],
)
def test_networks_that_do_not_go_together(change: dict[str, object], message: str, tmp_path: Path) -> None:
    first = save_net(tmp_path / "a.ckpt", levels=None)
    second = save_net(tmp_path / "b.ckpt", **{"levels": [1], **change})  # type: ignore[arg-type]
    with pytest.raises(SppclsError, match=message) as caught:
        sppcls.ensemble(loaded([str(first), str(second)]))
    assert "\n" not in str(caught.value)


def test_a_network_of_one_size_sets_the_size_of_all(tmp_path: Path) -> None:
    free = save_net(tmp_path / "a.ckpt", levels=[1])
    fixed = save_net(tmp_path / "b.ckpt", levels=None, size=80)
    net = sppcls.ensemble(loaded([str(free), str(fixed)]))
    assert net.fixed_size == (80, 80)
    photo = write_photo(tmp_path / "x.png", 0)
    assert next(sppcls.predict(net, photo)).error is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: sppcls.ensemble([net]), "two networks or more"),
        (lambda net: sppcls.ensemble(net), "two networks or more"),
        (lambda net: sppcls.ensemble([net, "b.ckpt"]), "^net: a str, "),
        (lambda net: sppcls.ensemble([net, sppcls.ensemble([net, net])]), "^network 2: an ensemble itself"),
    ],
)
def test_what_is_no_list_of_networks(
    call: Callable[[object], Ensemble], message: str, tmp_path: Path
) -> None:
    net = sppcls.load_classifier(save_net(tmp_path / "a.ckpt", levels=[1]))
    with pytest.raises(SppclsError, match=message):
        call(net)


def test_one_checkpoint_alone_is_refused(checkpoints: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ensemble", checkpoints[0]]) == 1
    assert "two checkpoints at least" in capsys.readouterr().err
