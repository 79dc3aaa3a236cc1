"""Scores of protocols against loops that take one view of one image at a time."""

from __future__ import annotations

import math
import os
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gloo import in_two_processes
from PIL import Image
from scipy.stats import binomtest
from torchvision.transforms.v2 import functional as TF

from sppcls.data import FileSource
from sppcls.data.label_sets import LabelSets
from sppcls.errors import ConfigError, DataError
from sppcls.evaluation import Predictions, evaluate_protocol, load_protocol
from sppcls.evaluation.evaluator import _Crops, _Rendered
from sppcls.evaluation.mapping import window_cells
from sppcls.evaluation.predictions import gather
from sppcls.nn import build_classifier

SIZE = (96, 96)
SHAPES = [(120, 150), (150, 120), (110, 110), (120, 150), (97, 240), (60, 80), (120, 150)]
NAMES = [f"{number}.png" for number in range(len(SHAPES))]
CARD = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "classes": ["a", "b", "c"]}


def make_photos(folder: Path) -> FileSource:
    rng = np.random.default_rng(0)
    for name, (height, width) in zip(NAMES, SHAPES, strict=True):
        coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / name)
    return FileSource(folder, NAMES, [0, 1, 2, 0, 1, 2, 0], CARD["classes"])


def make_net(head: str = "fc", levels=(3, 2, 1)):
    torch.manual_seed(0)
    net = build_classifier(
        backbone={"name": "zf5", "width": 0.1, "norm": "batch"},
        pyramid={"levels": levels and list(levels)},
        head={"name": head, "hidden": [16]},
        num_classes=3,
        input_size=SIZE,
    )
    for parameter in net.head.last.parameters():
        parameter.data.normal_(std=0.3)  # scores neither equal nor certain
    return net.eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> FileSource:
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def net():
    return make_net()


def run(net, source, name, **options):
    options = {"keep_scores": True, **options}
    return evaluate_protocol(net, source, load_protocol(name).at(SIZE), model_info=CARD, **options)


def as_input(image: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(CARD[key]).view(3, 1, 1) for key in ("mean", "std"))
    return ((image / 255 - mean) / std)[None]


def resized(image: torch.Tensor, shorter_side: int) -> torch.Tensor:
    height, width = image.shape[1:]
    scale = shorter_side / min(height, width)
    return TF.resize(image, [round(height * scale), round(width * scale)], antialias=True)


CORNERS = [(0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1)]
SIDES = [(0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1)]


def crops(image: torch.Tensor, scale: int, places) -> list[torch.Tensor]:
    """Views as the paper says it: resize, mirror, cut."""
    views = []
    for whole in (resized(image, scale), resized(image, scale).flip(-1)):
        seen = []
        for down, right in places:
            top, left = int(down * (whole.shape[1] - 96)), int(right * (whole.shape[2] - 96))
            if (top, left) not in seen:
                seen.append((top, left))
                views.append(whole[:, top : top + 96, left : left + 96])
    return views


@torch.no_grad()
def mean_softmax(net, views) -> np.ndarray:
    return torch.cat([net(as_input(view)).softmax(1) for view in views]).mean(0).numpy()


def test_ten_crops(net, photos) -> None:
    found = run(net, photos, "ten_view")
    for i in range(len(photos)):
        expected = mean_softmax(net, crops(photos.image(i), 110, CORNERS))
        # Crops are resized alone, half a pixel off at most.
        assert np.abs(found.scores[i] - expected).max() < 0.02
        other = mean_softmax(net, crops(photos.image(i), 110, CORNERS[:1]))
        assert np.abs(expected - other).max() > 0.002 or SHAPES[i] == (110, 110)
    assert found.views == 10


def test_whole_images(net, photos) -> None:
    found = run(net, photos, "full")
    flipped = run(net, photos, "full_flip")
    for i in range(len(photos)):
        image = resized(photos.image(i), 110)
        assert found.scores[i] == pytest.approx(mean_softmax(net, [image]), abs=1e-5)
        assert flipped.scores[i] == pytest.approx(mean_softmax(net, [image, image.flip(-1)]), abs=1e-5)
    assert found.names == [f"{i}.png" for i in range(len(photos))]
    assert found.labels.tolist() == photos.targets


@torch.no_grad()
def windows(net, image, scale, places, rule) -> list[torch.Tensor]:
    """Softmax of windows, each cut from the map by hand and pooled by torch's own poolings."""
    results = []
    for whole in (resized(image, scale), resized(image, scale).flip(-1)):
        feature_map = net.forward_features(as_input(whole))
        seen = []
        for down, right in places:
            top, left = int(down * (whole.shape[1] - 96)), int(right * (whole.shape[2] - 96))
            if (top, left) in seen:
                continue
            seen.append((top, left))
            (y0, y1), (x0, x1) = (
                window_cells(start, 96, cells, 16, 16.0, rule)
                for start, cells in zip((top, left), feature_map.shape[2:], strict=True)
            )
            cells = feature_map[:, :, y0:y1, x0:x1]
            vector = torch.cat([F.adaptive_max_pool2d(cells, n).flatten(1) for n in (3, 2, 1)], 1)
            results.append(net.forward_head(vector).softmax(1))
    return results


@pytest.mark.parametrize("rule", ["appendix", "report", "released"])
def test_windows_on_the_feature_map(net, photos, rule) -> None:
    protocol = load_protocol("feature_ten_view", rule).at(SIZE)
    found = evaluate_protocol(net, photos, protocol, model_info=CARD, keep_scores=True)
    for i in range(len(photos)):
        expected = torch.cat(windows(net, photos.image(i), 110, CORNERS, rule)).mean(0)
        assert found.scores[i] == pytest.approx(expected.numpy(), abs=1e-5)


@torch.no_grad()
def test_a_region_higher_than_the_image_sees_all_of_its_height(net, photos) -> None:
    protocol = load_protocol("feature_ten_view").at((120, 96))
    found = evaluate_protocol(net, photos, protocol, model_info=CARD, keep_scores=True)
    whole = resized(photos.image(0), 110)
    assert whole.shape == (3, 110, 138)
    expected = []
    for view in (whole, whole.flip(-1)):
        feature_map = net.forward_features(as_input(view))
        y0, y1 = window_cells(0, 110, feature_map.shape[2], 16, 16.0, "appendix")
        for left in (21, 0, 42):  # top and bottom are the same
            x0, x1 = window_cells(left, 96, feature_map.shape[3], 16, 16.0, "appendix")
            cells = feature_map[:, :, y0:y1, x0:x1]
            vector = torch.cat([F.adaptive_max_pool2d(cells, n).flatten(1) for n in (3, 2, 1)], 1)
            expected.append(net.forward_head(vector).softmax(1))
    assert found.scores[0] == pytest.approx(torch.cat(expected).mean(0).numpy(), abs=1e-5)


def test_96_windows_and_two_whole_images(net, photos) -> None:
    found = run(net, photos, "multi_scale_96_full2")
    for i in (0, 4):
        image = photos.image(i)
        scores = [
            s
            for scale in (96, 110, 129, 154, 192, 240)
            for s in windows(net, image, scale, CORNERS + SIDES, "appendix")
        ]
        assert len(scores) == 96
        whole = resized(image, 110)
        scores += [net(as_input(v)).softmax(1).detach() for v in (whole, whole.flip(-1))]
        assert found.scores[i] == pytest.approx(torch.cat(scores).mean(0).numpy(), abs=1e-5)


def test_logits_can_be_averaged(net, photos, tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("average: logits\ninclude: [full_flip]\nviews: []\n")
    found = run(net, photos, str(path))
    image = resized(photos.image(1), 110)
    expected = torch.cat([net(as_input(image)), net(as_input(image.flip(-1)))]).mean(0)
    assert found.scores[1] == pytest.approx(expected.detach().numpy(), abs=1e-4)


@pytest.mark.parametrize("average", ["softmax", "logits"])
def test_answers_to_several_labels_are_probabilities_whatever_is_averaged(
    net, photos, tmp_path, average
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"average: {average}\ninclude: [full_flip]\nviews: []\n")
    source = FileSource(photos.root, [photos.name(1)], LabelSets([(0, 2)]), photos.classes)
    protocol = load_protocol(str(path)).at(SIZE)
    found = evaluate_protocol(net, source, protocol, model_info={**CARD, "multi_label": True})
    image = resized(photos.image(1), 110)
    with torch.no_grad():
        views = torch.cat([net(as_input(image)), net(as_input(image.flip(-1)))])
    expected = views.mean(0).sigmoid() if average == "logits" else views.sigmoid().mean(0)
    assert found.labels.tolist() == [[True, False, True]]
    assert found.scores[0] == pytest.approx(expected.logit().numpy(), abs=1e-4)  # log-odds
    assert found.top_score[0] == pytest.approx(expected.sort(descending=True)[0].numpy(), abs=1e-5)


def test_an_image_counts_with_the_bytes_of_all_that_is_cut_of_it() -> None:
    crops = [_Crops(torch.zeros(2, 3, 4, 5, dtype=torch.uint8), []) for _ in range(2)]
    assert _Rendered(crops, {7: torch.zeros(3, 7, 9, dtype=torch.uint8)}).bytes == 2 * 120 + 189


def test_a_fully_convolutional_network(photos) -> None:
    net = make_net(head="conv", levels=None)
    found = run(net, photos, "full")
    assert found.scores[0] == pytest.approx(mean_softmax(net, [resized(photos.image(0), 110)]), abs=1e-5)
    found = run(net, photos, "feature_ten_view")
    views = []
    for whole in (resized(photos.image(1), 110), resized(photos.image(1), 110).flip(-1)):
        logits = net.head.last(net.head.hidden(net.forward_features(as_input(whole))))  # at every cell
        for down, right in CORNERS:
            top, left = int(down * (whole.shape[1] - 96)), int(right * (whole.shape[2] - 96))
            (y0, y1), (x0, x1) = (
                window_cells(start, 96, cells, 16, 16.0, "appendix")
                for start, cells in zip((top, left), logits.shape[2:], strict=True)
            )
            views.append(logits[:, :, y0:y1, x0:x1].mean((2, 3)).softmax(1))
    expected = torch.cat(views).mean(0).detach()
    assert found.scores[1] == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("name", ["full_flip", "ten_view", "feature_ten_view"])
def test_batches_order_and_workers_do_not_matter(net, photos, name) -> None:
    reference = run(net, photos, name, batch_size=1)
    order = [4, 0, 6, 2, 5, 1, 3]
    shuffled = FileSource(
        photos.root, [photos.name(i) for i in order], [photos.targets[i] for i in order], photos.classes
    )
    assert run(net, photos, name, batch_size=5).scores == pytest.approx(reference.scores, abs=1e-6)
    assert run(net, photos, name, workers=2).scores == pytest.approx(reference.scores, abs=1e-6)
    assert run(net, shuffled, name, batch_size=3).scores == pytest.approx(reference.scores[order], abs=1e-6)


def in_a_process(rank: int, folder: Path) -> None:
    source = make_photos(folder / f"photos{rank}")
    damaged = FileSource(folder / "damaged", NAMES, source.targets, source.classes)
    few = FileSource(source.root, [source.name(0)], source.targets[:1], source.classes)
    found = run(make_net(), source, "full_flip")
    alone = run(make_net(), few, "full_flip")  # leaves processes without an image
    bad = run(make_net(), damaged, "center").bad
    np.savez(
        folder / f"rank{rank}.npz",
        scores=found.scores,
        labels=found.labels,
        names=found.names,
        seconds=found.seconds,
        bad=bad,
        top=found.top_class,
        few=alone.scores,
        top_score=found.top_score,
        longest=gather(replace(found, seconds=1.0 + rank)).seconds,
    )


@pytest.mark.run
def test_two_processes_find_what_one_finds(net, photos, loaded, tmp_path, unused_port) -> None:
    for rank in range(2):
        (tmp_path / f"photos{rank}").mkdir()
    (tmp_path / "damaged").mkdir()
    make_photos(tmp_path / "damaged")
    for number in (1, 2):  # tested by the second and by the first process
        (tmp_path / "damaged" / f"{number}.png").write_bytes(b"no image")
    in_two_processes(loaded, unused_port, in_a_process, tmp_path)
    alone = run(net, photos, "full_flip")
    ranks = [np.load(tmp_path / f"rank{rank}.npz") for rank in range(2)]
    assert ranks[0]["seconds"] == ranks[1]["seconds"] > 0
    for found in ranks:
        assert found["labels"].tolist() == photos.targets
        assert found["names"].tolist() == alone.names
        assert [Path(line.partition(":")[0]).name for line in found["bad"].tolist()] == ["1.png", "2.png"]
        assert found["scores"] == pytest.approx(alone.scores, abs=1e-6)
        assert (found["top"] == alone.top_class).all()
        assert found["few"] == pytest.approx(alone.scores[:1], abs=1e-6)
        assert found["top_score"] == pytest.approx(alone.top_score, abs=1e-6)
        assert found["longest"] == 2


def test_a_mirrored_view_lies_at_its_place_in_the_mirrored_image(net, photos, tmp_path) -> None:
    for kind in ("crop", "window"):
        path = tmp_path / f"{kind}.yaml"
        path.write_text(f"views: [{{kind: {kind}, scales: [256], positions: [top_left], flip: yes}}]\n")
    crops_found, windows_found = (
        run(net, photos, str(tmp_path / f"{kind}.yaml")) for kind in ("crop", "window")
    )
    for i in (0, 1, 4):
        mirrored = resized(photos.image(i), 110).flip(-1)
        expected = mean_softmax(net, [mirrored[:, :96, :96]])
        other = mean_softmax(net, [mirrored[:, :96, -96:]])
        assert np.abs(crops_found.scores[i] - expected).max() < 0.3 * np.abs(other - expected).max()
        seen = windows(net, photos.image(i), 110, [(0, 0)], "appendix")[1]  # the mirrored one
        assert windows_found.scores[i] == pytest.approx(seen[0].numpy(), abs=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_that_is_far_away_is_asked_for_several_images_at_once(
    net, photos, tmp_path: Path, workers: int
) -> None:
    class Far(FileSource):
        def fetch(self, indices) -> None:
            with open(tmp_path / "asked", "a") as file:
                file.write(" ".join(map(str, indices)) + "\n")

    names = [photos.name(i) for i in range(len(photos))] * 4
    far = Far(photos.root, names, list(photos.targets) * 4, photos.classes)
    near = FileSource(photos.root, names, list(photos.targets) * 4, photos.classes)
    found = run(net, far, "full_flip", workers=workers)
    asked = [list(map(int, line.split())) for line in (tmp_path / "asked").read_text().splitlines()]
    assert sorted(number for group in asked for number in group) == list(range(len(names)))
    assert max(map(len, asked)) == 8
    assert len(asked) == -(-len(names) // 8)
    assert np.array_equal(found.scores, run(net, near, "full_flip").scores)


def test_readers_hold_no_file_descriptors(net, photos) -> None:
    many = FileSource(photos.root, [photos.name(0)] * 150, [0] * 150, photos.classes)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 60, limits[1]))
    try:
        assert len(run(net, many, "center", workers=2)) == 150
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_network_in_training_mode_is_tested_as_one_in_use(net, photos) -> None:
    training = make_net().train()
    before = {name: value.clone() for name, value in training.state_dict().items()}
    assert run(training, photos, "full").scores == pytest.approx(run(net, photos, "full").scores, abs=1e-6)
    assert training.training
    assert all(torch.equal(value, before[name]) for name, value in training.state_dict().items())


def test_a_diverged_network_has_no_error(photos) -> None:
    net = make_net()
    net.head.last.weight.data.fill_(float("nan"))
    with pytest.raises(DataError, match="protocol center: the network's outputs are no finite numbers"):
        run(net, photos, "center")


def test_bad_images_are_named_and_the_rest_is_counted(net, photos, tmp_path) -> None:
    source = make_photos(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:200])
    (tmp_path / "3.png").write_bytes(b"")
    Image.new("RGB", (60_000, 1)).save(tmp_path / "5.png")
    found = run(net, source, "full")
    assert found.indices.tolist() == [0, 2, 4, 6]
    assert found.labels.tolist() == [0, 2, 1, 0]
    assert found.scores == pytest.approx(run(net, photos, "full").scores[[0, 2, 4, 6]], abs=1e-6)
    assert [line.split(":")[0].rsplit("/")[-1] for line in found.bad] == ["1.png", "3.png", "5.png"]
    assert "1x60000 is too elongated" in found.bad[2]
    for name in ("0.png", "2.png", "4.png", "5.png", "6.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DataError, match="no image could be tested; the first: .*0.png"):
        run(net, source, "center")


def test_views_that_the_network_cannot_take_are_refused(photos) -> None:
    with pytest.raises(ConfigError, match="need a network of any image size"):
        run(make_net(levels=None), photos, "full")


def predictions(scores, labels) -> Predictions:
    scores, labels = np.array(scores, np.float32), np.array(labels)
    names = [f"image {i}.jpg" for i in range(len(labels))]
    classes = [f"class {i}" for i in range(scores.shape[1])]
    top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    best = np.take_along_axis(scores, top, 1)
    setting = {"size": "224", "average": "softmax"}
    return Predictions(
        "center", setting, classes, np.arange(len(labels)), names, labels, top, best, None, 1, 2.0
    )


def test_several_labels_are_ranked_by_log_odds_that_do_not_tie(photos) -> None:
    """Next to 1 probabilities are equal; those of one view are its logits, of several the odds of their mean."""
    sure = make_net()
    for parameter in sure.head.last.parameters():
        parameter.data.mul_(40)
    card = {**CARD, "multi_label": True}

    def test(name: str) -> Predictions:
        return evaluate_protocol(sure, photos, load_protocol(name).at(SIZE), model_info=card)

    (shorter,) = load_protocol("full").at(SIZE).groups[0].scales
    images = [resized(photos.image(index), shorter) for index in range(len(photos))]
    with torch.no_grad():
        plain, mirrored = (
            torch.cat([sure(as_input(image.flip(-1) if flip else image)) for image in images]).double()
            for flip in (False, True)
        )
    found = test("full")
    assert plain.abs().max() > 20, "so that they would tie"
    assert found.scores == pytest.approx(plain.numpy(), rel=1e-4, abs=1e-3)
    assert found.top_score == pytest.approx(np.sort(plain.sigmoid().numpy())[:, ::-1], abs=1e-4)
    odds = (plain.sigmoid() + mirrored.sigmoid()) / ((-plain).sigmoid() + (-mirrored).sigmoid())
    assert test("full_flip").scores == pytest.approx(odds.log().numpy(), rel=1e-4, abs=1e-3)


def test_errors_by_hand() -> None:
    scores = [[0.1, 0.2, 0.3, 0.05, 0.04, 0.06, 0.25]] * 4
    found = predictions(scores, [2, 6, 4, 3])  # first, second, seventh and sixth
    assert found.top1_error == 75
    assert found.top5_error == 50
    assert found.hits(2).tolist() == [True, True, False, False]
    assert found.images_per_second == 2
    assert predictions([[0.5, 0.5]], [0]).top5_error == 0


def test_nothing_has_no_error() -> None:
    nothing = replace(predictions(np.empty((0, 2)), []), seconds=0.0)
    figures = (nothing.top1_error, nothing.top5_error, *nothing.top1_interval, nothing.images_per_second)
    assert all(map(math.isnan, figures))


def test_all_figures_by_hand_and_calibration_of_probabilities_alone() -> None:
    # Of class 0 both are right, of class 1 one of two: F1 4/5 and 2/3.
    found = predictions([[0.9, 0.1], [0.7, 0.3], [0.8, 0.2], [0.4, 0.6]], [0, 0, 1, 1])
    expected = {"top1_error": 25, "top5_error": 0, "class_mean_error": 25, "f1": 100 * (4 / 5 + 2 / 3) / 2}
    figures = found.figures
    # Each is alone in its bin: gaps of 0.1, 0.3, 0.8 and 0.4.
    assert figures.pop("ece") == pytest.approx(40, abs=1e-4)
    assert figures == pytest.approx(expected)
    assert replace(found, setting={"average": "logits"}).figures == pytest.approx(expected)


def test_scores_of_all_classes_are_kept_only_where_they_are_asked_for(net, photos) -> None:
    kept, not_kept = (run(net, photos, "center", keep_scores=keep) for keep in (True, False))
    assert not_kept.scores is None
    assert kept.scores.shape == (7, 3)
    np.testing.assert_array_equal(kept.top_score, -np.sort(-kept.scores, axis=1))
    np.testing.assert_array_equal(kept.top_class, np.argsort(-kept.scores, axis=1))
    np.testing.assert_array_equal(not_kept.top_class, kept.top_class)


@pytest.mark.parametrize(("wrong", "total"), [(0, 10), (3, 10), (90, 400), (400, 400)])
def test_the_interval_is_wilsons(wrong, total) -> None:
    found = predictions([[1.0, 0.0]] * total, [1] * wrong + [0] * (total - wrong))
    exact = binomtest(wrong, total).proportion_ci(method="wilson")
    assert found.top1_interval == pytest.approx((100 * exact.low, 100 * exact.high), abs=1e-3)


def test_the_file_holds_every_answer(tmp_path) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((30, 12)).astype(np.float32)
    found = predictions(scores, rng.integers(0, 12, 30))
    found.names[3] = "\udce4.jpg"  # a byte that is no character
    found.save(tmp_path / "center.npz")
    kept = np.load(tmp_path / "center.npz", allow_pickle=False)
    order = np.argsort(-scores, axis=1)[:, :10]
    assert (kept["top_class"] == order).all()
    assert (kept["top_score"] == np.take_along_axis(scores, order, 1)).all()
    assert (kept["label"] == found.labels).all()
    assert kept["path"][5] == "image 5.jpg"
    assert kept["path"][3] == "\\xe4.jpg"
    assert (str(kept["protocol"]), str(kept["size"]), str(kept["average"])) == ("center", "224", "softmax")
    assert kept["classes"][11] == "class 11"
    assert list(tmp_path.iterdir()) == [tmp_path / "center.npz"]
